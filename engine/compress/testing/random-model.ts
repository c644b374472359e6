/**
 * A Llama folder of any size with random weights, written tensor by tensor: for tests (tiny) and for runs that must show what memory and time a
 * large model takes. The tokenizer is the demo model's.
 */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { asBytes, f32ToBf16 } from '../../checkpoint/dtypes.ts'
import { createSafetensorsWriter, planSafetensors } from '../../checkpoint/safetensors-writer.ts'
import type { TensorLayout } from '../../checkpoint/safetensors-writer.ts'
import { normals } from '../test/matrices.ts'

const demo = fileURLToPath(new URL('../../../assets/demo-model', import.meta.url))
/** The demo tokenizer's. */
const VOCABULARY = 2048
const BLOCK_ELEMENTS = 1 << 20

export interface RandomModel {
  readonly layers: number
  readonly hidden: number
  readonly intermediate: number
  readonly heads: number
  readonly kvHeads: number
  readonly seed: number
}

/** Makes `folder`; resolves to the bytes of all tensors. */
export async function writeRandomModel(folder: string, model: RandomModel): Promise<number> {
  const { layers, hidden, intermediate, heads, kvHeads } = model
  const headDim = hidden / heads
  mkdirSync(folder, { recursive: true })
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json'])
    copyFileSync(join(demo, name), join(folder, name))
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    vocab_size: VOCABULARY,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: true,
    bos_token_id: 0,
    eos_token_id: 2,
    torch_dtype: 'bfloat16',
  }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config, null, 2))
  const tensors: TensorLayout[] = [{ name: 'model.embed_tokens.weight', dtype: 'BF16', shape: [VOCABULARY, hidden] }]
  for (let layer = 0; layer < layers; layer++) {
    const add = (name: string, shape: readonly number[]): unknown =>
      tensors.push({ name: `model.layers.${layer}.${name}.weight`, dtype: 'BF16', shape })
    add('input_layernorm', [hidden])
    add('self_attn.q_proj', [hidden, hidden])
    add('self_attn.k_proj', [kvHeads * headDim, hidden])
    add('self_attn.v_proj', [kvHeads * headDim, hidden])
    add('self_attn.o_proj', [hidden, hidden])
    add('post_attention_layernorm', [hidden])
    add('mlp.gate_proj', [intermediate, hidden])
    add('mlp.up_proj', [intermediate, hidden])
    add('mlp.down_proj', [hidden, intermediate])
  }
  tensors.push({ name: 'model.norm.weight', dtype: 'BF16', shape: [hidden] })
  const plan = planSafetensors(tensors)
  await using writer = await createSafetensorsWriter({ folder, plan })
  // One block of normal numbers; each tensor reads it from a place and at a scale of its own. Rounded once per scale and kept twice over, so that
  // any part is one piece: a file of gigabytes is written as fast as the disk takes it.
  const largest = Math.max(...tensors.map(({ shape }) => elementsOf(shape)))
  const pool = normals(Math.min(BLOCK_ELEMENTS, largest), model.seed)
  const rounded = new Map<number, Uint16Array>()
  const poolAt = (scale: number): Uint16Array => {
    const known = rounded.get(scale)
    if (known !== undefined) return known
    const bits = Uint16Array.from({ length: 2 * pool.length }, (_, i) => f32ToBf16((pool[i % pool.length] as number) * scale))
    rounded.set(scale, bits)
    return bits
  }
  for (const [index, { name, shape }] of tensors.entries()) {
    const elements = elementsOf(shape)
    const isNorm = shape.length === 1
    const scale = name.includes('embed') ? 0.5 : 1 / Math.sqrt(shape[1] ?? 1)
    for (let done = 0; done < elements; done += BLOCK_ELEMENTS) {
      const count = Math.min(BLOCK_ELEMENTS, elements - done)
      const shift = (index * 7919 + done * 31) % pool.length
      // Channels of unequal size, as trained models have them.
      const norm = (_: unknown, i: number): number =>
        f32ToBf16(1 + 0.1 * (pool[(i + shift) % pool.length] as number) + (i % 13 === 0 ? 2 : 0))
      await writer.write(name, asBytes(isNorm ? Uint16Array.from({ length: count }, norm) : poolAt(scale).subarray(shift, shift + count)))
    }
  }
  await writer.finish()
  return plan.tensorBytes
}

function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1)
}
