/** Llama 2 and 3 and the many models that share their layout. Bias flags exist in the config and default to none. */
import { readBoolean } from '../config-fields.ts'
import { type Family, unlimited } from './family.ts'

export const llama: Family = {
  modelType: 'llama',
  label: 'Llama',
  className: 'LlamaForCausalLM',
  traits: (config, layers) => {
    const attention = readBoolean(config, 'attention_bias', false)
    return {
      biases: { qkv: attention, attentionOutput: attention, mlp: readBoolean(config, 'mlp_bias', false) },
      headNorm: false,
      windows: unlimited(layers),
    }
  },
}
