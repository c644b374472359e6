/** Qwen2 and Qwen2.5: biases on q, k and v only; a window on the upper layers, which the released checkpoints switch off. */
import { type Config, has, readBoolean, readInteger, readStrings } from '../config-fields.ts'
import { type Family, unlimited } from './family.ts'

export const qwen2: Family = {
  modelType: 'qwen2',
  label: 'Qwen2',
  className: 'Qwen2ForCausalLM',
  traits: (config, layers) => ({
    biases: { qkv: true, attentionOutput: false, mlp: false },
    headNorm: false,
    windows: qwenWindows(config, layers),
  }),
}

/** Layers from `max_window_layers` on are limited, or those that `layer_types` names; only with `use_sliding_window`. */
export function qwenWindows(config: Config, layers: number): readonly (number | null)[] {
  if (!readBoolean(config, 'use_sliding_window', false) || !has(config, 'sliding_window')) return unlimited(layers)
  const window = readInteger(config, 'sliding_window', { min: 1, max: 2 ** 31 })
  const types = readStrings(config, 'layer_types')
  // 28 is the default of both config classes in transformers.
  const first = readInteger(config, 'max_window_layers', { min: 0, max: 2 ** 31, fallback: 28 })
  return Array.from({ length: layers }, (_, layer) => {
    const limited = types === null ? layer >= first : types[layer] === 'sliding_attention'
    return limited ? window : null
  })
}
