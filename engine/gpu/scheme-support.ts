/**
 * Whether an adapter has the arithmetic that a scheme asks for, or computes the same values by other means. A fact for screens; results are the
 * same numbers either way. WebGPU reaches 8-bit integer dot products where they exist (`dot4I8Packed`); no adapter reaches FP8 or FP4
 * arithmetic through it.
 */
export type SchemeSupport = 'native' | 'emulated'

/** `inputElement` of the scheme's activations; null for weight-only schemes, whose weights are widened as they are read on any adapter. */
export function schemeSupport(inputElement: 'int8' | 'e4m3' | 'e2m1' | null, facts: { readonly packedDotProduct: boolean }): SchemeSupport {
  if (inputElement === null) return 'native'
  return inputElement === 'int8' && facts.packedDotProduct ? 'native' : 'emulated'
}
