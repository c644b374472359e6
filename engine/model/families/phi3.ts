/** Phi-3, Phi-3.5 and Phi-4 (dense, "default" RoPE): Llama's arithmetic with q|k|v and gate|up stored as one tensor each. */
import type { Family } from './family.ts'

export const phi3: Family = { modelType: 'phi3', label: 'Phi-3', className: 'Phi3ForCausalLM', headNorm: false, projections: 'fused' }
