/**
 * Inputs of a linear rounded as InputQuantization says (program.ts), one row at a time: the oracle's reading of specs/compressed-tensors.md
 * §6.1, §6.3, §6.4. Every step that a server does in f32 is rounded to f32 here, so that the very same codes come out; written independently
 * of engine/checkpoint and of the kernels.
 */
import type { InputQuantization } from '../program.ts'

/** Largest finite magnitude of each element; int8's is the half-width of its 255 steps. */
const LIMIT = { int8: 127.5, e4m3: 448, e2m1: 6 } as const
/** What a token's or a group's scale of 0 becomes: the machine epsilon of f32, or 1/8 where scales are E4M3. */
const EMPTY = 2 ** -23
const EMPTY_E4M3 = 0.125

/** x̂ of rows of `width` columns. `staticScale` is the content of the quantization's own, null where it has none. */
export function quantizeInput(x: Float64Array, width: number, quantization: InputQuantization, staticScale: number | null): Float64Array {
  const out = new Float64Array(x.length)
  const span = quantization.scale === 'group' ? (quantization.groupSize ?? width) : width
  for (let row = 0; row < x.length; row += width) {
    for (let first = row; first < row + width; first += span) {
      const last = Math.min(first + span, row + width)
      const values = x.subarray(first, last).map(Math.fround)
      const scale = scaleOf(values, quantization, staticScale)
      out.set(
        values.map((value) => nearest(quantization.element, Math.fround(value / scale)) * scale),
        first,
      )
    }
  }
  return out
}

function scaleOf(values: Float64Array, { element, scale, scaleDtype }: InputQuantization, staticScale: number | null): number {
  if (scale === 'tensor') return staticScale ?? NaN
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  if (scaleDtype === 'e8m0') return powerOfTwo(largest, element)
  if (scaleDtype === 'e4m3') {
    const factor = staticScale ?? NaN
    const stored = nearestFloat(Math.min(448, Math.fround(Math.fround(factor * largest) / 6)), 4, 3, 448)
    return Math.fround((stored === 0 ? EMPTY_E4M3 : stored) / factor)
  }
  const exact = Math.fround(largest / LIMIT[element])
  return exact === 0 ? EMPTY : exact
}

/** §6.4: the power of two below, or above where the significand is at least 1¾; less the element's own exponent (2 or 8). */
function powerOfTwo(largest: number, element: InputQuantization['element']): number {
  if (largest === 0) return 2 ** -127
  let exponent = Math.floor(Math.log2(largest))
  // log2 may be off by one beside a power of two.
  if (2 ** exponent > largest) exponent--
  if (2 ** (exponent + 1) <= largest) exponent++
  const rounded = largest / 2 ** exponent >= 1.75 ? exponent + 1 : exponent
  return 2 ** Math.max(-127, Math.min(127, rounded - (element === 'e2m1' ? 2 : 8)))
}

function nearest(element: InputQuantization['element'], value: number): number {
  switch (element) {
    case 'int8':
      return halfEven(Math.max(-128, Math.min(127, value)))
    case 'e4m3':
      return nearestFloat(value, 4, 3, 448)
    case 'e2m1':
      return nearestFloat(value, 2, 1, 6)
  }
}

/** Nearest number of a small float format, ties to the even mantissa, saturating. */
function nearestFloat(value: number, exponentBits: number, mantissaBits: number, largest: number): number {
  const magnitude = Math.min(Math.abs(value), largest)
  const lowest = 2 - 2 ** (exponentBits - 1)
  const exponent = magnitude === 0 ? lowest : Math.max(lowest, Math.floor(Math.log2(magnitude)))
  const step = 2 ** (exponent - mantissaBits)
  return Math.sign(value) * halfEven(magnitude / step) * step
}

function halfEven(value: number): number {
  const floor = Math.floor(value)
  const fraction = value - floor
  if (fraction !== 0.5) return Math.round(value)
  return floor % 2 === 0 ? floor : floor + 1
}
