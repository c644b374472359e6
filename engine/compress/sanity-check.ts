/**
 * The last question before a calibrated result is published: does the folder run as a model? It is loaded as the runtime would load it, and a
 * few tokens are generated greedily after a piece of calibration text; any logit that is not finite ends the run (specs: a result may load
 * and still be garbage). Says nothing of quality: that is what evaluation is for.
 */
import { openCheckpoint } from '../checkpoint/open.ts'
import { LatheError } from '../contract/errors.ts'
import type { Backend, StepInput } from '../gpu/program.ts'
import { loadModel } from '../model/load.ts'
import { DEFAULT_BLOCK_SIZE } from '../model/memory.ts'

/** Longer prompts find nothing that these do not. */
const PROMPT_TOKENS = 32
const GENERATED_TOKENS = 8
const NO_TARGET = 0xffffffff
/** A result that cannot be tried here may still be right: it is larger than this device, or its scheme has no kernel here. */
const NOT_HERE: readonly string[] = [
  'gpu.out-of-memory',
  'gpu.unsupported',
  'checkpoint.unsupported-scheme',
  'model.unsupported-architecture',
]

export interface SanityOptions {
  readonly folder: string
  readonly backend: Backend
  readonly prompt: Uint32Array
  readonly signal: AbortSignal | undefined
}

/** Why it could not be tried, or null when it ran. Throws `compress.verification-failed` where a logit is not finite. */
export async function checkThatItRuns({ folder, backend, prompt, signal }: SanityOptions): Promise<string | null> {
  const ids = [...prompt.subarray(0, PROMPT_TOKENS)]
  await using checkpoint = await openCheckpoint(folder)
  try {
    using model = await loadModel({
      checkpoint,
      backend,
      contextTokens: PROMPT_TOKENS + GENERATED_TOKENS,
      kvDtype: 'f32',
      capacity: { tokens: PROMPT_TOKENS, rows: 1, sequences: 1 },
      owner: 'sanity check',
      signal,
    })
    let past = 0
    for (let token = 0; token < GENERATED_TOKENS; token++) {
      signal?.throwIfAborted()
      const output = await model.executable.step(stepOf(ids.slice(past), past, model.capacity.blocksPerSequence))
      if (output.nonFinite) {
        throw new LatheError(
          'compress.verification-failed',
          `The result loads, but its logits are not finite ${ids.length} tokens into a text.`,
          'Nothing was published. Try a larger damping or a scheme with more bits; if it happens again, report it.',
        )
      }
      past = ids.length
      ids.push(output.argmax[0] ?? 0)
    }
    return null
  } catch (error) {
    if (error instanceof LatheError && NOT_HERE.includes(error.code)) return error.message
    throw error
  }
}

function stepOf(ids: readonly number[], past: number, blocksPerSequence: number): StepInput {
  const length = past + ids.length
  const positions = Uint32Array.from(ids, (_, i) => past + i)
  const blockTable = new Uint32Array(blocksPerSequence)
  for (let block = 0; block * DEFAULT_BLOCK_SIZE < length; block++) blockTable[block] = block + 1
  return {
    tokenIds: Uint32Array.from(ids),
    positions,
    slots: positions.map((position) => DEFAULT_BLOCK_SIZE + position),
    sequenceOfToken: new Uint32Array(ids.length),
    queryStart: Uint32Array.of(0, ids.length),
    sequenceLength: Uint32Array.of(length),
    blockTable,
    logitRows: Uint32Array.of(ids.length - 1),
    samplers: [null],
    targets: Uint32Array.of(NO_TARGET),
    topCount: 0,
  }
}
