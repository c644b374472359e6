/** Qwen3 (dense): a norm on each head of q and k, and a head size of its own, independent of hidden size / heads. */
import type { Family } from './family.ts'

export const qwen3: Family = { modelType: 'qwen3', label: 'Qwen3', className: 'Qwen3ForCausalLM', headNorm: true, projections: 'separate' }
