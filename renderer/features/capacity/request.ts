/** The question as it stands in the address, so that it can be linked, reloaded and shared; anything odd there falls back to a default. */
import { useSearchParams } from 'wouter'
import { CAPACITY_DEFAULTS, KV_ELEMENTS, type CapacityRequest, type CapacitySubject } from '../../../engine/contract/index.ts'

export const PARAMETERS = [
  'model',
  'published',
  'gpu',
  'engine',
  'gpus',
  'scheme',
  'kv',
  'context',
  'concurrency',
  'prompt',
  'output',
  'first',
  'token',
  'users',
  'cost',
  'busy',
  'memory',
] as const
export type Parameter = (typeof PARAMETERS)[number]

/** What the engine takes as a question; no other count may be larger either. */
const MOST_CONTEXT = 16_777_216
const MOST_SEQUENCES = 1_000_000

function positive(text: string | null): number | null {
  const value = text === null || text.trim() === '' ? Number.NaN : Number(text)
  return Number.isFinite(value) && value > 0 ? value : null
}

function whole(text: string | null): number | null {
  const value = positive(text)
  return value === null ? null : Math.min(Math.max(1, Math.round(value)), MOST_CONTEXT)
}

function atMost(value: number | null, most: number): number | null {
  return value === null ? null : Math.min(value, most)
}

function subjectOf(parameters: URLSearchParams): CapacitySubject | null {
  const published = parameters.get('published')
  if (published !== null) return { kind: 'published', id: published }
  const modelId = parameters.get('model')
  return modelId === null ? null : { kind: 'model', modelId }
}

/** null until a model is chosen. `contextLimit` caps the default context, not what is asked for. */
export function requestOf(parameters: URLSearchParams, contextLimit: number | null): CapacityRequest | null {
  const subject = subjectOf(parameters)
  if (subject === null) return null
  const deviceId = parameters.get('gpu')
  const contextTokens =
    whole(parameters.get('context')) ?? Math.min(CAPACITY_DEFAULTS.contextTokens, contextLimit ?? CAPACITY_DEFAULTS.contextTokens)
  const outputTokens = Math.min(
    whole(parameters.get('output')) ?? CAPACITY_DEFAULTS.outputTokens,
    Math.max(1, Math.floor(contextTokens / 2)),
  )
  const promptTokens = Math.min(
    whole(parameters.get('prompt')) ?? CAPACITY_DEFAULTS.promptTokens,
    Math.max(1, contextTokens - outputTokens),
  )
  const engine = parameters.get('engine')
  return {
    subject,
    deviceId,
    engine: engine === 'vllm' || engine === 'lathe' ? engine : deviceId === null ? 'lathe' : 'vllm',
    tensorParallel: atMost(whole(parameters.get('gpus')), 64),
    schemeId: parameters.get('scheme'),
    kvElement: KV_ELEMENTS.find((element) => element === parameters.get('kv')) ?? CAPACITY_DEFAULTS.kvElement,
    contextTokens,
    concurrency: atMost(whole(parameters.get('concurrency')), MOST_SEQUENCES) ?? CAPACITY_DEFAULTS.concurrency,
    promptTokens,
    outputTokens,
    slo: { firstTokenMs: positive(parameters.get('first')), perTokenMs: positive(parameters.get('token')) },
    users: whole(parameters.get('users')),
    costPerGpuHour: positive(parameters.get('cost')),
    busyShare: Math.min(1, positive(parameters.get('busy')) ?? CAPACITY_DEFAULTS.busyShare),
    memoryShare: Math.min(1, positive(parameters.get('memory')) ?? CAPACITY_DEFAULTS.memoryShare),
  }
}

export type Ask = (change: Partial<Record<Parameter, string | number | null>>) => void

/** Small changes replace the history entry, as on every screen. */
export function useAsk(): [parameters: URLSearchParams, ask: Ask] {
  const [parameters, setParameters] = useSearchParams()
  const ask: Ask = (change) =>
    setParameters(
      (previous) => {
        const next = new URLSearchParams(previous)
        for (const [name, value] of Object.entries(change)) {
          if (value === null || value === '') next.delete(name)
          else next.set(name, String(value))
        }
        return next
      },
      { replace: true },
    )
  return [parameters, ask]
}
