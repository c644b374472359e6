/** Codes back to weights: (code − zero point) · scale, rounded to f32 once, as every reader of the file computes it. */
import type { QuantizedRows } from './round-to-nearest.ts'

export function decodeRows(quantized: QuantizedRows): Float32Array {
  const { codes, scales, zeroPoints } = quantized
  const perScale = codes.length / scales.length
  const values = new Float32Array(codes.length)
  for (let group = 0, at = 0; group < scales.length; group++) {
    const scale = scales[group] as number
    const zeroPoint = zeroPoints === null ? 0 : (zeroPoints[group] as number)
    for (const end = at + perScale; at < end; at++) values[at] = ((codes[at] as number) - zeroPoint) * scale
  }
  return values
}
