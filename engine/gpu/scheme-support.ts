/**
 * Whether an adapter has the arithmetic that a scheme asks for, or computes the same values by other means. A fact for screens; results are the
 * same numbers either way. WebGPU reaches 8-bit integer dot products where they exist (`dot4I8Packed`); no adapter reaches FP8 or FP4
 * arithmetic through it.
 */
import { INPUT_ELEMENTS } from '../contract/hardware.ts'
import type { InputElement } from '../contract/hardware.ts'

export type SchemeSupport = 'native' | 'emulated'

/** `inputElement` of the scheme's activations; null for weight-only schemes, whose weights are widened as they are read on any adapter. */
export function schemeSupport(inputElement: InputElement | null, facts: { readonly packedDotProduct: boolean }): SchemeSupport {
  if (inputElement === null) return 'native'
  return inputElement === 'int8' && facts.packedDotProduct ? 'native' : 'emulated'
}

/** What an adapter computes by other means, for `Adapter.emulates`. */
export function emulatedElements(facts: { readonly packedDotProduct: boolean }): InputElement[] {
  return INPUT_ELEMENTS.filter((element) => schemeSupport(element, facts) === 'emulated')
}
