/**
 * Bytes that a decoder takes on a device beside its weights and its cache, told before there is a device: by the very rules that compiling it
 * allocates by (arena.ts, kernels).
 */
import type { Capacity, KvDtype, Value } from '../program.ts'
import { type ArenaStep, layoutSteps } from './arena.ts'
import { attentionScratchBytes } from './kernels/attention.ts'
import { logitsBufferBytes, readbackBytes } from './kernels/logits.ts'
import { strideOf } from './plan.ts'
import { RING_LENGTH } from './readback.ts'
import { stepLayout } from './step-input.ts'
import { tuningFor } from './tuning.ts'

export interface StepForm {
  readonly steps: readonly ArenaStep[]
  readonly logits: Value
  readonly heads: number
  readonly headDim: number
  readonly keyDtype: KvDtype
  readonly capacity: Capacity
  readonly software: boolean
  /** Widest input of a product that is rounded first; 0 = none is. */
  readonly preparedWidth: number
}

export interface StepMemory {
  /** Values of the forward pass but for the logits, what attention splits over, what a step is told. */
  readonly activationBytes: number
  /** The logits and what sampling reads of them and hands back. */
  readonly logitBytes: number
}

/** The largest that WebGPU lets an adapter ask for; the others waste less between a step's inputs. */
const OFFSET_ALIGNMENT_BYTES = 256

export function stepMemory({ steps, logits, heads, headDim, keyDtype, capacity, software, preparedWidth }: StepForm): StepMemory {
  const tuning = tuningFor({ software })
  const { slotOf, slotBytes } = layoutSteps(steps, logits, capacity, false)
  const arena = sum(slotBytes)
  const logitSlot = slotBytes[slotOf.get(logits.id) ?? -1] ?? 0
  const kvLayout = { layers: 1, kvHeads: 1, headDim, blockSize: 1, blocks: 1, dtype: keyDtype }
  const scratch = attentionScratchBytes({ tuning, kvLayout }, heads)
  const prepared = preparedWidth === 0 ? 0 : capacity.tokens * (strideOf(preparedWidth) + 1) * Float32Array.BYTES_PER_ELEMENT
  const input = stepLayout(capacity, OFFSET_ALIGNMENT_BYTES).words * 4
  const sampling = sum(Object.values(logitsBufferBytes({ tuning }, logits.width, capacity.rows)))
  return {
    activationBytes: arena - logitSlot + scratch + prepared + input,
    logitBytes: logitSlot + sampling + RING_LENGTH * readbackBytes(capacity.rows),
  }
}

function sum(bytes: readonly number[]): number {
  return bytes.reduce((total, one) => total + one, 0)
}
