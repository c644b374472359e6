/**
 * What a model loses when only one unit of its linears is compressed: the KL divergence of its output from the original's on a text, measured
 * on the device. The measure that automatic mixed precision chooses by (engine/compress/mixed-precision), which itself knows no runtime.
 */
import type { Checkpoint } from '../checkpoint/types.ts'
import { roundedCheckpoint } from '../compress/mixed-precision/rounded-checkpoint.ts'
import type { UnitLoss } from '../compress/mixed-precision/scheme-map.ts'
import type { Observer } from '../compress/recipe.ts'
import { measureDrift } from '../evaluate/perplexity.ts'
import type { TextSample } from '../evaluate/perplexity.ts'
import type { Backend } from '../gpu/program.ts'
import { openRuntime } from '../runtime/open-runtime.ts'
import { scorePair } from '../runtime/pair.ts'
import type { Runtime } from '../runtime/types.ts'
import type { DivergenceBench } from './outcomes/held-out-bench.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'

export interface DivergenceOptions {
  readonly checkpoint: Checkpoint
  readonly backend: Backend
  /** The original, open on the same backend; stays the caller's. */
  readonly baseline: Runtime
  readonly tokenizer: Tokenizer
  readonly text: TextSample
  readonly window: number
  /** Windows scored per measurement: a few thousand tokens tell layers apart. */
  readonly maxWindows: number
  /** How scales are found; one that needs no inputs. */
  readonly observer: Observer
  readonly signal?: AbortSignal
}

/** Mean KL divergence in nats per token. Costs one load and one pass over the text for every option of every unit. */
export function divergenceLoss(options: DivergenceOptions): UnitLoss {
  const { checkpoint, backend, baseline, tokenizer, text, window, maxWindows, observer, signal } = options
  return async (unit, index) => {
    const option = unit.options[index]
    if (option === undefined) throw new RangeError(`${unit.id} has no option ${index}`)
    const changed = roundedCheckpoint(checkpoint, [{ modules: unit.modules, scheme: option.scheme }], observer)
    await using candidate = await openRuntime({
      source: changed,
      backend,
      modelId: `${baseline.info.modelId} with ${unit.id}`,
      contextTokens: baseline.info.contextLimit,
      kvDtype: baseline.info.kvDtype,
      maxSequences: 1,
      tokenizer,
      ...(signal === undefined ? {} : { signal }),
    })
    const { drift } = await measureDrift({ baseline, candidate, scorePair, baselineId: baseline.info.modelId }, tokenizer, text, {
      protocol: 'rolling',
      window,
      maxWindows,
      ...(signal === undefined ? {} : { signal }),
    })
    return drift.kldMean ?? Number.POSITIVE_INFINITY
  }
}

/** The same on samples of token ids, with the original already loaded. */
export function benchLoss(bench: DivergenceBench, checkpoint: Checkpoint, observer: Observer): UnitLoss {
  return async ({ id, modules, options }, index) => {
    const option = options[index]
    if (option === undefined) throw new RangeError(`${id} has no option ${index}`)
    const { kldMean } = await bench.measure(roundedCheckpoint(checkpoint, [{ modules, scheme: option.scheme }], observer))
    return kldMean
  }
}
