/**
 * A checkpoint seen through offline rotations (specs/compression-algorithms.md §7b): R1 turns the residual stream, R2 the values of each head.
 * Both cancel inside the model, so its outputs stay what they were, while outliers spread over all channels before anything is rounded.
 * Norm weights are folded into the linears behind them first, because a rotation does not pass through them; a tied output head gets a
 * tensor of its own, because it needs the final norm folded in and the embedding does not.
 *
 *   embedding ─R1▶ stream ─▶ R1ᵀ·[q k v gate up]   o, down ─R1▶ stream ─▶ R1ᵀ·head      v ─R2▶ R2ᵀ·o
 *
 * Norms of q and k heads and RoPE sit between q/k and the scores, where nothing is rotated. Everything downstream reads the view as it
 * would read the folder; values are rounded to the dtype of the source.
 */
import { DTYPE_BYTES, isDenseDtype, narrowFromF32, widenToF32 } from '../../checkpoint/dtypes.ts'
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import type { ByteSource, Checkpoint, TensorEntry } from '../../checkpoint/types.ts'
import { LatheError } from '../../contract/errors.ts'
import { describeModel } from '../../model/spec.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { Recipe, RotationStep } from '../recipe.ts'
import { orthogonal } from './orthogonal.ts'
import type { Orthogonal } from './orthogonal.ts'

/** Families whose residual stream is as described above. One with LayerNorm, or with norms behind its blocks, is not. */
const KNOWN_FAMILIES: readonly string[] = ['llama', 'mistral', 'qwen2', 'qwen3', 'phi3']

const EMBEDDING = 'model.embed_tokens.weight'
const HEAD = 'lm_head.weight'
const FINAL_NORM = 'model.norm.weight'

export interface RotatedCheckpoint {
  readonly checkpoint: Checkpoint
  /** What config.json must say differently. */
  readonly configChanges: Readonly<Record<string, unknown>>
  /** For the log: which rotations, and what they cost. */
  readonly notes: readonly string[]
}

export interface RotationOptions {
  readonly seed: number
  /** F32 keeps what rounding to the source's dtype would lose; for tests. */
  readonly dtype?: 'F32'
}

/** What happens to a tensor: vectors along its columns (inputs), then along its rows (outputs). */
interface Change {
  /** The tensor its bytes come from. */
  readonly source: TensorEntry
  /** Norm whose weight the columns are multiplied by. */
  readonly foldedNorm: string | null
  readonly columns: Orthogonal | null
  /** Turned in blocks of the rotation's size; only rows from `firstRow` on. */
  readonly rows: { readonly rotation: Orthogonal; readonly firstRow: number } | null
  /** The tensor is a norm that was folded away. */
  readonly ones: boolean
}

/** Throws `compress.invalid-recipe` for a model that cannot be rotated, naming what is in the way. */
export function rotateCheckpoint(source: Checkpoint, step: RotationStep, options: RotationOptions): RotatedCheckpoint {
  const spec = describeRotatable(source)
  const random = randomOf(options.seed)
  const signs = step.transform === 'random-hadamard'
  const r1 = step.r1 ? orthogonal(spec.hiddenSize, signs, random) : null
  const r2 = step.r2 ? orthogonal(spec.headDim, signs, random) : null
  const changes = changesOf(source, spec, r1, r2)
  const tensors = new Map<string, TensorEntry>()
  for (const [name, entry] of source.tensors) if (!changes.has(name)) tensors.set(name, entry)
  for (const [name, change] of changes) {
    const dtype = options.dtype ?? change.source.dtype
    const elements = change.source.shape.reduce((product, size) => product * size, 1)
    tensors.set(name, { ...change.source, name, dtype, byteLength: elements * DTYPE_BYTES[dtype] })
  }
  const untied = r1 !== null && spec.tiedEmbeddings
  const notes = [
    ...(r1 === null ? [] : [`Residual stream rotated: ${r1.description} of ${r1.size}.`]),
    ...(r2 === null ? [] : [`Value heads rotated: ${r2.description} of ${r2.size}.`]),
    ...(untied
      ? [
          `The output head was tied to the embedding and becomes a tensor of its own: ${((tensors.get(HEAD)?.byteLength ?? 0) / 1e6).toFixed(1)} MB more.`,
        ]
      : []),
  ]
  const configChanges = untied ? { tie_word_embeddings: false } : {}
  const norms = new Map<string, Promise<Float32Array>>()
  const readNorm = (name: string): Promise<Float32Array> => {
    const known = norms.get(name) ?? readValues(source, name)
    norms.set(name, known)
    return known
  }
  const checkpoint: Checkpoint = {
    folder: source.folder,
    config: { ...source.config, ...configChanges },
    generationConfig: source.generationConfig,
    quantization: source.quantization,
    metadata: source.metadata,
    files: source.files,
    tensors,
    open(name) {
      const change = changes.get(name)
      const entry = tensors.get(name)
      return change === undefined || entry === undefined ? source.open(name) : changedBytes(source, change, entry, readNorm)
    },
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  }
  return { checkpoint, configChanges, notes }
}

/** What a recipe's own plan is made of: the model through its rotation, if it has one. The seed changes values, never shapes. */
export function asRotated(checkpoint: Checkpoint, { steps }: Pick<Recipe, 'steps'>, seed = 0): Checkpoint {
  const rotation = steps.find((step) => step.kind === 'rotation')
  return rotation === undefined ? checkpoint : rotateCheckpoint(checkpoint, rotation, { seed }).checkpoint
}

function notRotatable(why: string, hint: string): LatheError {
  return new LatheError('compress.invalid-recipe', `This model cannot be rotated: ${why}.`, hint)
}

function describeRotatable(source: Checkpoint): ModelSpec {
  if (source.quantization !== null) throw notRotatable('it is quantized already', 'Start from the original BF16, F16 or F32 model.')
  let spec: ModelSpec
  try {
    spec = describeModel(source.config, source.generationConfig)
  } catch (error) {
    if (error instanceof LatheError && error.code === 'model.unsupported-architecture') {
      throw notRotatable(
        error.message.replace(/^.*Missing: |\.$/g, ''),
        'Leave the rotation out of the recipe: the other steps do not need it.',
      )
    }
    throw error
  }
  if (!KNOWN_FAMILIES.includes(spec.family)) {
    throw notRotatable(
      `how "${spec.family}" normalizes its residual stream is not known`,
      `Rotations work for ${KNOWN_FAMILIES.join(', ')}. Leave the step out.`,
    )
  }
  return spec
}

function changesOf(source: Checkpoint, spec: ModelSpec, r1: Orthogonal | null, r2: Orthogonal | null): ReadonlyMap<string, Change> {
  const changes = new Map<string, Change>()
  const add = (name: string, change: Partial<Change>, from = name): void => {
    const entry = source.tensors.get(from)
    if (entry === undefined) return
    if (!isDenseDtype(entry.dtype))
      throw new LatheError(
        'compress.invalid-recipe',
        `${from} is ${entry.dtype}, which cannot be rotated.`,
        'Leave the rotation out of the recipe.',
      )
    const none: Change = { source: entry, foldedNorm: null, columns: null, rows: null, ones: false }
    changes.set(name, { ...none, ...change })
  }
  const { headDim, heads, kvHeads } = spec
  const fused = spec.projections === 'fused'
  const valueRow = fused ? (heads + kvHeads) * headDim : 0
  for (let layer = 0; layer < spec.layers; layer++) {
    const at = (name: string): string => `model.layers.${layer}.${name}`
    const inward = (norm: string): Partial<Change> => (r1 === null ? {} : { foldedNorm: at(`${norm}.weight`), columns: r1 })
    const outward: Partial<Change> = r1 === null ? {} : { rows: { rotation: r1, firstRow: 0 } }
    const values: Partial<Change> = r2 === null ? {} : { rows: { rotation: r2, firstRow: valueRow } }
    if (r1 !== null) {
      for (const name of fused ? [] : ['self_attn.q_proj', 'self_attn.k_proj']) add(at(`${name}.weight`), inward('input_layernorm'))
      for (const name of fused ? ['mlp.gate_up_proj'] : ['mlp.gate_proj', 'mlp.up_proj']) {
        add(at(`${name}.weight`), inward('post_attention_layernorm'))
      }
      add(at('mlp.down_proj.weight'), outward)
      add(at('mlp.down_proj.bias'), outward)
      add(at('self_attn.o_proj.bias'), outward)
      add(at('input_layernorm.weight'), { ones: true })
      add(at('post_attention_layernorm.weight'), { ones: true })
    }
    const producer = fused ? 'self_attn.qkv_proj' : 'self_attn.v_proj'
    add(at(`${producer}.weight`), { ...inward('input_layernorm'), ...values })
    if (r2 !== null) add(at(`${producer}.bias`), values)
    add(at('self_attn.o_proj.weight'), { ...outward, columns: r2 })
  }
  if (r1 === null) return changes
  const embedding = source.tensors.has(EMBEDDING) ? EMBEDDING : HEAD
  add(EMBEDDING, { columns: r1 }, embedding)
  add(HEAD, { foldedNorm: FINAL_NORM, columns: r1 }, spec.tiedEmbeddings ? embedding : HEAD)
  add(FINAL_NORM, { ones: true })
  return changes
}

/** Rows turned at a time where only columns mix: an f64 block of a few megabytes at most. */
const BLOCK_ELEMENTS = 1 << 19

function changedBytes(
  source: Checkpoint,
  change: Change,
  entry: TensorEntry,
  readNorm: (name: string) => Promise<Float32Array>,
): ByteSource {
  const bytes = source.open(change.source.name)
  const cols = change.source.shape.at(-1) ?? 1
  const rowBytes = cols * DTYPE_BYTES[entry.dtype]
  const sourceRowBytes = cols * DTYPE_BYTES[change.source.dtype]
  // Where rows mix, the first read turns the whole tensor; it lives as long as its reader holds this source.
  let whole: Promise<Uint8Array> | null = null
  const turned = async (firstRow: number, lastRow: number): Promise<Uint8Array> => {
    const values = widenToF32(
      await bytes.read(firstRow * sourceRowBytes, (lastRow - firstRow) * sourceRowBytes),
      change.source.dtype,
    ).slice()
    if (change.ones) values.fill(1)
    const norm = change.foldedNorm === null ? null : await readNorm(change.foldedNorm)
    turnColumns(values, lastRow - firstRow, cols, norm, change.columns)
    if (change.rows !== null) turnRows(values, cols, change.rows.rotation, change.rows.firstRow, change.source.shape.length === 1)
    return narrowFromF32(values, entry.dtype as DenseDtype)
  }
  return {
    byteLength: entry.byteLength,
    async read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > entry.byteLength) {
        throw new RangeError(`bytes ${offset} … ${offset + length} of ${entry.name}, which has ${entry.byteLength}`)
      }
      if (change.rows !== null || change.source.shape.length === 1) {
        whole ??= turned(0, change.source.byteLength / sourceRowBytes)
        return (await whole).slice(offset, offset + length)
      }
      const result = new Uint8Array(length)
      const rowsAtOnce = Math.max(1, Math.floor(BLOCK_ELEMENTS / cols))
      const lastRow = Math.ceil((offset + length) / rowBytes)
      for (let row = Math.floor(offset / rowBytes); row < lastRow; row += rowsAtOnce) {
        const end = Math.min(lastRow, row + rowsAtOnce)
        const block = await turned(row, end)
        const from = Math.max(offset, row * rowBytes)
        const to = Math.min(offset + length, end * rowBytes)
        result.set(block.subarray(from - row * rowBytes, to - row * rowBytes), from - offset)
      }
      return result
    },
  }
}

/** Each row ← (row ∘ norm)·R, R in blocks along the row where it is smaller (heads). */
function turnColumns(values: Float32Array, rows: number, cols: number, norm: Float32Array | null, rotation: Orthogonal | null): void {
  if (norm === null && rotation === null) return
  const row = new Float64Array(cols)
  for (let start = 0; start < rows * cols; start += cols) {
    for (let c = 0; c < cols; c++) row[c] = (values[start + c] as number) * (norm === null ? 1 : (norm[c] as number))
    if (rotation !== null) rotation.apply(row, cols / rotation.size)
    values.set(row, start)
  }
}

/** Each column ← Rᵀ·column in blocks of R's size, from `firstRow` on. A vector (bias) is one column. */
function turnRows(values: Float32Array, width: number, rotation: Orthogonal, firstRow: number, vector: boolean): void {
  const cols = vector ? 1 : width
  const { size } = rotation
  const rows = values.length / cols
  const column = new Float64Array(size)
  for (let start = firstRow; start < rows; start += size) {
    for (let c = 0; c < cols; c++) {
      for (let i = 0; i < size; i++) column[i] = values[(start + i) * cols + c] as number
      rotation.apply(column, 1)
      for (let i = 0; i < size; i++) values[(start + i) * cols + c] = column[i] as number
    }
  }
}

async function readValues(source: Checkpoint, name: string): Promise<Float32Array> {
  const entry = source.tensors.get(name)
  if (entry === undefined) {
    throw new LatheError('checkpoint.missing-tensor', `"${name}" is missing.`, 'The checkpoint is incomplete. Download it again.')
  }
  return widenToF32(await source.open(name).read(0, entry.byteLength), entry.dtype).slice()
}

/** SplitMix32: a good stream from any seed, the same everywhere. */
function randomOf(seed: number): () => number {
  let state = (seed ^ 0x5bd1e995) >>> 0
  return () => {
    state = (state + 0x9e3779b9) >>> 0
    let z = state
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return ((z ^ (z >>> 15)) >>> 0) / 4294967296
  }
}
