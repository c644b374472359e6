/**
 * What each type of KV cache saves and costs on a model of the library, measured on the bundled text (engine/runtime/cache-cost.ts), type by type as
 * each is known. Holds the model twice on the device meanwhile, and leaves the models as the manager wants them.
 */
import type { CacheCostEvent } from '../contract/index.ts'
import { CACHE_TYPES, measureCacheCost } from '../runtime/cache-cost.ts'
import type { FolderTokenizer, GpuPort, ModelRef, ModelsPort } from './ports.ts'

/** Enough for a mean within a few percent of itself; a CPU adapter takes seconds for each hundred. */
const TOKENS = { hardware: 2048, software: 256 } as const
const WINDOW = 512
/** Of text, for one token at most. */
const TOKEN_CHARACTERS = 20

export interface CacheCostParts {
  readonly models: Pick<ModelsPort, 'acquire' | 'scorePair'>
  readonly gpu: Pick<GpuPort, 'current'>
  readonly text: () => Promise<{ readonly text: string }>
  readonly tokenizer: (modelId: string) => Promise<FolderTokenizer>
  /** Throws what keeps a model from running. */
  readonly resolve: (modelId: string) => Promise<ModelRef>
  readonly refuseWhileRunning: () => void
}

/** Throws `job.in-use` while a job runs, and what loading the model twice throws. */
export async function* cacheCosts(parts: CacheCostParts, modelId: string, signal: AbortSignal): AsyncGenerator<CacheCostEvent, undefined> {
  parts.refuseWhileRunning()
  const model = await parts.resolve(modelId)
  const { type } = await parts.gpu.current()
  const most = type === 'software' || type === 'reference' ? TOKENS.software : TOKENS.hardware
  const { text } = await parts.text()
  const tokenizer = await parts.tokenizer(modelId)
  const tokens = tokenizer.encode(text.slice(0, TOKEN_CHARACTERS * most), { addSpecialTokens: false }).slice(0, most)
  const measured = measureCacheCost({
    tokens,
    window: Math.min(WINDOW, tokens.length),
    types: CACHE_TYPES,
    acquire: (kvDtype) => parts.models.acquire({ ...model, contextTokens: WINDOW, kvDtype, signal }),
    scorePair: parts.models.scorePair,
    signal,
  })
  yield { kind: 'progress', done: 0, total: CACHE_TYPES.length }
  let done = 0
  for await (const cost of measured) {
    yield { kind: 'cost', cost }
    yield { kind: 'progress', done: ++done, total: CACHE_TYPES.length }
  }
  return undefined
}
