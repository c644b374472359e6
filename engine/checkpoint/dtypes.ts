/**
 * Numbers as safetensors stores them ↔ f32: bf16, f16, fp8 (E4M3FN, E5M2, E8M0) and the integers. Narrowing rounds to nearest, ties to
 * even, as IEEE 754 and torch do; subnormals, infinities and NaN are exact. Bulk functions work on raw little-endian bytes because that is
 * what a file gives and takes. Knows nothing of scales or codes (`dequantize.ts`, `packing.ts`).
 */
import { endianness } from 'node:os'
import type { StoredDtype } from './types.ts'

// Typed-array views below assume it. Every platform that WebGPU's native builds support is little-endian.
if (endianness() !== 'LE') throw new Error('Lathe needs a little-endian machine')

/** Bytes of one element. */
export const DTYPE_BYTES: Readonly<Record<StoredDtype, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
}

/** Dtypes that a dense weight may have. */
export type DenseDtype = 'F32' | 'F16' | 'BF16'
/** Dtypes that `narrowFromF32` can write. */
export type NarrowDtype = DenseDtype | 'F8_E4M3'

export function isStoredDtype(name: string): name is StoredDtype {
  return Object.hasOwn(DTYPE_BYTES, name)
}

export function isDenseDtype(dtype: StoredDtype): dtype is DenseDtype {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16'
}

const scratchF32 = new Float32Array(1)
const scratchU32 = new Uint32Array(scratchF32.buffer)

function bitsOf(value: number): number {
  scratchF32[0] = value
  return scratchU32[0] ?? 0
}

function valueOf(bits: number): number {
  scratchU32[0] = bits
  return scratchF32[0] ?? 0
}

export function bf16ToF32(bits: number): number {
  return valueOf(bits << 16)
}

/** Bits of the nearest bf16 (ties to even). `value` is first rounded to f32, as a Float32Array element would be. */
export function f32ToBf16(value: number): number {
  return bf16FromBits(bitsOf(value) | 0)
}

// `x` is the f32 bit pattern as a signed int, so that the addition stays in int32 (a finite or infinite pattern plus 0x8000 cannot overflow).
function bf16FromBits(x: number): number {
  // A NaN whose payload sits in the dropped half would become infinity: set the quiet bit.
  if ((x & 0x7fffffff) > 0x7f800000) return ((x >>> 16) | 0x40) & 0xffff
  return ((x + 0x7fff + ((x >>> 16) & 1)) >>> 16) & 0xffff
}

export function f16ToF32(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >>> 10) & 0x1f
  const mantissa = bits & 0x3ff
  if (exponent === 0x1f) return mantissa === 0 ? sign * Infinity : NaN
  if (exponent === 0) return sign * mantissa * 2 ** -24
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15)
}

/** Bits of the nearest f16 (ties to even); beyond 65504 + half a step becomes infinity. */
export function f32ToF16(value: number): number {
  return f16FromBits(bitsOf(value) | 0)
}

function f16FromBits(x: number): number {
  const sign = (x >>> 16) & 0x8000
  const magnitude = x & 0x7fffffff
  if (magnitude >= 0x7f800000) return magnitude === 0x7f800000 ? sign | 0x7c00 : sign | 0x7e00
  // 65520 is half-way between the largest f16 and what would be the next one: it and everything above rounds to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00
  if (magnitude >= 0x38800000) {
    // Normal: rebias the exponent (127 → 15), then round away 13 mantissa bits.
    const rebased = magnitude - 0x38000000
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13)
  }
  // Subnormal: adding 0.5 aligns the value so that its units of 2^-24 are the last mantissa bits, and the addition itself rounds to even.
  return sign | (bitsOf(valueOf(magnitude) + 0.5) - 0x3f000000)
}

/** E4M3FN: no infinities, largest value 448, NaN is 0x7f and 0xff. */
export function f8e4m3ToF32(bits: number): number {
  const sign = bits & 0x80 ? -1 : 1
  const exponent = (bits >>> 3) & 0xf
  const mantissa = bits & 7
  if (exponent === 0xf && mantissa === 7) return NaN
  if (exponent === 0) return sign * mantissa * 2 ** -9
  return sign * (1 + mantissa / 8) * 2 ** (exponent - 7)
}

/** Nearest E4M3FN (ties to even), saturating at ±448: weights are clamped before the cast, so an overflow must not become NaN. NaN stays NaN. */
export function f32ToF8e4m3(value: number): number {
  return f8e4m3FromBits(bitsOf(value) | 0)
}

function f8e4m3FromBits(x: number): number {
  const sign = (x >>> 24) & 0x80
  const magnitude = x & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7f
  if (magnitude >= 0x43e00000) return sign | 0x7e // ≥ 448, infinity included
  if (magnitude >= 0x3c800000) {
    // Normal (≥ 2^-6): rebias the exponent (127 → 7), round away 20 mantissa bits.
    const rebased = magnitude - 0x3c000000
    return sign | ((rebased + 0x7ffff + ((rebased >>> 20) & 1)) >>> 20)
  }
  // Subnormal: units of 2^-9. 2^14 has a last mantissa bit worth 2^-9, so the f32 addition rounds there, to even.
  return sign | (bitsOf(valueOf(magnitude) + 16384) - 0x46800000)
}

export function f8e5m2ToF32(bits: number): number {
  return f16ToF32(bits << 8)
}

/** A power of two, 2^(bits − 127); 255 is NaN. */
export function f8e8m0ToF32(bits: number): number {
  return bits === 255 ? NaN : 2 ** (bits - 127)
}

/** `value` as it reads back after being stored in `dtype`. For scales: round first, quantize against the rounded scale. */
export function roundToDtype(value: number, dtype: NarrowDtype): number {
  switch (dtype) {
    case 'F32':
      return Math.fround(value)
    case 'BF16':
      return bf16ToF32(f32ToBf16(value))
    case 'F16':
      return f16ToF32(f32ToF16(value))
    case 'F8_E4M3':
      return f8e4m3ToF32(f32ToF8e4m3(value))
  }
}

function tableOf(size: number, convert: (bits: number) => number): Float32Array {
  return Float32Array.from({ length: size }, (_, bits) => convert(bits))
}

// Built on first use: 256 KiB for f16, 1 KiB for the 8-bit types. A lookup beats the branches above four times over.
const tables = new Map<StoredDtype, Float32Array>()

/** f32 value of every bit pattern of an 8- or 16-bit dtype, indexed by the unsigned pattern. */
export function valueTable(dtype: 'F16' | 'BF16' | 'F8_E4M3' | 'F8_E5M2' | 'F8_E8M0' | 'I8' | 'U8' | 'BOOL' | 'I16' | 'U16'): Float32Array {
  let table = tables.get(dtype)
  if (table !== undefined) return table
  switch (dtype) {
    case 'F16':
      table = tableOf(65536, f16ToF32)
      break
    case 'BF16':
      table = tableOf(65536, bf16ToF32)
      break
    case 'F8_E4M3':
      table = tableOf(256, f8e4m3ToF32)
      break
    case 'F8_E5M2':
      table = tableOf(256, f8e5m2ToF32)
      break
    case 'F8_E8M0':
      table = tableOf(256, f8e8m0ToF32)
      break
    case 'I8':
      table = tableOf(256, (bits) => (bits << 24) >> 24)
      break
    case 'U8':
    case 'BOOL':
      table = tableOf(256, (bits) => bits)
      break
    case 'I16':
      table = tableOf(65536, (bits) => (bits << 16) >> 16)
      break
    case 'U16':
      table = tableOf(65536, (bits) => bits)
      break
  }
  tables.set(dtype, table)
  return table
}

function aligned(bytes: Uint8Array, unit: number): Uint8Array {
  return bytes.byteOffset % unit === 0 ? bytes : bytes.slice()
}

export function asUint16(bytes: Uint8Array): Uint16Array {
  const source = aligned(bytes, 2)
  return new Uint16Array(source.buffer, source.byteOffset, source.byteLength >>> 1)
}

/** As many whole pairs of 16-bit elements as can be read as one word: none if they start at an odd half. Halves the loads of a bulk loop. */
function pairsOf(halves: Uint16Array): Int32Array {
  if (halves.byteOffset % 4 !== 0) return new Int32Array(0)
  return new Int32Array(halves.buffer, halves.byteOffset, halves.length >>> 1)
}

export function asInt32(bytes: Uint8Array): Int32Array {
  const source = aligned(bytes, 4)
  return new Int32Array(source.buffer, source.byteOffset, source.byteLength >>> 2)
}

export function asFloat32(bytes: Uint8Array): Float32Array {
  const source = aligned(bytes, 4)
  return new Float32Array(source.buffer, source.byteOffset, source.byteLength >>> 2)
}

/** The bytes of a typed array, shared, not copied. */
export function asBytes(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
}

/**
 * Every element as f32. F32 bytes that are already aligned come back as a view of `bytes`, not a copy, unless `out` is given; 64-bit
 * types and I32/U32 round to f32. Throws RangeError if `out` has the wrong length.
 */
export function widenToF32(bytes: Uint8Array, dtype: StoredDtype, out?: Float32Array): Float32Array {
  const size = DTYPE_BYTES[dtype]
  if (bytes.byteLength % size !== 0) throw new RangeError(`${bytes.byteLength} bytes are not whole ${dtype} elements`)
  const count = bytes.byteLength / size
  if (out !== undefined && out.length !== count) throw new RangeError(`out holds ${out.length} elements, ${count} needed`)
  if (dtype === 'F32') {
    const values = asFloat32(bytes)
    if (out === undefined) return values
    out.set(values)
    return out
  }
  const values = out ?? new Float32Array(count)
  switch (dtype) {
    case 'BF16': {
      const source = asUint16(bytes)
      const target = new Int32Array(values.buffer, values.byteOffset, count)
      const pairs = pairsOf(source)
      for (let i = 0, k = 0; i < pairs.length; i++, k += 2) {
        const pair = pairs[i] as number
        target[k] = pair << 16
        target[k + 1] = pair & 0xffff0000
      }
      for (let i = pairs.length * 2; i < count; i++) target[i] = (source[i] as number) << 16
      return values
    }
    case 'F16': {
      const source = asUint16(bytes)
      const table = valueTable('F16')
      const target = new Int32Array(values.buffer, values.byteOffset, count)
      // Copying bits, not values: a signalling NaN would be quieted on its way through a register.
      const patterns = new Int32Array(table.buffer)
      for (let i = 0; i < count; i++) target[i] = patterns[source[i] as number] as number
      return values
    }
    case 'I16':
    case 'U16': {
      const source = asUint16(bytes)
      const table = valueTable(dtype)
      for (let i = 0; i < count; i++) values[i] = table[source[i] as number] as number
      return values
    }
    case 'F8_E4M3':
    case 'F8_E5M2':
    case 'F8_E8M0':
    case 'I8':
    case 'U8':
    case 'BOOL': {
      const table = valueTable(dtype)
      for (let i = 0; i < count; i++) values[i] = table[bytes[i] as number] as number
      return values
    }
    default: {
      const source = aligned(bytes, size)
      const { buffer, byteOffset } = source
      if (dtype === 'I32') values.set(new Int32Array(buffer, byteOffset, count))
      else if (dtype === 'U32') values.set(new Uint32Array(buffer, byteOffset, count))
      else if (dtype === 'F64') values.set(new Float64Array(buffer, byteOffset, count))
      else {
        const wide = dtype === 'I64' ? new BigInt64Array(buffer, byteOffset, count) : new BigUint64Array(buffer, byteOffset, count)
        for (let i = 0; i < count; i++) values[i] = Number(wide[i])
      }
      return values
    }
  }
}

/** Every f32 rounded to `dtype`, as little-endian bytes. For F32 the bytes of `values` themselves (a view) unless `out` is given. */
export function narrowFromF32(values: Float32Array, dtype: NarrowDtype, out?: Uint8Array): Uint8Array {
  const count = values.length
  const byteLength = count * DTYPE_BYTES[dtype]
  if (out !== undefined && out.byteLength !== byteLength) throw new RangeError(`out holds ${out.byteLength} bytes, ${byteLength} needed`)
  if (dtype === 'F32') {
    if (out === undefined) return asBytes(values)
    out.set(asBytes(values))
    return out
  }
  const source = new Int32Array(values.buffer, values.byteOffset, count)
  if (dtype === 'F8_E4M3') {
    const target = out ?? new Uint8Array(byteLength)
    for (let i = 0; i < count; i++) target[i] = f8e4m3FromBits(source[i] as number)
    return target
  }
  const direct = out === undefined || out.byteOffset % 2 === 0
  const target = out !== undefined && direct ? new Uint16Array(out.buffer, out.byteOffset, count) : new Uint16Array(count)
  if (dtype === 'BF16') narrowToBf16(source, target)
  else for (let i = 0; i < count; i++) target[i] = f16FromBits(source[i] as number)
  if (out === undefined) return asBytes(target)
  if (!direct) out.set(asBytes(target))
  return out
}

function narrowToBf16(source: Int32Array, target: Uint16Array): void {
  const pairs = pairsOf(target)
  for (let i = 0, k = 0; i < pairs.length; i++, k += 2) {
    const x = source[k] as number
    const y = source[k + 1] as number
    if ((x & 0x7fffffff) > 0x7f800000 || (y & 0x7fffffff) > 0x7f800000) {
      pairs[i] = bf16FromBits(x) | (bf16FromBits(y) << 16)
    } else {
      pairs[i] = ((x + 0x7fff + ((x >>> 16) & 1)) >>> 16) | ((y + 0x7fff + ((y >>> 16) & 1)) & 0xffff0000)
    }
  }
  for (let i = pairs.length * 2; i < target.length; i++) target[i] = bf16FromBits(source[i] as number)
}

export interface NonFinite {
  readonly count: number
  readonly firstIndex: number
  readonly firstValue: number
}

/** Where NaN and ±Inf are in a tensor's bytes (or a chunk of them), or null when every element is finite. Integers always are. */
export function findNonFinite(bytes: Uint8Array, dtype: StoredDtype): NonFinite | null {
  let count = 0
  let firstIndex = -1
  const note = (index: number): void => {
    if (count === 0) firstIndex = index
    count++
  }
  switch (dtype) {
    case 'BF16':
    case 'F16': {
      const mask = dtype === 'BF16' ? 0x7f80 : 0x7c00
      const halves = asUint16(bytes)
      const pairs = pairsOf(halves)
      const high = mask << 16
      for (let i = 0; i < pairs.length; i++) {
        const pair = pairs[i] as number
        if ((pair & mask) === mask) note(2 * i)
        if ((pair & high) === high) note(2 * i + 1)
      }
      for (let i = pairs.length * 2; i < halves.length; i++) if (((halves[i] as number) & mask) === mask) note(i)
      break
    }
    case 'F32': {
      const words = asInt32(bytes)
      for (let i = 0; i < words.length; i++) if (((words[i] as number) & 0x7f800000) === 0x7f800000) note(i)
      break
    }
    case 'F8_E4M3':
      for (let i = 0; i < bytes.length; i++) if (((bytes[i] as number) & 0x7f) === 0x7f) note(i)
      break
    case 'F8_E5M2':
      for (let i = 0; i < bytes.length; i++) if (((bytes[i] as number) & 0x7c) === 0x7c) note(i)
      break
    case 'F8_E8M0':
      for (let i = 0; i < bytes.length; i++) if (bytes[i] === 0xff) note(i)
      break
    case 'F64': {
      const source = aligned(bytes, 8)
      const values = new Float64Array(source.buffer, source.byteOffset, source.byteLength >>> 3)
      for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) note(i)
      break
    }
    default:
      return null
  }
  if (count === 0) return null
  const size = DTYPE_BYTES[dtype]
  const firstValue = widenToF32(bytes.slice(firstIndex * size, (firstIndex + 1) * size), dtype)[0] ?? NaN
  return { count, firstIndex, firstValue: dtype === 'F64' && Number.isFinite(firstValue) ? NaN : firstValue }
}
