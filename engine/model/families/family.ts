/**
 * What one architecture family is, as data: how its weights are named and how it departs from the common pre-norm decoder (RMSNorm, rotary
 * grouped-query attention, SwiGLU). Sizes, biases and windows come from the config, whose readers know each family's defaults.
 */
export interface Family {
  /** `model_type` of config.json. */
  readonly modelType: string
  /** Name for people. */
  readonly label: string
  /** The class in `architectures` whose weights these are; other heads (classification, reward) are other models. */
  readonly className: string
  /** RMS norm over each head of q and k, before rotation. */
  readonly headNorm: boolean
  /** Whether q, k, v and gate, up are tensors of their own, or stacked as `qkv_proj` and `gate_up_proj`. */
  readonly projections: 'separate' | 'fused'
}
