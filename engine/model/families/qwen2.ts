/** Qwen2 and Qwen2.5: biases on q, k and v only; a window on the upper layers, which the released checkpoints switch off. */
import type { Family } from './family.ts'

export const qwen2: Family = { modelType: 'qwen2', label: 'Qwen2', className: 'Qwen2ForCausalLM', headNorm: false, projections: 'separate' }
