/** Llama 2 and 3 and the many models that share their layout: the plain form. Biases only where the config asks for them. */
import type { Family } from './family.ts'

export const llama: Family = { modelType: 'llama', label: 'Llama', className: 'LlamaForCausalLM', headNorm: false, projections: 'separate' }
