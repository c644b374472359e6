/**
 * A Llama checkpoint with a byte-level BPE tokenizer as one GGUF file (version 3, F16 matrices), so that a peer can be measured on the same
 * weights. For the benchmark only: one family, no quantized checkpoints. Layout: github.com/ggml-org/ggml, docs/gguf.md.
 */
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openCheckpoint } from '../../checkpoint/open.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'
import { decodeBf16, encodeF16 } from '../../gpu/reference/float16.ts'

const ALIGNMENT = 32
const TYPES = { u32: 4, i32: 5, f32: 6, string: 8, array: 9 } as const
const F32 = 0
const F16 = 1

/** Names after `model.layers.N.`. */
const LAYER_NAMES: Readonly<Record<string, string>> = {
  'input_layernorm.weight': 'attn_norm.weight',
  'self_attn.q_proj.weight': 'attn_q.weight',
  'self_attn.k_proj.weight': 'attn_k.weight',
  'self_attn.v_proj.weight': 'attn_v.weight',
  'self_attn.o_proj.weight': 'attn_output.weight',
  'post_attention_layernorm.weight': 'ffn_norm.weight',
  'mlp.gate_proj.weight': 'ffn_gate.weight',
  'mlp.up_proj.weight': 'ffn_up.weight',
  'mlp.down_proj.weight': 'ffn_down.weight',
}
const OTHER_NAMES: Readonly<Record<string, string>> = {
  'model.embed_tokens.weight': 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
  'lm_head.weight': 'output.weight',
}

class Writer {
  readonly #parts: Uint8Array[] = []

  u32(value: number): void {
    this.#parts.push(new Uint8Array(Uint32Array.of(value).buffer))
  }

  u64(value: number): void {
    this.#parts.push(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer))
  }

  f32(value: number): void {
    this.#parts.push(new Uint8Array(Float32Array.of(value).buffer))
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text)
    this.u64(bytes.length)
    this.#parts.push(bytes)
  }

  take(): Uint8Array {
    return Buffer.concat(this.#parts)
  }
}

type Value =
  | { readonly u32: number }
  | { readonly f32: number }
  | { readonly text: string }
  | { readonly texts: readonly string[] }
  | { readonly ints: readonly number[] }

function writeValue(writer: Writer, value: Value): void {
  if ('u32' in value) {
    writer.u32(TYPES.u32)
    writer.u32(value.u32)
  } else if ('f32' in value) {
    writer.u32(TYPES.f32)
    writer.f32(value.f32)
  } else if ('text' in value) {
    writer.u32(TYPES.string)
    writer.string(value.text)
  } else {
    writer.u32(TYPES.array)
    const texts = 'texts' in value
    writer.u32(texts ? TYPES.string : TYPES.i32)
    const list = texts ? value.texts : value.ints
    writer.u64(list.length)
    for (const item of list) {
      if (typeof item === 'string') writer.string(item)
      else writer.u32(item)
    }
  }
}

/** Throws Error for anything but an uncompressed Llama model with a byte-level BPE tokenizer. */
export async function writeGguf(folder: string, path: string): Promise<void> {
  await using checkpoint = await openCheckpoint(folder)
  const { config } = checkpoint
  if (config['model_type'] !== 'llama' || checkpoint.quantization !== null)
    throw new Error('only uncompressed Llama checkpoints are converted')
  const number = (key: string, fallback?: number): number => {
    const value = config[key] ?? fallback
    if (typeof value !== 'number') throw new Error(`config.json has no ${key}`)
    return value
  }
  const heads = number('num_attention_heads')
  const kvHeads = number('num_key_value_heads', heads)
  const headDim = number('head_dim', number('hidden_size') / heads)
  const values: [string, Value][] = [
    ['general.architecture', { text: 'llama' }],
    ['general.name', { text: 'bench' }],
    ['general.file_type', { u32: F16 }],
    ['llama.block_count', { u32: number('num_hidden_layers') }],
    ['llama.context_length', { u32: number('max_position_embeddings') }],
    ['llama.embedding_length', { u32: number('hidden_size') }],
    ['llama.feed_forward_length', { u32: number('intermediate_size') }],
    ['llama.attention.head_count', { u32: heads }],
    ['llama.attention.head_count_kv', { u32: kvHeads }],
    ['llama.attention.key_length', { u32: headDim }],
    ['llama.attention.value_length', { u32: headDim }],
    ['llama.attention.layer_norm_rms_epsilon', { f32: number('rms_norm_eps') }],
    ['llama.rope.dimension_count', { u32: headDim }],
    ['llama.rope.freq_base', { f32: number('rope_theta', 10_000) }],
    ['llama.vocab_size', { u32: number('vocab_size') }],
    ...(await tokenizerValues(folder, number('vocab_size'), number('bos_token_id', 0), number('eos_token_id', 0))),
  ]
  const tensors = [...checkpoint.tensors.values()].flatMap((entry) => {
    const layer = /^model\.layers\.(\d+)\.(.+)$/.exec(entry.name)
    const name = layer === null ? OTHER_NAMES[entry.name] : `blk.${layer[1]}.${LAYER_NAMES[layer[2] ?? ''] ?? '?'}`
    if (name === undefined || name.endsWith('?')) throw new Error(`no place for ${entry.name}`)
    const [rows, cols] = entry.shape.length === 1 ? [1, entry.shape[0] ?? 0] : [entry.shape[0] ?? 0, entry.shape[1] ?? 0]
    const permuted = name.endsWith('attn_q.weight') ? heads : name.endsWith('attn_k.weight') ? kvHeads : null
    return [{ name, source: entry.name, rows, cols, vector: entry.shape.length === 1, permuted }]
  })

  const header = new Writer()
  header.u32(0x4655_4747) // "GGUF"
  header.u32(3)
  header.u64(tensors.length)
  header.u64(values.length)
  for (const [key, value] of values) {
    header.string(key)
    writeValue(header, value)
  }
  let offset = 0
  for (const { name, rows, cols, vector } of tensors) {
    header.string(name)
    header.u32(vector ? 1 : 2)
    header.u64(cols)
    if (!vector) header.u64(rows)
    header.u32(vector ? F32 : F16)
    header.u64(offset)
    offset += padded(rows * cols * (vector ? 4 : 2))
  }
  await using file = await open(path, 'w')
  const head = header.take()
  await file.write(head)
  await file.write(new Uint8Array(padded(head.length) - head.length))
  for (const { source, rows, cols, vector, permuted } of tensors) {
    const data = await readFloats(checkpoint, source)
    const ordered = permuted === null ? data : permute(data, permuted, rows, cols)
    const bytes = vector ? new Uint8Array(ordered.buffer) : new Uint8Array(Uint16Array.from(ordered, encodeF16).buffer)
    await file.write(bytes)
    await file.write(new Uint8Array(padded(bytes.length) - bytes.length))
  }
}

function padded(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT
}

async function readFloats(checkpoint: Checkpoint, name: string): Promise<Float32Array> {
  const dtype = checkpoint.tensors.get(name)?.dtype
  const source = checkpoint.open(name)
  const bytes = (await source.read(0, source.byteLength)).slice()
  if (dtype === 'F32') return new Float32Array(bytes.buffer)
  if (dtype !== 'BF16') throw new Error(`${name} is ${dtype}`)
  return Float32Array.from(new Uint16Array(bytes.buffer), decodeBf16)
}

/** ggml rotates neighbouring dimensions, Hugging Face dimensions half a head apart: rows of each head are interleaved. */
function permute(data: Float32Array, heads: number, rows: number, cols: number): Float32Array {
  const out = new Float32Array(data.length)
  const half = rows / heads / 2
  for (let head = 0; head < heads; head++) {
    for (let i = 0; i < half; i++) {
      for (const side of [0, 1]) {
        const from = head * 2 * half + side * half + i
        out.set(data.subarray(from * cols, (from + 1) * cols), (head * 2 * half + 2 * i + side) * cols)
      }
    }
  }
  return out
}

async function tokenizerValues(folder: string, vocabulary: number, bos: number, eos: number): Promise<[string, Value][]> {
  const json = JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8')) as {
    readonly model: { readonly vocab: Readonly<Record<string, number>>; readonly merges: readonly (string | readonly [string, string])[] }
    readonly added_tokens: readonly { readonly id: number; readonly content: string }[]
  }
  const tokens = Array.from({ length: vocabulary }, (_, id) => `[unused${id}]`)
  for (const [token, id] of Object.entries(json.model.vocab)) tokens[id] = token
  const control = new Set(json.added_tokens.map(({ id }) => id))
  for (const { id, content } of json.added_tokens) tokens[id] = content
  return [
    ['tokenizer.ggml.model', { text: 'gpt2' }],
    ['tokenizer.ggml.pre', { text: 'gpt-2' }],
    ['tokenizer.ggml.tokens', { texts: tokens }],
    // 1 = ordinary, 3 = control.
    ['tokenizer.ggml.token_type', { ints: tokens.map((_, id) => (control.has(id) ? 3 : 1)) }],
    ['tokenizer.ggml.merges', { texts: json.model.merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' '))) }],
    ['tokenizer.ggml.bos_token_id', { u32: bos }],
    ['tokenizer.ggml.eos_token_id', { u32: eos }],
  ]
}
