/**
 * 2:4 sparse matrices on their way to the GPU: of every four consecutive columns at most two are not zero, so two values and two 2-bit
 * positions say all of it (specs/webgpu-kernels.md §f): 36 bits instead of 64 for 16-bit weights, 20 for 32, 12 for 16. Checkpoints store such
 * matrices dense, with their zeros; whether one is 2:4 is seen in its bytes. Kernels put the zeros back in registers and multiply in the dense
 * kernel's order, so results have the same bits.
 */
import type { WeightBytes, WeightFormat, WeightPart } from '../program.ts'

/** Columns that share two values. */
const QUAD = 4
/** Dense matrices betray themselves in their first rows; a matrix that passes is looked through whole. */
const PROBE_BYTES = 64 * 1024
const SCAN_BYTES = 16 * 2 ** 20

/** Bits of a stored code whose matrix may be packed, or null for formats that stay as they are. */
function sparseBits(format: WeightFormat): 4 | 8 | 16 | null {
  if (format.kind === 'dense') return format.dtype === 'f32' ? null : 16
  if (format.kind !== 'packed-int' || format.hasZeroPoint) return null
  return format.bits === 4 || format.bits === 8 ? format.bits : null
}

/** Whether the kernels can read this format sparse: a unit of it must not straddle scale groups. */
export function canBeSparse(format: WeightFormat, cols: number): boolean {
  const bits = sparseBits(format)
  if (bits === null) return false
  return format.kind === 'dense' || format.groupSize >= cols || format.groupSize % (128 / bits) === 0
}

function rowBytesOf(cols: number, bits: number): number {
  return bits === 16 ? cols * 2 : Math.ceil((cols * bits) / 32) * 4
}

type CodeReader = (row: number, col: number) => number

/** Codes of rows of stored bytes; the code of columns beyond the end is `zero`. */
function codesOf(data: Uint8Array, cols: number, bits: 4 | 8 | 16): CodeReader {
  const rowBytes = rowBytesOf(cols, bits)
  if (bits === 4) return (row, col) => ((data[row * rowBytes + (col >> 1)] as number) >> ((col & 1) * 4)) & 15
  if (bits === 8) return (row, col) => data[row * rowBytes + col] as number
  return (row, col) => (data[row * rowBytes + col * 2] as number) | ((data[row * rowBytes + col * 2 + 1] as number) << 8)
}

function isZero(code: number, bits: 4 | 8 | 16): boolean {
  // Either zero of a 16-bit float; the middle of offset-binary integers.
  return bits === 16 ? (code & 0x7fff) === 0 : code === 2 ** (bits - 1)
}

function allQuadsSparse(data: Uint8Array, rows: number, cols: number, bits: 4 | 8 | 16): boolean {
  const code = codesOf(data, cols, bits)
  for (let row = 0; row < rows; row++) {
    for (let first = 0; first < cols; first += QUAD) {
      let nonZero = 0
      for (let col = first; col < Math.min(cols, first + QUAD); col++) if (!isZero(code(row, col), bits)) nonZero++
      if (nonZero > 2) return false
    }
  }
  return true
}

/** Whether every part is 2:4 throughout. Reads a few rows of a dense matrix, all of a sparse one. */
export async function isSparse(parts: readonly WeightPart[], throwIfAborted: () => void): Promise<boolean> {
  for (const probe of [true, false]) {
    for (const { format, rows, cols, values } of parts) {
      const bits = sparseBits(format)
      if (bits === null) return false
      const rowBytes = rowBytesOf(cols, bits)
      const step = Math.max(1, Math.floor((probe ? PROBE_BYTES : SCAN_BYTES) / rowBytes))
      for (let row = 0; row < (probe ? Math.min(step, rows) : rows); row += step) {
        throwIfAborted()
        const count = Math.min(step, rows - row)
        if (!allQuadsSparse(await readRows(values, row, count, rowBytes), count, cols, bits)) return false
      }
    }
  }
  return true
}

function readRows(values: WeightBytes, row: number, count: number, rowBytes: number): Promise<Uint8Array> {
  return values.read(row * rowBytes, count * rowBytes)
}

export interface SparseRows {
  /** [rows, units] of 8 bytes: the kept values, two for each four columns. */
  readonly values: Uint8Array
  /** [rows, positionBytesOf] : for each four columns the places of its two values, two bits each. */
  readonly positions: Uint8Array
}

/** Bytes of a row's positions: half a byte for each four columns of its units, in whole words. */
export function positionBytesOf(units: number, unitElements: number): number {
  return Math.ceil((units * unitElements) / 32) * 4
}

export const SPARSE_UNIT_BYTES = 8

/** Rows of a matrix for which `isSparse` holds. */
export function packSparse(data: Uint8Array, rows: number, cols: number, format: WeightFormat, units: number): SparseRows {
  const bits = sparseBits(format) ?? 16
  const unitElements = 128 / bits
  const rowPositions = positionBytesOf(units, unitElements)
  const rowValues = units * SPARSE_UNIT_BYTES
  const values = new Uint8Array(rows * rowValues)
  const positions = new Uint8Array(rows * rowPositions)
  const code = codesOf(data, cols, bits)
  const zero = bits === 16 ? 0 : 2 ** (bits - 1)
  const place = (base: number, index: number, value: number): void => {
    if (bits === 16) {
      values[base + index * 2] = value & 255
      values[base + index * 2 + 1] = value >> 8
    } else if (bits === 8) values[base + index] = value
    else values[base + (index >> 1)] = (values[base + (index >> 1)] as number) | (value << ((index & 1) * 4))
  }
  for (let row = 0; row < rows; row++) {
    for (let quad = 0; quad < (units * unitElements) / QUAD; quad++) {
      const kept: number[] = []
      for (let k = 0; k < QUAD; k++) {
        const col = quad * QUAD + k
        if (col < cols && !isZero(code(row, col), bits)) kept.push(k)
      }
      // Two different places always, so that the second never covers the first.
      for (let k = 0; kept.length < 2; k++) if (!kept.includes(k)) kept.push(k)
      const [a = 0, b = 1] = kept
      for (const [i, k] of [a, b].entries()) {
        const col = quad * QUAD + k
        place(row * rowValues, quad * 2 + i, col < cols ? code(row, col) : zero)
      }
      const at = row * rowPositions + (quad >> 1)
      positions[at] = (positions[at] as number) | ((a | (b << 2)) << ((quad & 1) * 4))
    }
  }
  return { values, positions }
}
