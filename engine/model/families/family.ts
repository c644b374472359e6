/**
 * What one architecture family is, as data: how it departs from the common pre-norm decoder (RMSNorm, rotary grouped-query attention, SwiGLU).
 * A family file says only that; spec.ts turns it and a config into a ModelSpec, program-builder.ts a ModelSpec into operations.
 */
import type { Config } from '../config-fields.ts'

export interface FamilyTraits {
  readonly biases: { readonly qkv: boolean; readonly attentionOutput: boolean; readonly mlp: boolean }
  /** RMS norm over each head of q and k, before rotation. */
  readonly headNorm: boolean
  /** Attention window of each layer; null = unlimited. */
  readonly windows: readonly (number | null)[]
}

export interface Family {
  /** `model_type` of config.json. */
  readonly modelType: string
  /** Name for people. */
  readonly label: string
  /** The class in `architectures` whose weights these are; other heads (classification, reward) are other models. */
  readonly className: string
  readonly traits: (config: Config, layers: number) => FamilyTraits
}

/** No layer is limited. */
export function unlimited(layers: number): readonly null[] {
  return Array.from({ length: layers }, () => null)
}
