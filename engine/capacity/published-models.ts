/**
 * Published model configurations, the fields that planning needs, so that a model can be planned for before it is downloaded. Data only, from
 * each model's config.json on its publisher's page. `parameters` is what the publisher's safetensors headers add up to where that is known,
 * and what the tests hold modelShapeOf to.
 */
import type { Config } from './config-fields.ts'

export interface PublishedModel {
  readonly id: string
  readonly name: string
  /** null where only a rounded figure is published. */
  readonly parameters: number | null
  readonly config: Config
}

const LLAMA_3 = {
  model_type: 'llama',
  num_key_value_heads: 8,
  vocab_size: 128_256,
  max_position_embeddings: 131_072,
  tie_word_embeddings: false,
} as const

const QWEN_3 = {
  model_type: 'qwen3',
  num_key_value_heads: 8,
  head_dim: 128,
  vocab_size: 151_936,
  max_position_embeddings: 40_960,
  tie_word_embeddings: false,
  use_sliding_window: false,
} as const

const GPT_OSS = {
  model_type: 'gpt_oss',
  hidden_size: 2880,
  num_attention_heads: 64,
  num_key_value_heads: 8,
  head_dim: 64,
  intermediate_size: 2880,
  num_experts_per_tok: 4,
  attention_bias: true,
  vocab_size: 201_088,
  sliding_window: 128,
  max_position_embeddings: 131_072,
  tie_word_embeddings: false,
} as const

function alternating(layers: number): string[] {
  return Array.from({ length: layers }, (_, layer) => (layer % 2 === 0 ? 'sliding_attention' : 'full_attention'))
}

export const PUBLISHED_MODELS: readonly PublishedModel[] = [
  {
    id: 'llama-3.2-1b',
    name: 'Llama 3.2 1B',
    parameters: 1_235_814_400,
    config: {
      ...LLAMA_3,
      hidden_size: 2048,
      num_hidden_layers: 16,
      num_attention_heads: 32,
      head_dim: 64,
      intermediate_size: 8192,
      tie_word_embeddings: true,
    },
  },
  {
    id: 'llama-3.1-8b',
    name: 'Llama 3.1 8B',
    parameters: 8_030_261_248,
    config: { ...LLAMA_3, hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, intermediate_size: 14_336 },
  },
  {
    id: 'llama-3.1-70b',
    name: 'Llama 3.1 70B',
    parameters: 70_553_706_496,
    config: { ...LLAMA_3, hidden_size: 8192, num_hidden_layers: 80, num_attention_heads: 64, intermediate_size: 28_672 },
  },
  {
    id: 'qwen3-0.6b',
    name: 'Qwen3 0.6B',
    parameters: 596_049_920,
    config: {
      ...QWEN_3,
      hidden_size: 1024,
      num_hidden_layers: 28,
      num_attention_heads: 16,
      intermediate_size: 3072,
      tie_word_embeddings: true,
    },
  },
  {
    id: 'qwen3-4b',
    name: 'Qwen3 4B',
    parameters: 4_022_468_096,
    config: {
      ...QWEN_3,
      hidden_size: 2560,
      num_hidden_layers: 36,
      num_attention_heads: 32,
      intermediate_size: 9728,
      tie_word_embeddings: true,
    },
  },
  {
    id: 'qwen3-8b',
    name: 'Qwen3 8B',
    parameters: 8_190_735_360,
    config: { ...QWEN_3, hidden_size: 4096, num_hidden_layers: 36, num_attention_heads: 32, intermediate_size: 12_288 },
  },
  {
    id: 'qwen3-14b',
    name: 'Qwen3 14B',
    parameters: 14_768_307_200,
    config: { ...QWEN_3, hidden_size: 5120, num_hidden_layers: 40, num_attention_heads: 40, intermediate_size: 17_408 },
  },
  {
    id: 'qwen3-32b',
    name: 'Qwen3 32B',
    parameters: 32_762_123_264,
    config: { ...QWEN_3, hidden_size: 5120, num_hidden_layers: 64, num_attention_heads: 64, intermediate_size: 25_600 },
  },
  {
    id: 'qwen3-30b-a3b',
    name: 'Qwen3 30B-A3B',
    parameters: 30_532_122_624,
    config: {
      ...QWEN_3,
      model_type: 'qwen3_moe',
      hidden_size: 2048,
      num_hidden_layers: 48,
      num_attention_heads: 32,
      num_key_value_heads: 4,
      intermediate_size: 6144,
      moe_intermediate_size: 768,
      num_experts: 128,
      num_experts_per_tok: 8,
      decoder_sparse_step: 1,
      mlp_only_layers: [],
    },
  },
  {
    id: 'mistral-small-24b',
    name: 'Mistral Small 24B',
    parameters: 23_572_403_200,
    config: {
      model_type: 'mistral',
      hidden_size: 5120,
      num_hidden_layers: 40,
      num_attention_heads: 32,
      num_key_value_heads: 8,
      head_dim: 128,
      intermediate_size: 32_768,
      vocab_size: 131_072,
      max_position_embeddings: 32_768,
      sliding_window: null,
      tie_word_embeddings: false,
    },
  },
  {
    id: 'gemma-2-9b',
    name: 'Gemma 2 9B',
    parameters: 9_241_705_984,
    config: {
      model_type: 'gemma2',
      hidden_size: 3584,
      num_hidden_layers: 42,
      num_attention_heads: 16,
      num_key_value_heads: 8,
      head_dim: 256,
      intermediate_size: 14_336,
      vocab_size: 256_000,
      max_position_embeddings: 8192,
      sliding_window: 4096,
      tie_word_embeddings: true,
    },
  },
  {
    id: 'gemma-3-1b',
    name: 'Gemma 3 1B',
    parameters: 999_885_952,
    config: {
      model_type: 'gemma3_text',
      hidden_size: 1152,
      num_hidden_layers: 26,
      num_attention_heads: 4,
      num_key_value_heads: 1,
      head_dim: 256,
      intermediate_size: 6912,
      vocab_size: 262_144,
      max_position_embeddings: 32_768,
      sliding_window: 512,
      sliding_window_pattern: 6,
      tie_word_embeddings: true,
    },
  },
  {
    id: 'gemma-3-27b',
    name: 'Gemma 3 27B (text part)',
    parameters: null,
    config: {
      model_type: 'gemma3',
      text_config: {
        model_type: 'gemma3_text',
        hidden_size: 5376,
        num_hidden_layers: 62,
        num_attention_heads: 32,
        num_key_value_heads: 16,
        head_dim: 128,
        intermediate_size: 21_504,
        vocab_size: 262_208,
        max_position_embeddings: 131_072,
        sliding_window: 1024,
        sliding_window_pattern: 6,
        tie_word_embeddings: true,
      },
    },
  },
  {
    id: 'deepseek-v3',
    name: 'DeepSeek V3 (without the extra prediction layer)',
    parameters: null,
    config: {
      model_type: 'deepseek_v3',
      hidden_size: 7168,
      num_hidden_layers: 61,
      num_attention_heads: 128,
      num_key_value_heads: 128,
      kv_lora_rank: 512,
      q_lora_rank: 1536,
      qk_rope_head_dim: 64,
      qk_nope_head_dim: 128,
      v_head_dim: 128,
      intermediate_size: 18_432,
      moe_intermediate_size: 2048,
      n_routed_experts: 256,
      n_shared_experts: 1,
      num_experts_per_tok: 8,
      first_k_dense_replace: 3,
      vocab_size: 129_280,
      max_position_embeddings: 163_840,
      tie_word_embeddings: false,
    },
  },
  {
    id: 'gpt-oss-20b',
    name: 'gpt-oss 20B',
    parameters: 20_914_757_184,
    config: { ...GPT_OSS, num_hidden_layers: 24, num_local_experts: 32, layer_types: alternating(24) },
  },
  {
    id: 'gpt-oss-120b',
    name: 'gpt-oss 120B',
    parameters: 116_829_156_672,
    config: { ...GPT_OSS, num_hidden_layers: 36, num_local_experts: 128, layer_types: alternating(36) },
  },
]

/** By id or name, spaces, case and hyphens aside ("Llama-3.1-8B", "qwen3 4b"); null when none matches. */
export function findPublishedModel(text: string): PublishedModel | null {
  const wanted = squeeze(text)
  return PUBLISHED_MODELS.find((model) => squeeze(model.id) === wanted || squeeze(model.name) === wanted) ?? null
}

function squeeze(text: string): string {
  return text.toLowerCase().replaceAll(/[\s_-]+/g, '')
}
