/**
 * One stored matrix as a part of a program's weight, whatever format it is stored in (specs/compressed-tensors.md §4), and how its input is to
 * be rounded. The module's config group says what the tensors mean; their dtypes and shapes must agree. Bytes are handed over as stored, except
 * that scales of tensors and blocks are spread over their rows, and plain int8 becomes offset binary as it is read.
 */
import type { ByteSource, QuantizationArgs, QuantizationGroup, TensorEntry } from '../checkpoint/types.ts'
import { LatheError } from '../contract/errors.ts'
import type { InputQuantization, IntegerBits, WeightBytes, WeightFormat, WeightPart } from '../gpu/program.ts'

/** What the mapping reads of a checkpoint. `entry` throws where a tensor is missing, and remembers that it was used. */
export interface PartSource {
  has(name: string): boolean
  entry(name: string): TensorEntry
  open(name: string): ByteSource
}

export interface StoredPart {
  readonly part: WeightPart
  readonly inputQuantization: InputQuantization | null
}

type DenseFormat = Extract<WeightFormat, { kind: 'dense' }>
const DENSE_DTYPES = { F32: 'f32', F16: 'f16', BF16: 'bf16' } as const
const INTEGER_BITS: readonly IntegerBits[] = [2, 3, 4, 5, 6, 7, 8]

/** A vector or matrix stored as it is. */
export function densePart(source: PartSource, name: string, shape: readonly number[]): WeightPart {
  const entry = source.entry(name)
  checkShape(entry, [shape])
  const rows = shape.length === 1 ? 1 : (shape[0] ?? 0)
  const format: DenseFormat = { kind: 'dense', dtype: denseDtype(entry) }
  return { name, rows, cols: shape.at(-1) ?? 0, format, values: source.open(name), scale: null, zeroPoint: null }
}

/** Whether the module's weight is stored as codes. */
export function isQuantized(source: PartSource, prefix: string): boolean {
  return source.has(`${prefix}.weight_packed`) || source.has(`${prefix}.weight_scale`)
}

/** The [rows, cols] matrix of a quantized module. Throws `checkpoint.invalid-tensor`, `checkpoint.missing-tensor`, `checkpoint.unsupported-scheme`. */
export function quantizedPart(source: PartSource, prefix: string, rows: number, cols: number, group: QuantizationGroup | null): StoredPart {
  const args = group?.weights ?? null
  if (group === null || args === null) {
    throw new LatheError(
      'checkpoint.invalid-tensor',
      `${prefix} is stored quantized, but quantization_config describes no such weights.`,
      'config.json and the weights disagree: get both from the same checkpoint.',
    )
  }
  return {
    part: partOf(source, prefix, rows, cols, group.format, args),
    inputQuantization: inputOf(source, prefix, group.inputActivations),
  }
}

function partOf(source: PartSource, prefix: string, rows: number, cols: number, format: string, args: QuantizationArgs): WeightPart {
  switch (format) {
    case 'pack-quantized':
      return packedIntegers(source, prefix, rows, cols, args)
    case 'int-quantized':
      return plainIntegers(source, prefix, rows, cols, args)
    case 'float-quantized':
    case 'naive-quantized':
    case 'mxfp8-quantized':
      if (args.type !== 'float' || args.numBits !== 8) throw unsupported(prefix, `it is ${format} with ${args.numBits}-bit ${args.type}s`)
      return floats(source, prefix, rows, cols, args, 'e4m3', format === 'mxfp8-quantized' ? 'e8m0' : null)
    case 'nvfp4-pack-quantized':
      return floats(source, prefix, rows, cols, args, 'e2m1', 'e4m3')
    case 'mxfp4-pack-quantized':
      return floats(source, prefix, rows, cols, args, 'e2m1', 'e8m0')
    default:
      throw unsupported(prefix, `it is stored as ${format}`)
  }
}

function packedIntegers(source: PartSource, prefix: string, rows: number, cols: number, args: QuantizationArgs): WeightPart {
  const packed = source.entry(`${prefix}.weight_packed`)
  const bits = bitsOf(prefix, args)
  checkDtype(packed, 'I32')
  checkShape(packed, [[rows, Math.ceil((cols * bits) / 32)]])
  if (source.has(`${prefix}.weight_shape`)) checkShape(source.entry(`${prefix}.weight_shape`), [[2]])
  const { groupSize, groups, scale, scaleDtype } = scalesOf(source, prefix, rows, cols, args)
  const hasZeroPoint = !args.symmetric
  const zeroName = `${prefix}.weight_zero_point`
  let zeroPoint: WeightBytes | null = null
  if (hasZeroPoint) {
    const entry = source.entry(zeroName)
    checkDtype(entry, 'I32')
    checkShape(entry, [[Math.ceil((rows * bits) / 32), groups]])
    if (args.strategy === 'tensor') throw unsupported(prefix, 'one zero point serves the whole matrix')
    zeroPoint = source.open(zeroName)
  } else if (source.has(zeroName)) throw invalid(source.entry(zeroName), 'is there, but the scheme is symmetric')
  const part: WeightPart = {
    name: packed.name,
    rows,
    cols,
    format: { kind: 'packed-int', bits, groupSize, hasZeroPoint, scaleDtype },
    values: source.open(packed.name),
    scale,
    zeroPoint,
  }
  const indexName = `${prefix}.weight_g_idx`
  if (!source.has(indexName)) return part
  const index = source.entry(indexName)
  if (args.strategy !== 'group') throw invalid(index, `is there, but the strategy is "${args.strategy}"`)
  checkDtype(index, 'I32')
  checkShape(index, [[cols]])
  return { ...part, groupIndex: checkedIndex(source.open(indexName), index, cols, groups, groupSize) }
}

function plainIntegers(source: PartSource, prefix: string, rows: number, cols: number, args: QuantizationArgs): WeightPart {
  const weight = source.entry(`${prefix}.weight`)
  checkDtype(weight, 'I8')
  checkShape(weight, [[rows, cols]])
  if (!args.symmetric) throw unsupported(prefix, 'its plain integers have zero points')
  const { groupSize, scale, scaleDtype } = scalesOf(source, prefix, rows, cols, args)
  const format = { kind: 'packed-int', bits: 8, groupSize, hasZeroPoint: false, scaleDtype } as const
  return { name: weight.name, rows, cols, format, values: offsetBinary(source.open(weight.name), rows, cols), scale, zeroPoint: null }
}

function floats(
  source: PartSource,
  prefix: string,
  rows: number,
  cols: number,
  args: QuantizationArgs,
  element: 'e4m3' | 'e2m1',
  scaleType: 'e4m3' | 'e8m0' | null,
): WeightPart {
  const codes = source.entry(element === 'e2m1' ? `${prefix}.weight_packed` : `${prefix}.weight`)
  checkDtype(codes, element === 'e2m1' ? 'U8' : 'F8_E4M3')
  checkShape(codes, [[rows, element === 'e2m1' ? cols / 2 : cols]])
  const { groupSize, scale, scaleDtype } = scalesOf(source, prefix, rows, cols, args, scaleType)
  const hasGlobalScale = scaleType === 'e4m3'
  const format = { kind: 'packed-float', element, groupSize, scaleDtype, hasGlobalScale } as const
  const part: WeightPart = { name: codes.name, rows, cols, format, values: source.open(codes.name), scale, zeroPoint: null }
  if (!hasGlobalScale) return part
  const global = source.entry(`${prefix}.weight_global_scale`)
  checkDtype(global, 'F32')
  checkShape(global, [[1], []])
  return { ...part, globalScale: source.open(global.name) }
}

/** Scales as [rows, groups], whatever the strategy stores. */
function scalesOf<Stored extends 'e4m3' | 'e8m0' | null = null>(
  source: PartSource,
  prefix: string,
  rows: number,
  cols: number,
  args: QuantizationArgs,
  stored: Stored = null as Stored,
): { groupSize: number; groups: number; scale: WeightBytes; scaleDtype: DenseFormat['dtype'] | NonNullable<Stored> } {
  const entry = source.entry(`${prefix}.weight_scale`)
  if (stored !== null) checkDtype(entry, stored === 'e4m3' ? 'F8_E4M3' : 'U8')
  const scaleDtype = stored ?? denseDtype(entry)
  const bytes = source.open(entry.name)
  const result = (groupSize: number, groups: number, scale: WeightBytes) => ({ groupSize, groups, scale, scaleDtype })
  switch (args.strategy) {
    case 'channel':
      checkShape(entry, [[rows, 1], [rows]])
      return result(cols, 1, bytes)
    case 'group':
    case 'tensor_group': {
      const size = args.groupSize ?? cols
      if (cols % size !== 0) throw invalid(entry, `belongs to ${cols} columns, which groups of ${size} do not divide`)
      checkShape(entry, [[rows, cols / size]])
      return result(size, cols / size, bytes)
    }
    case 'tensor':
      checkShape(entry, [[1], [], [1, 1]])
      return result(cols, 1, spreadRows(bytes, rows, 1, rows))
    case 'block': {
      const [blockRows, blockCols] = args.blockStructure ?? [1, 1]
      const groups = Math.ceil(cols / blockCols)
      checkShape(entry, [[Math.ceil(rows / blockRows), groups]])
      return result(blockCols, groups, spreadRows(bytes, rows, groups, blockRows))
    }
    case 'token':
    case 'attn_head':
      throw unsupported(prefix, `its weights have the strategy "${args.strategy}"`)
  }
}

/** [⌈rows / height⌉, groups] → [rows, groups]: each row of scales `height` times. A small fraction of a matrix, so made whole when read. */
function spreadRows(bytes: ByteSource, rows: number, groups: number, height: number): WeightBytes {
  const stored = Math.ceil(rows / height)
  const rowBytes = bytes.byteLength / stored
  return {
    byteLength: rows * rowBytes,
    async read(offset, length) {
      if (groups === 0) return new Uint8Array(0)
      const blocks = await bytes.read(0, bytes.byteLength)
      const spread = new Uint8Array(rows * rowBytes)
      for (let row = 0; row < rows; row++) {
        const block = Math.floor(row / height)
        spread.set(blocks.subarray(block * rowBytes, (block + 1) * rowBytes), row * rowBytes)
      }
      return spread.slice(offset, offset + length)
    },
  }
}

/** [rows, cols] signed bytes as pack-quantized stores 8 bits: q + 128, rows filled up to whole words. */
function offsetBinary(bytes: ByteSource, rows: number, cols: number): WeightBytes {
  const rowBytes = Math.ceil(cols / 4) * 4
  return {
    byteLength: rows * rowBytes,
    async read(offset, length) {
      const first = Math.floor(offset / rowBytes)
      const end = Math.ceil((offset + length) / rowBytes)
      const codes = await bytes.read(first * cols, (end - first) * cols)
      const out = new Uint8Array((end - first) * rowBytes)
      for (let row = 0; row < end - first; row++) {
        for (let col = 0; col < cols; col++) out[row * rowBytes + col] = (codes[row * cols + col] as number) ^ 0x80
      }
      return out.subarray(offset - first * rowBytes, offset - first * rowBytes + length)
    },
  }
}

/** Group indices, checked as they are read: a kernel must never see one that points nowhere. −1 everywhere means consecutive groups. */
function checkedIndex(bytes: ByteSource, entry: TensorEntry, cols: number, groups: number, groupSize: number): WeightBytes {
  return {
    byteLength: bytes.byteLength,
    async read(offset, length) {
      const all = (await bytes.read(0, bytes.byteLength)).slice()
      const view = new DataView(all.buffer, all.byteOffset, all.byteLength)
      const indices = Array.from({ length: cols }, (_, col) => view.getInt32(col * 4, true))
      const unused = indices.every((index) => index === -1)
      const counts = new Uint32Array(groups)
      for (const [col, index] of indices.entries()) {
        const group = unused ? Math.floor(col / groupSize) : index
        if (!(group >= 0 && group < groups)) throw invalid(entry, `assigns column ${col} to group ${group} of ${groups}`)
        counts[group] = (counts[group] ?? 0) + 1
        view.setInt32(col * 4, group, true)
      }
      const uneven = counts.findIndex((count) => count !== groupSize)
      if (uneven >= 0) throw invalid(entry, `gives group ${uneven} ${counts[uneven]} columns instead of ${groupSize}`)
      return all.subarray(offset, offset + length)
    },
  }
}

function inputOf(source: PartSource, prefix: string, args: QuantizationArgs | null): InputQuantization | null {
  if (args === null) return null
  const { numBits, type, strategy, groupSize, dynamic } = args
  if (!args.symmetric) throw unsupported(prefix, 'its activations are asymmetric')
  const element =
    type === 'int' && numBits === 8
      ? 'int8'
      : type === 'float' && numBits === 8
        ? 'e4m3'
        : type === 'float' && numBits === 4
          ? 'e2m1'
          : null
  if (element === null) throw unsupported(prefix, `its activations are ${numBits}-bit ${type}s`)
  const base = { element, groupSize: null, scaleDtype: 'f32', staticScale: null, staticDtype: 'f32' } as const
  if (strategy === 'token' && element !== 'e2m1') return { ...base, scale: 'token' }
  if (strategy === 'tensor' && dynamic === false && element !== 'e2m1') {
    return { ...base, scale: 'tensor', ...staticScale(source, `${prefix}.input_scale`) }
  }
  if (strategy === 'tensor_group' && dynamic === 'local' && element === 'e2m1') {
    return { ...base, scale: 'group', groupSize, scaleDtype: 'e4m3', ...staticScale(source, `${prefix}.input_global_scale`) }
  }
  if (strategy === 'group' && dynamic === true && element !== 'int8') {
    const microscaled = args.scaleDtype === 'torch.uint8' || element === 'e2m1'
    return { ...base, scale: 'group', groupSize, scaleDtype: microscaled ? 'e8m0' : 'f32' }
  }
  const when = dynamic === false ? 'static' : 'dynamic'
  throw unsupported(prefix, `its activations are ${numBits}-bit ${type}s with a ${when} scale per ${strategy}`)
}

function staticScale(source: PartSource, name: string): Pick<InputQuantization, 'staticScale' | 'staticDtype'> {
  const entry = source.entry(name)
  checkShape(entry, [[1], []])
  return { staticScale: source.open(name), staticDtype: denseDtype(entry) }
}

function bitsOf(prefix: string, args: QuantizationArgs): IntegerBits {
  const bits = INTEGER_BITS.find((each) => each === args.numBits)
  if (args.type !== 'int' || bits === undefined) throw unsupported(prefix, `it is packed with ${args.numBits}-bit ${args.type}s`)
  return bits
}

function denseDtype(entry: TensorEntry): DenseFormat['dtype'] {
  const { dtype } = entry
  if (dtype === 'F32' || dtype === 'F16' || dtype === 'BF16') return DENSE_DTYPES[dtype]
  throw unsupported(entry.name, `it is stored as ${dtype}`)
}

function checkDtype(entry: TensorEntry, dtype: TensorEntry['dtype']): void {
  if (entry.dtype === dtype) return
  throw new LatheError(
    'checkpoint.invalid-tensor',
    `${entry.name} is stored as ${entry.dtype}; its format stores it as ${dtype}.`,
    'The file was written by a tool that does not follow the compressed-tensors format.',
  )
}

function checkShape(entry: TensorEntry, legal: readonly (readonly number[])[]): void {
  const equal = legal.some((shape) => entry.shape.length === shape.length && entry.shape.every((size, i) => size === shape[i]))
  if (equal) return
  const expected = legal.map((shape) => `[${shape.join(', ')}]`).join(' or ')
  throw new LatheError(
    'checkpoint.invalid-tensor',
    `${entry.name} has shape [${entry.shape.join(', ')}], config.json calls for ${expected}.`,
    'Check that config.json belongs to these weights.',
    { data: { tensor: entry.name, found: [...entry.shape], expected } },
  )
}

function invalid(entry: TensorEntry, why: string): LatheError {
  return new LatheError('checkpoint.invalid-tensor', `${entry.name} ${why}.`, 'Get config.json and the weights from the same checkpoint.')
}

function unsupported(name: string, reason: string): LatheError {
  return new LatheError(
    'checkpoint.unsupported-scheme',
    `Lathe can't run ${name}: ${reason}.`,
    'Start from the original, uncompressed model, or from one compressed with a scheme that Lathe runs.',
  )
}
