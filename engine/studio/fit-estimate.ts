/**
 * The planner's answer for a model that would be loaded, beside what is loaded: what `/studio/fit` tells. Who plans is handed in, so that the studio
 * asks the very procedure that its FitBars ask, and the command line the planner over a folder.
 */
import { CAPACITY_DEFAULTS, kvElementsOf } from '../contract/index.ts'
import type { CapacityPlan, CapacityRequest } from '../contract/index.ts'
import type { FitEstimate, FitWish } from '../server/served-model.ts'
import type { ModelsPort } from './ports.ts'

export interface FitSubject {
  readonly modelId: string
  readonly plan: (request: CapacityRequest) => Promise<CapacityPlan>
  readonly models: Pick<ModelsPort, 'loaded'>
  /** What a load here is made with; `concurrency` null: for as many sequences as any load. */
  readonly usual: { readonly contextTokens: number; readonly concurrency: number | null; readonly kvDtype: string }
}

export async function estimateFit({ modelId, plan, models, usual }: FitSubject, wish: FitWish): Promise<FitEstimate> {
  const contextTokens = wish.contextTokens ?? usual.contextTokens
  const concurrency = wish.concurrency ?? usual.concurrency
  const kvDtype = wish.kvDtype ?? usual.kvDtype
  const answer = await plan({
    ...CAPACITY_DEFAULTS,
    subject: { kind: 'model', modelId },
    deviceId: wish.deviceId,
    schemeId: wish.schemeId,
    ...kvElementsOf(kvDtype),
    contextTokens,
    concurrency: concurrency ?? 1,
    ...(concurrency !== null && { exactConcurrency: true as const }),
    // A request as ServingFit asks for: half of the context is prompt, a quarter answer.
    promptTokens: Math.max(1, Math.floor(contextTokens / 2)),
    outputTokens: Math.max(1, Math.floor(contextTokens / 4)),
  })
  const all = models.loaded()
  return {
    plan: answer,
    kvDtype: kvDtype === 'auto' ? answer.request.kvElement : kvDtype,
    measured: all.find((model) => model.modelId === modelId) ?? null,
    loaded: all.map(({ name, weightBytes, kvBytes, otherBytes, busy }) => ({
      name,
      bytes: weightBytes + kvBytes + otherBytes,
      inUse: busy,
    })),
  }
}
