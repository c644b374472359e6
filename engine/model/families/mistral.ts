/** Mistral 7B and its dense successors: Llama's layout, an attention window on every layer where `sliding_window` is set, never a bias. */
import type { Family } from './family.ts'

export const mistral: Family = {
  modelType: 'mistral',
  label: 'Mistral',
  className: 'MistralForCausalLM',
  headNorm: false,
  projections: 'separate',
}
