/**
 * The original and results side by side on text that calibration has not seen. A bench is closed before anything is compressed, so that the
 * device's memory is free for it; the device itself is shared with the compressions, whose kernels it has then compiled once.
 */
import { openCheckpoint } from '../../checkpoint/open.ts'
import { hashOfSamples, readSamples } from '../../compress/calibration/samples.ts'
import type { CalibrationOptions } from '../../compress/types.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'
import { LatheError } from '../../contract/index.ts'
import type { Outcome } from '../../contract/index.ts'
import type { Backend } from '../../gpu/program.ts'
import { describeModel } from '../../model/spec.ts'
import { openRuntime } from '../../runtime/open-runtime.ts'
import { scorePair } from '../../runtime/pair.ts'
import type { Runtime } from '../../runtime/types.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import type { Tokenizer } from '../../tokenizer/tokenizer.ts'
import { firstSamples, measureSamples, scoredTokens } from './sample-divergence.ts'
import type { DivergenceProgress, SampleDivergence } from './sample-divergence.ts'

/** Documents kept out of calibration, where the file has enough. */
export const HELD_OUT_DOCUMENTS = 64
/** Tells two algorithms apart that differ by a tenth of their divergence; more takes longer than it tells. */
const HELD_OUT_TOKENS = 8192
/** Of calibration text, for measurements that choose: they are many, and only their order matters. */
const CHOOSING_TOKENS = 1024

export interface TextSplit {
  /** For choosing: of the calibration text. */
  readonly choosing: readonly Uint32Array[]
  /** For judging. */
  readonly heldOut: readonly Uint32Array[]
  readonly facts: Outcome['heldOut']
  /** Of the token ids of both sides. */
  readonly sha256: string
  readonly tokenizer: Tokenizer
}

/** Throws `compress.invalid-calibration`, `tokenizer.*`, `model.unsupported-architecture`. */
export async function splitText(
  sourceFolder: string,
  calibration: CalibrationOptions,
  signal: AbortSignal | undefined,
): Promise<TextSplit> {
  await using source = await openCheckpoint(sourceFolder)
  const spec = describeModel(source.config, source.generationConfig)
  const tokenizer = await loadTokenizer(sourceFolder)
  const samples = await readSamples(calibration, tokenizer, spec.contextLimit, () => signal?.throwIfAborted())
  const heldOut = firstSamples(samples.heldOut, HELD_OUT_TOKENS)
  if (scoredTokens(heldOut) === 0) {
    throw new LatheError(
      'compress.invalid-calibration',
      `${samples.source} leaves no text to measure on: what calibration does not use is too short, or the same.`,
      'Choose a file with more documents.',
    )
  }
  const sha256 = hashOfSamples(heldOut)
  return {
    choosing: firstSamples(samples.samples, CHOOSING_TOKENS),
    heldOut,
    facts: { source: samples.source, samples: heldOut.length, tokens: scoredTokens(heldOut), sha256 },
    sha256: `${samples.sha256} ${sha256}`,
    tokenizer,
  }
}

/** The original, loaded and ready to be compared with. */
export interface DivergenceBench extends AsyncDisposable {
  /** A folder, or a checkpoint that stays the caller's. */
  measure(candidate: string | Checkpoint, progress?: DivergenceProgress): Promise<SampleDivergence>
}

export type OpenBench = typeof openBench

export async function openBench(
  sourceFolder: string,
  samples: readonly Uint32Array[],
  backend: Backend,
  signal: AbortSignal | undefined,
): Promise<DivergenceBench> {
  const contextTokens = Math.max(...samples.map((tokens) => tokens.length))
  const open = (source: string | Checkpoint, modelId: string): Promise<Runtime> =>
    openRuntime({
      source,
      backend,
      modelId,
      contextTokens,
      kvDtype: 'f32',
      maxSequences: 1,
      // Every sample is scored once.
      prefixCache: false,
      ...(signal === undefined ? {} : { signal }),
    })
  const baseline = await open(sourceFolder, 'original')
  return {
    async measure(candidate, progress = {}) {
      await using compressed = await open(candidate, 'candidate')
      return await measureSamples({ baseline, candidate: compressed, scorePair }, samples, { signal, ...progress })
    },
    [Symbol.asyncDispose]: () => baseline[Symbol.asyncDispose](),
  }
}
