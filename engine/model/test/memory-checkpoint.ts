/** A Checkpoint in memory whose tensors are all zero bytes, for tests of what is asked of a checkpoint rather than of what is in it. */
import { DTYPE_BYTES } from '../../checkpoint/dtypes.ts'
import { parseQuantizationConfig } from '../../checkpoint/quantization-config.ts'
import type { Checkpoint, StoredDtype, TensorEntry } from '../../checkpoint/types.ts'

export type TensorShapes = Readonly<Record<string, readonly [dtype: StoredDtype, ...shape: number[]]>>

export function memoryCheckpoint(config: Readonly<Record<string, unknown>>, shapes: TensorShapes): Checkpoint {
  const tensors = new Map(
    Object.entries(shapes).map(([name, [dtype, ...shape]]): [string, TensorEntry] => {
      const byteLength = shape.reduce((product, size) => product * size, DTYPE_BYTES[dtype])
      return [name, { name, dtype, shape, byteLength, file: 'model.safetensors' }]
    }),
  )
  const quantization = config['quantization_config']
  return {
    folder: '/memory',
    config,
    generationConfig: null,
    quantization: quantization === undefined ? null : parseQuantizationConfig(quantization),
    tensors,
    files: [],
    metadata: new Map(),
    open: (name) => {
      const byteLength = tensors.get(name)?.byteLength ?? 0
      return { byteLength, read: (_, length) => Promise.resolve(new Uint8Array(length)) }
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}

/** A two-layer Llama: hidden 8, 2 heads of 4 over 1, intermediate 16, vocabulary 10, untied. */
export const TINY_CONFIG = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 10,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
  eos_token_id: 1,
} as const

export const TINY_LINEARS = {
  'self_attn.q_proj': [8, 8],
  'self_attn.k_proj': [4, 8],
  'self_attn.v_proj': [4, 8],
  'self_attn.o_proj': [8, 8],
  'mlp.gate_proj': [16, 8],
  'mlp.up_proj': [16, 8],
  'mlp.down_proj': [8, 16],
} as const

/** All tensors of TINY_CONFIG in BF16. */
export function tinyShapes(): Record<string, readonly [StoredDtype, ...number[]]> {
  const shapes: Record<string, readonly [StoredDtype, ...number[]]> = {
    'model.embed_tokens.weight': ['BF16', 10, 8],
    'model.norm.weight': ['BF16', 8],
    'lm_head.weight': ['BF16', 10, 8],
  }
  for (const layer of [0, 1]) {
    const prefix = `model.layers.${layer}`
    shapes[`${prefix}.input_layernorm.weight`] = ['BF16', 8]
    shapes[`${prefix}.post_attention_layernorm.weight`] = ['BF16', 8]
    for (const [name, [rows, cols]] of Object.entries(TINY_LINEARS)) shapes[`${prefix}.${name}.weight`] = ['BF16', rows, cols]
  }
  return shapes
}
