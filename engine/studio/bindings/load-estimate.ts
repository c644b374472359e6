/**
 * What a load will take of the device, before it is tried: the parts that the fit estimate counts, for the very load that was asked for, so that
 * the FitBar and a refusal name one figure. What a FitBar keeps free besides for the desktop is not the load's.
 */
import { DEFAULT_SEQUENCES, latheStepMemory, type LatheLoad } from '../../capacity/budget.ts'
import { latheKvBytes } from '../../capacity/kv-room.ts'
import { modelShapeOf } from '../../capacity/model-shape.ts'
import { withOverhead, type MeasuredOverhead } from '../../capacity/overhead.ts'
import { LatheError } from '../../contract/index.ts'
import { kvDtypesOf, kvRowBytes, type KvSetting } from '../../gpu/kv-format.ts'
import type { FolderFacts } from '../ports.ts'

/** Decides only how much a scale weighs beside its codes. */
const USUAL_HEAD_DIM = 128

export interface EstimatedLoad {
  readonly contextTokens: number
  /** Tokens of cache beyond one context; undefined = one context. */
  readonly kvTokens: number | undefined
  /** undefined = as many as a model is usually opened for. */
  readonly sequences: number | undefined
  readonly kvDtype: KvSetting
  readonly software: boolean
  /** Of this device; null = nothing measured. */
  readonly overhead: MeasuredOverhead | null
}

/** null for what is no model that can be run. */
export function loadEstimateBytes(
  facts: FolderFacts,
  { contextTokens, kvTokens, sequences = DEFAULT_SEQUENCES.lathe, kvDtype, software, overhead }: EstimatedLoad,
): number | null {
  if (facts.kvBytesPerToken === null) return null
  const context = Math.min(contextTokens, facts.architecture.contextLength ?? contextTokens)
  const { key, value } = kvDtypesOf(kvDtype)
  // The facts are of f16, two bytes an element.
  const headDim = facts.architecture.headDim ?? USUAL_HEAD_DIM
  const share = (kvRowBytes(key, headDim) + kvRowBytes(value, headDim)) / (4 * headDim)
  const kvBytes = latheKvBytes(facts.kvBytesPerToken * share, Math.max(kvTokens ?? 0, context), 1, sequences)
  const load = { contextTokens: context, sequences, keyDtype: key, software, inputs: facts.inputElements }
  const { activationBytes, overheadBytes } = withOverhead(activationsOf(facts, load), overhead)
  return Math.round(facts.weightBytes + kvBytes + activationBytes + overheadBytes)
}

/** Logits included. */
export function activationsOf({ config }: Pick<FolderFacts, 'config'>, load: LatheLoad): number {
  try {
    const { activationBytes, logitBytes } = latheStepMemory(modelShapeOf(config), load)
    return activationBytes + logitBytes
  } catch (error) {
    // a model that can't be run has no activations to count
    if (error instanceof LatheError) return 0
    throw error
  }
}
