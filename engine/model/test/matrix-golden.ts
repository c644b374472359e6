/**
 * How far a model's values on matrix units are from golden ones computed elsewhere, for the suite and for the script that runs where there are such
 * units (engine/runtime/bench/matrix-units.ts).
 */
import { openCheckpoint } from '../../checkpoint/open.ts'
import type { Backend } from '../../gpu/program.ts'
import { loadModel } from '../load.ts'
import { goldenPrompts, modelFolder } from './golden-data.ts'
import { scorePrompt } from './steps.ts'

/**
 * Largest allowed difference from golden log-probabilities and logits: that of an f16 cache (backends.ts), which rounds keys and values to eleven
 * bits as this rounds weights and inputs. On an H200 the sharpest, a random model in W4A16, moves by 2.7e-2 and the demo model by 2.0e-3.
 */
export const MATRIX_TOLERANCE = 3e-2

/** Shorter prompts run on the default kernels. */
export const MATRIX_MODELS = ['w8a16-channel', 'w4a16-asym-g32', 'gptq-w4-g32-desc', 'gptq-v2-w8', 'awq-w4-g32', 'demo'] as const

export interface MatrixGolden {
  /** Worst |difference| over log-probabilities of prompts, and first logits after them. */
  readonly worst: number
  /** The same without matrix units, from this run. */
  readonly worstDefault: number
  /** Prompts long enough for matrix units, of how many. */
  readonly taken: number
  readonly prompts: number
  /** Prompts after which the most probable token is another one although the golden gap is beyond the tolerance. */
  readonly otherTop: number
}

export async function matrixGolden(backend: Backend, name: string, leastTokens: number): Promise<MatrixGolden> {
  await using checkpoint = await openCheckpoint(modelFolder(name))
  const prompts = goldenPrompts(name)
  let otherTop = 0
  const worst = [0, 0]
  for (const [index, matrixUnits] of [false, true].entries()) {
    const capacity = { tokens: 512, rows: 512, sequences: 1 }
    using model = await loadModel({ checkpoint, backend, contextTokens: 512, kvDtype: 'f32', capacity, owner: name, matrixUnits })
    for (const prompt of prompts) {
      const scored = await scorePrompt(model, prompt.tokens)
      const logprobs = prompt.logprobs ?? []
      const errors = [
        ...logprobs.map((value, i) => Math.abs(value - (scored.logprobs[i] ?? NaN))),
        ...prompt.firstLogits.map((value, i) => Math.abs(value - (scored.lastLogits[i] ?? NaN))),
      ]
      for (const error of errors) if (!(error <= (worst[index] ?? 0))) worst[index] = Number.isNaN(error) ? Infinity : error
      const [first, second] = prompt.top
      const at = scored.last.topIds.length - prompt.top.length
      const apart = first !== undefined && second !== undefined && first[1] - second[1] > 2 * MATRIX_TOLERANCE
      if (matrixUnits && apart && scored.last.topIds[at] !== first[0]) otherTop++
    }
  }
  const taken = prompts.filter(({ tokens }) => tokens.length >= leastTokens).length
  return { worst: worst[1] ?? NaN, worstDefault: worst[0] ?? NaN, taken, prompts: prompts.length, otherTop }
}
