/** Writes a model folder of a few kilobytes: a real Llama config and real safetensors bytes, so that the real checkpoint reader can read it. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const HIDDEN = 8
const VOCABULARY = 16

export interface TinyModelOptions {
  /** Changes the weights' values only; the fingerprint stays. */
  readonly fill?: number
  /** Changes config and shapes; the fingerprint differs. */
  readonly layers?: number
  readonly modelType?: string
}

export function writeTinyModel(folder: string, options: TinyModelOptions = {}): string {
  const layers = options.layers ?? 1
  const tensors: [name: string, shape: number[]][] = [
    ['model.embed_tokens.weight', [VOCABULARY, HIDDEN]],
    ['model.norm.weight', [HIDDEN]],
  ]
  for (let layer = 0; layer < layers; layer++) {
    const prefix = `model.layers.${layer}`
    for (const name of ['q_proj', 'k_proj', 'v_proj', 'o_proj']) tensors.push([`${prefix}.self_attn.${name}.weight`, [HIDDEN, HIDDEN]])
    for (const name of ['gate_proj', 'up_proj', 'down_proj']) tensors.push([`${prefix}.mlp.${name}.weight`, [HIDDEN, HIDDEN]])
    tensors.push([`${prefix}.input_layernorm.weight`, [HIDDEN]], [`${prefix}.post_attention_layernorm.weight`, [HIDDEN]])
  }
  mkdirSync(folder, { recursive: true })
  writeFileSync(
    join(folder, 'config.json'),
    JSON.stringify({
      architectures: [options.modelType === undefined ? 'LlamaForCausalLM' : 'OtherForCausalLM'],
      model_type: options.modelType ?? 'llama',
      hidden_size: HIDDEN,
      intermediate_size: HIDDEN,
      num_hidden_layers: layers,
      num_attention_heads: 2,
      num_key_value_heads: 2,
      vocab_size: VOCABULARY,
      max_position_embeddings: 64,
      rms_norm_eps: 1e-5,
      tie_word_embeddings: true,
      hidden_act: 'silu',
    }),
  )
  writeFileSync(join(folder, 'model.safetensors'), safetensors(tensors, options.fill ?? 0.5))
  return folder
}

function safetensors(tensors: readonly [string, number[]][], fill: number): Uint8Array {
  const header: Record<string, unknown> = {}
  let offset = 0
  for (const [name, shape] of tensors) {
    const bytes = shape.reduce((product, extent) => product * extent, 1) * 4
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + bytes] }
    offset += bytes
  }
  const text = JSON.stringify(header)
  const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  return Buffer.concat([length, json, Buffer.from(new Float32Array(offset / 4).fill(fill).buffer)])
}
