/** The library as a tree of sources and variants, and what its rows say. Plain functions; the table only draws them. */
import type { Architecture, Fit, Hardware, ModelSummary, Settings } from '../../../engine/contract/index.ts'
import { fitOf } from '../../lib/fit.ts'

export interface ModelNode {
  readonly model: ModelSummary
  readonly variants: readonly ModelNode[]
}

/** Sources with their variants; a variant whose source was removed stands on its own. */
export function modelTree(models: readonly ModelSummary[]): readonly ModelNode[] {
  const ids = new Set(models.map((model) => model.id))
  const byParent = Map.groupBy(models, (model) => (model.parentId !== null && ids.has(model.parentId) ? model.parentId : null))
  return (byParent.get(null) ?? []).map((model) => ({
    model,
    variants: (byParent.get(model.id) ?? []).map((variant) => ({ model: variant, variants: [] })),
  }))
}

/** Name of a variant without the source's name, which the row above it already says. */
export function variantTitle(variant: ModelSummary, source: ModelSummary | undefined): string {
  if (source === undefined || !variant.name.startsWith(source.name)) return variant.name
  const rest = variant.name.slice(source.name.length).replace(/^[\s·:→–-]+/, '')
  return rest === '' ? variant.name : rest
}

const KV_BYTES = { f16: 2, f32: 4, fp8: 1, int8: 1, int4: 0.5 } as const
/** Quantized rows carry a scale. */
const SCALE_BYTES = 4

/** Keys and values of one token over all layers, from the shapes alone; null where config.json does not give them. */
export function kvBytesPerToken(architecture: Architecture, kvDtype: Settings['kvDtype']): number | null {
  const { layers, keyValueHeads, headDim } = architecture
  if (layers === null || keyValueHeads === null || headDim === null) return null
  const element = KV_BYTES[kvDtype === 'auto' ? (architecture.kvCacheDtype ?? 'f16') : kvDtype]
  return 2 * layers * keyValueHeads * (headDim * element + (element < 2 ? SCALE_BYTES : 0))
}

export function fitOfModel(model: ModelSummary, settings: Settings, hardware: Hardware): Fit {
  return fitOf({
    weightBytes: model.weightBytes,
    kvBytesPerToken: kvBytesPerToken(model.architecture, settings.kvDtype),
    contextTokens: Math.min(settings.contextTokens, model.architecture.contextLength ?? settings.contextTokens),
    budgetBytes: hardware.gpuBudgetBytes,
  })
}

const FAMILY_NAMES: Readonly<Record<string, string>> = {
  llama: 'Llama',
  mistral: 'Mistral',
  qwen2: 'Qwen2',
  qwen3: 'Qwen3',
  mixtral: 'Mixtral',
  gemma2: 'Gemma 2',
  gemma3_text: 'Gemma 3',
  phi3: 'Phi-3',
  gpt2: 'GPT-2',
}

export function familyName(architecture: Architecture): string {
  return FAMILY_NAMES[architecture.family] ?? architecture.family
}

/** What can't be done with a model, and why; null when everything can. */
export function blockedReason(model: ModelSummary): string | null {
  return model.status === 'ready' ? null : (model.statusReason?.message ?? 'This model cannot be used at the moment.')
}

/** Parameters that fit the budget at about 4.6 bits each (Balanced 4-bit with its 8-bit and 16-bit remainders), a fifth kept for context. */
export function largestParameters(budgetBytes: number): number {
  return (budgetBytes * 0.8) / (4.6 / 8)
}
