/**
 * Groups a checkpoint's tensors into stored linears: which matrices there are, how each is stored, and that every tensor of it agrees with
 * the others (specs/compressed-tensors.md §4). How the tensors are stored decides; the quantization config must explain it. Norms, embeddings
 * and other tensors are not its business, except that a 2-D `weight` of any module counts as a matrix.
 */
import { LatheError } from '../contract/errors.ts'
import { isDenseDtype } from './dtypes.ts'
import { packedWords } from './packing.ts'
import type { StorageFormat } from './quantization-config.ts'
import { schemesFor } from './quantization-config.ts'
import type { Checkpoint, QuantizationArgs, QuantizationGroup, TensorEntry } from './types.ts'

export interface StoredLinearTensors {
  /** `dense`: BF16/F16/F32 [rows, cols]; int-quantized: I8; float-/naive-quantized: F8_E4M3. Null when packed. */
  readonly weight: TensorEntry | null
  /** pack-quantized: I32 [rows, ceil(cols·bits/32)]; FP4 formats: U8 [rows, cols/2]. */
  readonly packed: TensorEntry | null
  /** [rows, groups]; a channel scale may be [rows], a tensor scale [1]; block [ceil(rows/r), ceil(cols/c)]. */
  readonly scale: TensorEntry | null
  /** Asymmetric: I32 packed down the columns (pack-quantized) or I8 of the scale's shape (int-quantized). */
  readonly zeroPoint: TensorEntry | null
  /** I32 [cols]: group of each column, when groups are not consecutive. */
  readonly groupIndex: TensorEntry | null
  readonly bias: TensorEntry | null
  /** Static activation scales and other extras, by their suffix ("input_scale"). */
  readonly extras: Readonly<Record<string, TensorEntry>>
}

export interface StoredLinear {
  /** Module name, without `.weight`. */
  readonly name: string
  readonly rows: number
  readonly cols: number
  readonly format: StorageFormat
  /** The config group it belongs to; null when dense. */
  readonly group: QuantizationGroup | null
  /** `group.weights`; null when dense. */
  readonly args: QuantizationArgs | null
  /** Consecutive columns per scale (cols for channel and tensor); null when dense or in blocks. */
  readonly groupSize: number | null
  readonly tensors: StoredLinearTensors
  /** Bytes of weight, scales, zero points, indices and shape; not bias. */
  readonly byteLength: number
}

/** Suffixes that only quantized modules have; `weight` and `bias` belong to both kinds. */
const QUANTIZED_SUFFIXES = [
  'weight_packed',
  'weight_scale',
  'weight_zero_point',
  'weight_g_idx',
  'weight_shape',
  'weight_global_scale',
  'input_scale',
  'input_zero_point',
  'input_global_scale',
  'output_scale',
  'output_zero_point',
] as const
const SUFFIXES: readonly string[] = ['weight', 'bias', ...QUANTIZED_SUFFIXES]
/** Pending reads of 16-byte shape tensors. */
const PARALLEL_READS = 32

/**
 * Every matrix of the checkpoint, in order of name as stored. Throws `checkpoint.invalid-tensor` where tensors contradict each other or
 * the config, `checkpoint.missing-tensor` where one is absent. A format that cannot be dequantized yet is listed; `dequantize.ts` refuses it.
 */
export function storedLinears(checkpoint: Checkpoint): Promise<readonly StoredLinear[]> {
  return linearsAmong(checkpoint, [...checkpoint.tensors.values()])
}

/** The stored linear of one module, or null where the module has no matrix. Throws like `storedLinears`. */
export async function storedLinear(checkpoint: Checkpoint, moduleName: string): Promise<StoredLinear | null> {
  const tensors = SUFFIXES.map((suffix) => checkpoint.tensors.get(`${moduleName}.${suffix}`)).filter((tensor) => tensor !== undefined)
  const [linear = null] = await linearsAmong(checkpoint, tensors)
  return linear
}

async function linearsAmong(checkpoint: Checkpoint, tensors: readonly TensorEntry[]): Promise<readonly StoredLinear[]> {
  const modules = new Map<string, Map<string, TensorEntry>>()
  for (const tensor of tensors) {
    const dot = tensor.name.lastIndexOf('.')
    const suffix = tensor.name.slice(dot + 1)
    if (dot < 0 || !SUFFIXES.includes(suffix)) continue
    const name = tensor.name.slice(0, dot)
    const parts = modules.get(name) ?? new Map<string, TensorEntry>()
    parts.set(suffix, tensor)
    modules.set(name, parts)
  }
  const matrices = [...modules].filter(([, parts]) => isMatrix(parts))
  const { quantization } = checkpoint
  const groups =
    quantization === null
      ? matrices.map(() => null)
      : schemesFor(
          quantization,
          matrices.map(([name]) => ({ name, className: classOf(name) })),
        )
  const linears: StoredLinear[] = []
  for (let from = 0; from < matrices.length; from += PARALLEL_READS) {
    const batch = matrices.slice(from, from + PARALLEL_READS)
    linears.push(...(await Promise.all(batch.map(([name, parts], i) => describe(checkpoint, name, parts, groups[from + i] ?? null)))))
  }
  return linears
}

/** The torch class that a module of this name has in transformers, as far as target matching needs it. */
export function classOf(moduleName: string): string {
  const last = moduleName.slice(moduleName.lastIndexOf('.') + 1)
  return /^(?:embed_tokens|tok_embeddings|word_embeddings|wte|wpe|embed_positions|embed_in)$/.test(last) ? 'Embedding' : 'Linear'
}

function isMatrix(parts: ReadonlyMap<string, TensorEntry>): boolean {
  return parts.has('weight_packed') || parts.has('weight_scale') || parts.get('weight')?.shape.length === 2
}

async function describe(
  checkpoint: Checkpoint,
  name: string,
  parts: ReadonlyMap<string, TensorEntry>,
  group: QuantizationGroup | null,
): Promise<StoredLinear> {
  const weight = parts.get('weight') ?? null
  const packed = parts.get('weight_packed') ?? null
  if (weight !== null && packed !== null) throw bad(name, 'has both a plain and a packed weight')
  if (weight !== null && isDenseDtype(weight.dtype) && !parts.has('weight_scale')) return describeDense(name, weight, parts)
  const args = group?.weights ?? null
  if (group === null || args === null) {
    if (weight !== null && !parts.has('weight_scale')) throw bad(name, `has a weight of dtype ${weight.dtype} without scales`)
    throw bad(name, 'is stored quantized, but the quantization config does not cover it')
  }
  const format = group.format as StorageFormat
  const extras = Object.fromEntries([...parts].filter(([suffix]) => /^(?:input|output)_|_global_scale$/.test(suffix)))
  const tensors: StoredLinearTensors = {
    weight,
    packed,
    scale: parts.get('weight_scale') ?? null,
    zeroPoint: parts.get('weight_zero_point') ?? null,
    groupIndex: parts.get('weight_g_idx') ?? null,
    bias: parts.get('bias') ?? null,
    extras,
  }
  const { rows, cols } = await shapeOf(checkpoint, name, format, args, parts, tensors)
  const byteLength = [...parts].reduce((sum, [suffix, tensor]) => (suffix === 'bias' ? sum : sum + tensor.byteLength), 0)
  const linear: StoredLinear = { name, rows, cols, format, group, args, groupSize: groupSizeOf(name, args, cols), tensors, byteLength }
  checkScales(linear)
  checkZeroPoint(linear)
  checkGroupIndex(linear)
  checkBias(name, tensors.bias, rows)
  return linear
}

function describeDense(name: string, weight: TensorEntry, parts: ReadonlyMap<string, TensorEntry>): StoredLinear {
  const leftover = QUANTIZED_SUFFIXES.find((suffix) => suffix.startsWith('weight_') && parts.has(suffix))
  if (leftover !== undefined) throw bad(name, `has a plain ${weight.dtype} weight and also ${leftover}`)
  const [rows = 0, cols = 0] = weight.shape
  const bias = parts.get('bias') ?? null
  // A convolution-style matrix (GPT-2's Conv1D) is stored transposed, so its bias has one element per column.
  if (bias?.shape.length === 1 && bias.shape[0] !== cols) checkBias(name, bias, rows)
  return {
    name,
    rows,
    cols,
    format: 'dense',
    group: null,
    args: null,
    groupSize: null,
    tensors: { weight, packed: null, scale: null, zeroPoint: null, groupIndex: null, bias, extras: {} },
    byteLength: weight.byteLength,
  }
}

async function shapeOf(
  checkpoint: Checkpoint,
  name: string,
  format: StorageFormat,
  args: QuantizationArgs,
  parts: ReadonlyMap<string, TensorEntry>,
  tensors: StoredLinearTensors,
): Promise<{ rows: number; cols: number }> {
  const { weight, packed } = tensors
  switch (format) {
    case 'pack-quantized': {
      if (packed === null) throw missing(name, 'weight_packed')
      if (args.type !== 'int') throw bad(name, 'is pack-quantized, but its scheme is floating point')
      const [packedRows, words] = matrixShape(name, 'weight_packed', packed)
      if (packed.dtype !== 'I32') throw bad(name, `has weight_packed of dtype ${packed.dtype} instead of I32`)
      const { rows, cols } = await readShape(checkpoint, name, parts)
      if (packedRows !== rows) throw bad(name, `has ${packedRows} packed rows, but weight_shape says ${rows}`)
      const needed = packedWords(cols, args.numBits)
      if (words !== needed) {
        throw bad(name, `has ${words} packed words a row; ${cols} columns of ${args.numBits} bits need ${needed}`)
      }
      return { rows, cols }
    }
    case 'int-quantized':
    case 'float-quantized':
    case 'naive-quantized':
    case 'mxfp8-quantized': {
      if (weight === null) throw missing(name, 'weight')
      const dtype = args.type === 'int' ? 'I8' : 'F8_E4M3'
      if (weight.dtype !== dtype) throw bad(name, `is ${format} with a weight of dtype ${weight.dtype} instead of ${dtype}`)
      const [rows, cols] = matrixShape(name, 'weight', weight)
      return { rows, cols }
    }
    case 'nvfp4-pack-quantized':
    case 'mxfp4-pack-quantized': {
      if (packed === null) throw missing(name, 'weight_packed')
      if (packed.dtype !== 'U8') throw bad(name, `is ${format} with weight_packed of dtype ${packed.dtype} instead of U8`)
      const [rows, bytes] = matrixShape(name, 'weight_packed', packed)
      return { rows, cols: bytes * 2 }
    }
    case 'dense':
      throw bad(name, 'is stored quantized, but its config group says "dense"')
  }
}

/** The original [rows, cols], which packing alone does not tell when columns don't fill the last word. */
async function readShape(
  checkpoint: Checkpoint,
  name: string,
  parts: ReadonlyMap<string, TensorEntry>,
): Promise<{ rows: number; cols: number }> {
  const shape = parts.get('weight_shape')
  if (shape === undefined) throw missing(name, 'weight_shape')
  if (shape.shape.length !== 1 || shape.shape[0] !== 2)
    throw bad(name, `has weight_shape [${shape.shape.join(', ')}] instead of two numbers`)
  if (shape.dtype !== 'I64' && shape.dtype !== 'I32') throw bad(name, `has weight_shape of dtype ${shape.dtype} instead of I64`)
  const bytes = await checkpoint.open(shape.name).read(0, shape.byteLength)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const at = (i: number): number => (shape.dtype === 'I64' ? Number(view.getBigInt64(i * 8, true)) : view.getInt32(i * 4, true))
  const [rows, cols] = [at(0), at(1)]
  if (!(rows >= 0 && cols >= 0 && Number.isSafeInteger(rows * cols))) throw bad(name, `has the impossible weight_shape [${rows}, ${cols}]`)
  return { rows, cols }
}

function groupSizeOf(name: string, args: QuantizationArgs, cols: number): number | null {
  switch (args.strategy) {
    case 'group':
    case 'tensor_group': {
      const size = args.groupSize ?? 0
      if (size <= 0 || cols % size !== 0) throw bad(name, `has ${cols} columns, which groups of ${size} do not divide`)
      return size
    }
    case 'channel':
    case 'tensor':
      return cols
    case 'block':
      return null
    case 'token':
    case 'attn_head':
      throw bad(name, `has the strategy "${args.strategy}", which weights cannot have`)
  }
}

function checkScales(linear: StoredLinear): void {
  const { name, rows, cols, args, groupSize, tensors, format } = linear
  const { scale } = tensors
  if (scale === null) throw missing(name, 'weight_scale')
  if (args === null) return
  const eightBit =
    format === 'mxfp4-pack-quantized' || format === 'mxfp8-quantized' ? 'U8' : format === 'nvfp4-pack-quantized' ? 'F8_E4M3' : null
  if (eightBit === null ? !isDenseDtype(scale.dtype) : scale.dtype !== eightBit) {
    throw bad(name, `has scales of dtype ${scale.dtype} instead of ${eightBit ?? 'BF16, F16 or F32'}`)
  }
  const legal = scaleShapes(rows, cols, args, groupSize)
  if (!legal.some((shape) => sameShape(shape, scale.shape))) {
    const expected = legal.map((shape) => `[${shape.join(', ')}]`).join(' or ')
    throw bad(
      name,
      `has scales of shape [${scale.shape.join(', ')}]; ${rows} × ${cols} with the strategy "${args.strategy}" needs ${expected}`,
    )
  }
}

function scaleShapes(rows: number, cols: number, args: QuantizationArgs, groupSize: number | null): readonly (readonly number[])[] {
  switch (args.strategy) {
    case 'tensor':
      return [[1], [], [1, 1]]
    case 'channel':
      return [[rows, 1], [rows]]
    case 'block': {
      const [blockRows, blockCols] = args.blockStructure ?? [1, 1]
      return [[Math.ceil(rows / blockRows), Math.ceil(cols / blockCols)]]
    }
    default:
      return [[rows, cols / (groupSize ?? cols)]]
  }
}

function checkZeroPoint(linear: StoredLinear): void {
  const { name, rows, cols, args, groupSize, tensors, format } = linear
  const { zeroPoint, scale } = tensors
  if (args === null || scale === null) return
  if (args.symmetric) {
    if (zeroPoint !== null) throw bad(name, 'has zero points, but its scheme is symmetric')
    return
  }
  if (zeroPoint === null) throw missing(name, 'weight_zero_point')
  if (format === 'pack-quantized') {
    const groups = args.strategy === 'group' ? cols / (groupSize ?? cols) : 1
    const expected = [packedWords(args.strategy === 'tensor' ? 1 : rows, args.numBits), groups]
    if (zeroPoint.dtype !== 'I32') throw bad(name, `has zero points of dtype ${zeroPoint.dtype} instead of I32`)
    if (!sameShape(zeroPoint.shape, expected)) {
      throw bad(name, `has zero points of shape [${zeroPoint.shape.join(', ')}] instead of [${expected.join(', ')}]`)
    }
    return
  }
  if (zeroPoint.dtype !== 'I8') throw bad(name, `has zero points of dtype ${zeroPoint.dtype} instead of I8`)
  if (!sameShape(zeroPoint.shape, scale.shape)) {
    throw bad(name, `has zero points of shape [${zeroPoint.shape.join(', ')}], but scales of [${scale.shape.join(', ')}]`)
  }
}

function checkGroupIndex(linear: StoredLinear): void {
  const { name, cols, args, tensors } = linear
  const { groupIndex } = tensors
  if (groupIndex === null) {
    if (args?.actorder === 'group') throw missing(name, 'weight_g_idx')
    return
  }
  if (args?.strategy !== 'group') throw bad(name, `has group indices, but the strategy "${args?.strategy}"`)
  if (groupIndex.dtype !== 'I32' || !sameShape(groupIndex.shape, [cols])) {
    throw bad(name, `has group indices ${groupIndex.dtype} [${groupIndex.shape.join(', ')}] instead of I32 [${cols}]`)
  }
}

function checkBias(name: string, bias: TensorEntry | null, rows: number): void {
  if (bias !== null && !sameShape(bias.shape, [rows])) {
    throw bad(name, `has a bias of shape [${bias.shape.join(', ')}], but ${rows} rows`)
  }
}

function matrixShape(name: string, suffix: string, tensor: TensorEntry): readonly [number, number] {
  const [rows, cols] = tensor.shape
  if (tensor.shape.length !== 2 || rows === undefined || cols === undefined) {
    throw bad(name, `has a ${suffix} of shape [${tensor.shape.join(', ')}]; a matrix is needed`)
  }
  return [rows, cols]
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i])
}

function bad(name: string, why: string): LatheError {
  return new LatheError(
    'checkpoint.invalid-tensor',
    `"${name}" ${why}.`,
    'The checkpoint contradicts itself. Download it again, or make it again from the original model.',
  )
}

function missing(name: string, suffix: string): LatheError {
  return new LatheError(
    'checkpoint.missing-tensor',
    `"${name}" has no ${suffix}.`,
    'The checkpoint is incomplete. Download it again, or make it again from the original model.',
  )
}
