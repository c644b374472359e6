/** Weights in memory for numeric tests: number arrays stored in any dense dtype, and packed integers from codes. */
import { encodeF16 } from '../reference/float16.ts'
import type { WeightBytes, WeightFormat, WeightPart, WeightSpec } from '../program.ts'

type DenseDtype = Extract<WeightFormat, { kind: 'dense' }>['dtype']

export function bytesOf(array: ArrayBufferView): WeightBytes {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
  return { byteLength: bytes.byteLength, read: (offset, length) => Promise.resolve(bytes.slice(offset, offset + length)) }
}

/** Values in the stored dtype; bf16 truncates, so give values that bf16 holds where exactness matters. */
export function storeDense(values: ArrayLike<number>, dtype: DenseDtype): WeightBytes {
  if (dtype === 'f32') return bytesOf(Float32Array.from(values))
  if (dtype === 'f16') return bytesOf(Uint16Array.from(values, encodeF16))
  return bytesOf(upperHalves(Float32Array.from(values)))
}

function upperHalves(values: Float32Array): Uint16Array {
  return Uint16Array.from(new Uint32Array(values.buffer), (word) => word >>> 16)
}

export function densePart(name: string, rows: number, cols: number, values: ArrayLike<number>, dtype: DenseDtype = 'f32'): WeightPart {
  return { name, rows, cols, format: { kind: 'dense', dtype }, values: storeDense(values, dtype), scale: null, zeroPoint: null }
}

/** A one-part f32 weight. */
export function denseWeight(id: number, rows: number, cols: number, values: ArrayLike<number>, dtype: DenseDtype = 'f32'): WeightSpec {
  const name = `weight ${id}`
  return { id, name, rows, cols, format: { kind: 'dense', dtype }, parts: [densePart(name, rows, cols, values, dtype)] }
}
