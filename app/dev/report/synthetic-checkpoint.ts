/** A Llama of any shape with made-up weights that exists in memory only, so that whole steps of a model far larger than any test file can be timed. */
import { parseQuantizationConfig } from '../../../engine/checkpoint/quantization-config.ts'
import type { Checkpoint, StoredDtype, TensorEntry } from '../../../engine/checkpoint/types.ts'
import { type DecoderShape, syntheticBytes } from '../../../engine/gpu/bench/synthetic.ts'

/** Bits of a linear's weights; 16 = BF16. `groupSize` null = a scale per channel. */
export interface SyntheticScheme {
  readonly title: string
  readonly bits: 16 | 8 | 4
  readonly groupSize: number | null
}

const DTYPE_BYTES = { BF16: 2, I32: 4 } as const

export function syntheticCheckpoint(shape: DecoderShape, { bits, groupSize }: SyntheticScheme, contextLimit: number): Checkpoint {
  const { layers, hidden, heads, kvHeads, headDim, intermediate, vocabulary } = shape
  const tensors = new Map<string, TensorEntry>()
  const add = (name: string, dtype: StoredDtype & keyof typeof DTYPE_BYTES, dimensions: readonly number[]): void => {
    const byteLength = dimensions.reduce((product, size) => product * size, DTYPE_BYTES[dtype])
    tensors.set(name, { name, dtype, shape: dimensions, byteLength, file: 'model.safetensors' })
  }
  const linear = (name: string, rows: number, columns: number): void => {
    if (bits === 16) return add(`${name}.weight`, 'BF16', [rows, columns])
    add(`${name}.weight_packed`, 'I32', [rows, (columns * bits) / 32])
    add(`${name}.weight_scale`, 'BF16', [rows, groupSize === null ? 1 : columns / groupSize])
  }
  add('model.embed_tokens.weight', 'BF16', [vocabulary, hidden])
  add('lm_head.weight', 'BF16', [vocabulary, hidden])
  add('model.norm.weight', 'BF16', [hidden])
  for (let layer = 0; layer < layers; layer++) {
    const prefix = `model.layers.${layer}`
    add(`${prefix}.input_layernorm.weight`, 'BF16', [hidden])
    add(`${prefix}.post_attention_layernorm.weight`, 'BF16', [hidden])
    linear(`${prefix}.self_attn.q_proj`, heads * headDim, hidden)
    linear(`${prefix}.self_attn.k_proj`, kvHeads * headDim, hidden)
    linear(`${prefix}.self_attn.v_proj`, kvHeads * headDim, hidden)
    linear(`${prefix}.self_attn.o_proj`, hidden, heads * headDim)
    linear(`${prefix}.mlp.gate_proj`, intermediate, hidden)
    linear(`${prefix}.mlp.up_proj`, intermediate, hidden)
    linear(`${prefix}.mlp.down_proj`, hidden, intermediate)
  }
  return {
    folder: 'in memory',
    config: {
      model_type: 'llama',
      architectures: ['LlamaForCausalLM'],
      hidden_size: hidden,
      intermediate_size: intermediate,
      num_hidden_layers: layers,
      num_attention_heads: heads,
      num_key_value_heads: kvHeads,
      head_dim: headDim,
      vocab_size: vocabulary,
      max_position_embeddings: contextLimit,
      rms_norm_eps: 1e-5,
      tie_word_embeddings: false,
      eos_token_id: 1,
    },
    generationConfig: null,
    quantization: bits === 16 ? null : parseQuantizationConfig(quantizationConfig(bits, groupSize)),
    tensors,
    files: [],
    metadata: new Map(),
    open: (name) => syntheticBytes(tensors.get(name)?.byteLength ?? 0),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}

function quantizationConfig(bits: number, groupSize: number | null): Record<string, unknown> {
  const strategy = groupSize === null ? 'channel' : 'group'
  const weights = { num_bits: bits, type: 'int', symmetric: true, strategy, group_size: groupSize, dynamic: false }
  return {
    quant_method: 'compressed-tensors',
    format: 'pack-quantized',
    quantization_status: 'compressed',
    ignore: ['lm_head'],
    config_groups: { group_0: { targets: ['Linear'], weights, input_activations: null, output_activations: null } },
  }
}
