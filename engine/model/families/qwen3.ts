/** Qwen3 (dense): RMS norm on each head of q and k, a head size of its own, biases only if the config asks. */
import { readBoolean } from '../config-fields.ts'
import type { Family } from './family.ts'
import { qwenWindows } from './qwen2.ts'

export const qwen3: Family = {
  modelType: 'qwen3',
  label: 'Qwen3',
  className: 'Qwen3ForCausalLM',
  traits: (config, layers) => {
    const attention = readBoolean(config, 'attention_bias', false)
    return {
      biases: { qkv: attention, attentionOutput: attention, mlp: false },
      headNorm: true,
      windows: qwenWindows(config, layers),
    }
  },
}
