/**
 * GPTQ and AWQ checkpoints as if compressed-tensors had stored them: the same codes, scales and zero points in the other order, made as they
 * are read, one matrix at a time. From the formats' descriptions, with K inputs, N outputs, G groups, b bits and 32/b codes a word:
 *   GPTQ  qweight I32 [K·b/32, N]  words down the inputs, lowest bits first        qzeros I32 [G, N·b/32]  along the outputs, less one (v1)
 *         scales F16 [G, N]        g_idx I32 [K]  the group of each input
 *   AWQ   qweight I32 [K, N/8]     words along the outputs, nibble i of a word is output AWQ_ORDER[i] of its eight
 *         scales F16 [G, N]        qzeros I32 [G, N/8]  in the same order, as they are
 *   w[n, k] = (code − zero)·scale
 * Both become pack-quantized with zero points: what compressed-tensors stores is the same unsigned code (specs/compressed-tensors.md §5.1).
 * 3-bit GPTQ (which straddles words its own way) and AWQ's GEMV layouts are refused by name.
 */
import { LatheError } from '../contract/errors.ts'
import { asBytes, asInt32, asUint16, DTYPE_BYTES } from './dtypes.ts'
import { packedWords } from './packing.ts'
import type { ByteSource, Checkpoint, QuantizationConfig, TensorEntry } from './types.ts'

type Json = Readonly<Record<string, unknown>>

/** Which output of its eight a nibble of an AWQ word holds, from the lowest. */
const AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7] as const

interface ForeignPacking {
  readonly method: 'gptq' | 'awq'
  readonly bits: 2 | 4 | 8
  /** Inputs per scale; null = all of them. */
  readonly groupSize: number | null
  /** What is missing from a stored zero point: 1 in GPTQ's first format. */
  readonly zeroOffset: 0 | 1
  /** Groups follow activation order: `g_idx` says which input is in which. */
  readonly reordered: boolean
}

export function isForeignMethod(method: unknown): method is 'gptq' | 'awq' {
  return method === 'gptq' || method === 'awq'
}

/** Why these weights cannot be read, or null. For answers that must not throw. */
export function foreignProblem(raw: Json): string | null {
  const parsed = parse(raw)
  return typeof parsed === 'string' ? parsed : null
}

/** The equivalent compressed-tensors config. Throws `checkpoint.unsupported-scheme`. */
export function foreignQuantization(raw: Json): QuantizationConfig {
  const packing = packingOf(raw)
  const { bits, groupSize, reordered } = packing
  const grouped = groupSize !== null
  return {
    format: 'pack-quantized',
    groups: [
      {
        name: 'group_0',
        targets: ['Linear'],
        weights: {
          numBits: bits,
          type: 'int',
          symmetric: false,
          strategy: grouped ? 'group' : 'channel',
          groupSize,
          blockStructure: null,
          dynamic: false,
          actorder: grouped && reordered ? 'group' : null,
          scaleDtype: null,
        },
        inputActivations: null,
        format: 'pack-quantized',
      },
    ],
    ignore: [],
    keyValueScheme: null,
  }
}

/** The checkpoint with its foreign tensors replaced. Throws `checkpoint.invalid-tensor` where their shapes contradict each other. */
export function foreignView(checkpoint: Checkpoint, raw: Json): Checkpoint {
  const packing = packingOf(raw)
  const keep = keepRecent()
  const tensors = new Map<string, TensorEntry>()
  const sources = new Map<string, () => ByteSource>()
  for (const [name, entry] of checkpoint.tensors) {
    const suffix = /\.(qweight|qzeros|scales|g_idx)$/.exec(name)?.[1]
    const module = suffix === undefined ? null : name.slice(0, -suffix.length - 1)
    if (module === null || !checkpoint.tensors.has(`${module}.qweight`)) {
      tensors.set(name, entry)
      continue
    }
    if (suffix !== 'qweight') continue
    for (const { entry: replaced, source } of replacements(checkpoint, packing, module, keep)) {
      tensors.set(replaced.name, replaced)
      sources.set(replaced.name, source)
    }
  }
  return {
    ...checkpoint,
    tensors,
    open: (name) => sources.get(name)?.() ?? checkpoint.open(name),
    [Symbol.asyncDispose]: () => checkpoint[Symbol.asyncDispose](),
  }
}

function packingOf(raw: Json): ForeignPacking {
  const parsed = parse(raw)
  if (typeof parsed !== 'string') return parsed
  throw new LatheError(
    'checkpoint.unsupported-scheme',
    `The model is quantized with "${String(raw['quant_method'])}", in a way that Lathe does not read: ${parsed}.`,
    'Lathe reads GPTQ of 2, 4 and 8 bits and AWQ of 4 bits (GEMM layout). Start from the original (BF16, F16 or F32) model.',
  )
}

function parse(raw: Json): ForeignPacking | string {
  const { quant_method: method, bits, group_size: size = -1 } = raw
  if (!isForeignMethod(method)) return 'its method is neither gptq nor awq'
  if (bits !== 2 && bits !== 4 && bits !== 8) return `${String(bits)}-bit weights`
  if (typeof size !== 'number' || !Number.isInteger(size) || (size <= 0 && size !== -1)) return `groups of ${String(size)}`
  const groupSize = size === -1 ? null : size
  if (method === 'awq') {
    const version = typeof raw['version'] === 'string' ? raw['version'].toLowerCase() : 'gemm'
    if (bits !== 4) return `${bits}-bit AWQ weights`
    if (version !== 'gemm') return `the layout "${version.slice(0, 40)}"`
    return { method, bits, groupSize, zeroOffset: 0, reordered: false }
  }
  const dynamic = raw['dynamic']
  if (typeof dynamic === 'object' && dynamic !== null && Object.keys(dynamic).length > 0) return 'settings of their own for some modules'
  const format = raw['checkpoint_format'] ?? 'gptq'
  if (format !== 'gptq' && format !== 'gptq_v2') return `the layout "${String(format).slice(0, 40)}"`
  return { method, bits, groupSize, zeroOffset: format === 'gptq' ? 1 : 0, reordered: raw['desc_act'] === true }
}

interface Replacement {
  readonly entry: TensorEntry
  readonly source: () => ByteSource
}

function replacements(checkpoint: Checkpoint, packing: ForeignPacking, module: string, keep: KeepRecent): readonly Replacement[] {
  const { bits } = packing
  const perWord = 32 / bits
  const qweight = matrix(checkpoint, `${module}.qweight`, ['I32', 'U32'])
  const scales = matrix(checkpoint, `${module}.scales`, ['F16', 'BF16', 'F32'])
  const qzeros = matrix(checkpoint, `${module}.qzeros`, ['I32', 'U32'])
  const [first, second] = [qweight.shape[0] ?? 0, qweight.shape[1] ?? 0]
  const inputs = packing.method === 'gptq' ? first * perWord : first
  const outputs = packing.method === 'gptq' ? second : second * perWord
  const groups = scales.shape[0] ?? 0
  const expected = packing.groupSize === null ? 1 : inputs / packing.groupSize
  if (groups !== expected || scales.shape[1] !== outputs) {
    throw bad(
      module,
      `has scales of shape [${scales.shape.join(', ')}]; ${outputs} outputs and ${expected} groups need [${expected}, ${outputs}]`,
    )
  }
  if (qzeros.shape[0] !== groups || qzeros.shape[1] !== outputs / perWord) {
    throw bad(module, `has zero points of shape [${qzeros.shape.join(', ')}] instead of [${groups}, ${outputs / perWord}]`)
  }
  const size: MatrixSize = { inputs, outputs, groups }
  const made = (suffix: string, dtype: TensorEntry['dtype'], shape: readonly number[], make: () => Promise<Uint8Array>): Replacement => {
    const byteLength = shape.reduce((product, length) => product * length, DTYPE_BYTES[dtype])
    const entry = { name: `${module}.${suffix}`, dtype, shape, byteLength, file: qweight.file }
    return { entry, source: () => madeOnRead(byteLength, () => keep(entry.name, make)) }
  }
  const whole = (entry: TensorEntry): Promise<Uint8Array> => checkpoint.open(entry.name).read(0, entry.byteLength)
  const result = [
    made('weight_packed', 'I32', [outputs, packedWords(inputs, bits)], async () => packCodes(asInt32(await whole(qweight)), packing, size)),
    made('weight_scale', scales.dtype, [outputs, groups], async () => transposed(await whole(scales), scales.dtype, groups, outputs)),
    made('weight_zero_point', 'I32', [packedWords(outputs, bits), groups], async () =>
      packZeros(asInt32(await whole(qzeros)), packing, size),
    ),
    made('weight_shape', 'I64', [2], () => Promise.resolve(asBytes(BigInt64Array.of(BigInt(outputs), BigInt(inputs))))),
  ]
  const index = checkpoint.tensors.get(`${module}.g_idx`)
  if (packing.method === 'awq' || !packing.reordered || packing.groupSize === null) return result
  if (index === undefined || index.dtype !== 'I32' || index.shape.length !== 1 || index.shape[0] !== inputs) {
    throw bad(module, `is grouped by activation order, but has no g_idx of ${inputs} numbers`)
  }
  return [...result, made('weight_g_idx', 'I32', [inputs], () => whole(index))]
}

interface MatrixSize {
  readonly inputs: number
  readonly outputs: number
  readonly groups: number
}

/** Runs `make`, or returns what it gave the last time if few others were asked for since. */
type KeepRecent = (name: string, make: () => Promise<Uint8Array>) => Promise<Uint8Array>

/** Readers go through a matrix's tensors side by side, in pieces, and then on to the next matrix. */
const KEPT_TENSORS = 4

function keepRecent(): KeepRecent {
  const recent = new Map<string, Promise<Uint8Array>>()
  return (name, make) => {
    const found = recent.get(name) ?? make()
    recent.delete(name)
    recent.set(name, found)
    const [oldest] = recent.keys()
    if (recent.size > KEPT_TENSORS && oldest !== undefined) recent.delete(oldest)
    // A failed read is told to whoever asked, and tried again by the next.
    found.catch(() => recent.delete(name))
    return found
  }
}

/** Ranges of a tensor that can only be made whole. */
function madeOnRead(byteLength: number, make: () => Promise<Uint8Array>): ByteSource {
  return {
    byteLength,
    async read(offset, length) {
      if (!(offset >= 0 && length >= 0 && offset + length <= byteLength)) {
        throw new RangeError(`bytes ${offset} + ${length} of ${byteLength}`)
      }
      return (await make()).slice(offset, offset + length)
    },
  }
}

/** Unsigned codes [outputs, inputs], words along the inputs. */
function packCodes(words: Int32Array, { method, bits }: ForeignPacking, { inputs, outputs }: MatrixSize): Uint8Array {
  const perWord = 32 / bits
  const rowWords = packedWords(inputs, bits)
  const mask = 2 ** bits - 1
  const packed = new Int32Array(outputs * rowWords)
  if (method === 'gptq') {
    // The same words: inputs already lie along each of them, and only their places are transposed.
    for (let word = 0; word < rowWords; word++) {
      for (let n = 0; n < outputs; n++) packed[n * rowWords + word] = words[word * outputs + n] as number
    }
    return asBytes(packed)
  }
  const columns = outputs / perWord
  for (let k = 0; k < inputs; k++) {
    const at = Math.floor(k / perWord)
    const shift = (k % perWord) * bits
    for (let column = 0; column < columns; column++) {
      const word = words[k * columns + column] as number
      for (let i = 0; i < perWord; i++) {
        const target = (column * perWord + (AWQ_ORDER[i] as number)) * rowWords + at
        packed[target] = (packed[target] as number) | (((word >>> (i * bits)) & mask) << shift)
      }
    }
  }
  return asBytes(packed)
}

/** Unsigned zero points [outputs, groups], packed down the outputs. The missing one of GPTQ's first format wraps as its writers did. */
function packZeros(words: Int32Array, { method, bits, zeroOffset }: ForeignPacking, { outputs, groups }: MatrixSize): Uint8Array {
  const perWord = 32 / bits
  const columns = outputs / perWord
  const mask = 2 ** bits - 1
  const packed = new Int32Array(packedWords(outputs, bits) * groups)
  for (let group = 0; group < groups; group++) {
    for (let column = 0; column < columns; column++) {
      const word = words[group * columns + column] as number
      let result = 0
      for (let i = 0; i < perWord; i++) {
        const zero = (((word >>> (i * bits)) & mask) + zeroOffset) & mask
        result |= zero << ((method === 'awq' ? (AWQ_ORDER[i] as number) : i) * bits)
      }
      packed[column * groups + group] = result
    }
  }
  return asBytes(packed)
}

function transposed(bytes: Uint8Array, dtype: TensorEntry['dtype'], rows: number, cols: number): Uint8Array {
  const from = DTYPE_BYTES[dtype] === 2 ? asUint16(bytes) : asInt32(bytes)
  const to = from.slice()
  for (let row = 0; row < rows; row++) for (let col = 0; col < cols; col++) to[col * rows + row] = from[row * cols + col] as number
  return asBytes(to)
}

function matrix(checkpoint: Checkpoint, name: string, dtypes: readonly TensorEntry['dtype'][]): TensorEntry {
  const entry = checkpoint.tensors.get(name)
  if (entry === undefined) {
    throw new LatheError(
      'checkpoint.missing-tensor',
      `The model has no tensor "${name}".`,
      'The checkpoint is incomplete. Download it again.',
    )
  }
  if (entry.shape.length !== 2 || !dtypes.includes(entry.dtype)) {
    throw bad(name, `is ${entry.dtype} [${entry.shape.join(', ')}]; a matrix of ${dtypes.join(' or ')} is needed`)
  }
  return entry
}

function bad(name: string, why: string): LatheError {
  return new LatheError(
    'checkpoint.invalid-tensor',
    `"${name}" ${why}.`,
    'config.json and the weights disagree: get both from the same checkpoint.',
  )
}
