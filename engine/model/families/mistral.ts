/** Mistral 7B and successors: Llama's layout with an attention window on every layer where `sliding_window` is set. */
import { has, readInteger } from '../config-fields.ts'
import { type Family, unlimited } from './family.ts'

export const mistral: Family = {
  modelType: 'mistral',
  label: 'Mistral',
  className: 'MistralForCausalLM',
  traits: (config, layers) => {
    const window = has(config, 'sliding_window') ? readInteger(config, 'sliding_window', { min: 1, max: 2 ** 31 }) : null
    return {
      biases: { qkv: false, attentionOutput: false, mlp: false },
      headNorm: false,
      windows: window === null ? unlimited(layers) : Array.from({ length: layers }, () => window),
    }
  },
}
