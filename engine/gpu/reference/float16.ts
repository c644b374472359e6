/** IEEE 754 binary16 and bfloat16 as bit patterns, converted by arithmetic on f64 so that each rule can be read off. */

/** Greatest finite f16. */
const F16_MAX = 65504
/** Smallest normal f16 is 2⁻¹⁴; below it the spacing stays 2⁻²⁴. */
const F16_MIN_NORMAL = 2 ** -14

/** Nearest f16, ties to even, saturating at ±65504 (infinities too); NaN stays NaN. Returns the 16 bits. */
export function encodeF16(value: number): number {
  if (Number.isNaN(value)) return 0x7e00
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const magnitude = Math.min(Math.abs(value), F16_MAX)
  if (magnitude < F16_MIN_NORMAL) return sign | roundHalfEven(magnitude * 2 ** 24)
  let exponent = Math.floor(Math.log2(magnitude))
  if (2 ** exponent > magnitude) exponent--
  if (2 ** (exponent + 1) <= magnitude) exponent++
  // A significand that rounds up to 2048 carries into the exponent field, which is exactly the next power of two.
  return sign | (((exponent + 15) << 10) + roundHalfEven((magnitude / 2 ** exponent) * 1024) - 1024)
}

export function decodeF16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >>> 10) & 0x1f
  const fraction = bits & 0x3ff
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN
  if (exponent === 0) return sign * fraction * 2 ** -24
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

const word = new Uint32Array(1)
const wordAsFloat = new Float32Array(word.buffer)

/** bf16 is the upper half of an f32. */
export function decodeBf16(bits: number): number {
  word[0] = bits << 16
  return wordAsFloat[0] ?? NaN
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest === 0.5) return floor % 2 === 0 ? floor : floor + 1
  return rest < 0.5 ? floor : floor + 1
}
