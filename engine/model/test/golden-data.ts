/**
 * Golden values in one form: those of the shared test data, and those that lie beside this file for models that every checkout has. The demo
 * model's (demo-golden.json, from PyTorch in float32 like the model itself) carry the gap of each greedy step instead of the smallest. Where the
 * data folder is absent, callers skip and say so.
 */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export interface GoldenPrompt {
  readonly tokens: readonly number[]
  /** Of tokens 1 … n − 1; null where the file has none. */
  readonly logprobs: readonly number[] | null
  readonly firstLogits: readonly number[]
  readonly top: readonly (readonly [id: number, logit: number])[]
  readonly greedy: readonly number[]
  /** Logit gap between best and second at each greedy step, or one lower bound for all. */
  readonly gaps: readonly number[] | number
}

const dataFolder = fileURLToPath(new URL('../../../../shared/data/', import.meta.url))
const demoGolden = fileURLToPath(new URL('demo-golden.json', import.meta.url))
const demoFolder = fileURLToPath(new URL('../../../assets/demo-model', import.meta.url))

export const hasSharedData = existsSync(`${dataFolder}golden`)
export const MISSING_DATA = 'skipped: the shared test data (../shared/data) is not beside this checkout'

/** Packed checkpoints that lie beside this file, made with their golden values by `packed/make.py` and `make_foreign.py`. */
export const PACKED_MODELS = ['w8a16-channel', 'w4a16-asym-g32', 'gptq-w4-g32-desc', 'gptq-v2-w8', 'awq-w4-g32'] as const
/** As those, by `packed/make_fp8_cache.py`: its golden values are those of a cache with the scales that the checkpoint brings. */
export const FP8_CACHE_MODEL = 'fp8-cache'
const packedFolder = fileURLToPath(new URL('packed', import.meta.url))

export function isPacked(name: string): boolean {
  return name === FP8_CACHE_MODEL || PACKED_MODELS.some((packed) => packed === name)
}

export function modelFolder(name: string): string {
  if (isPacked(name)) return `${packedFolder}/${name}`
  return name === 'demo' ? demoFolder : `${dataFolder}models/${name}`
}

export function goldenPrompts(name: string): readonly GoldenPrompt[] {
  const file = isPacked(name) ? `${packedFolder}/${name}/golden.json` : name === 'demo' ? demoGolden : `${dataFolder}golden/${name}.json`
  const parsed: unknown = JSON.parse(readFileSync(file, 'utf8'))
  return Array.isArray(parsed) ? (parsed as StandardPrompt[]).map(fromStandard) : (parsed as DemoFile).prompts.map(fromDemo)
}

interface StandardPrompt {
  readonly tokens: readonly number[]
  readonly prompt_logprobs: readonly (number | null)[]
  readonly last_logits_first64: readonly number[]
  readonly last_top10: readonly (readonly [number, number])[]
  readonly greedy: readonly number[]
  readonly smallest_greedy_gap: number
}

interface DemoFile {
  readonly prompts: readonly {
    readonly ids: readonly number[]
    readonly logits_first_64: readonly number[]
    readonly top10: readonly (readonly [number, number])[]
    readonly greedy_tokens: readonly number[]
    readonly greedy_margin: readonly number[]
  }[]
}

function fromStandard(prompt: StandardPrompt): GoldenPrompt {
  return {
    tokens: prompt.tokens,
    logprobs: prompt.prompt_logprobs.slice(1).map(Number),
    firstLogits: prompt.last_logits_first64,
    top: prompt.last_top10,
    greedy: prompt.greedy,
    gaps: prompt.smallest_greedy_gap,
  }
}

function fromDemo(prompt: DemoFile['prompts'][number]): GoldenPrompt {
  return {
    tokens: prompt.ids,
    logprobs: null,
    firstLogits: prompt.logits_first_64,
    top: prompt.top10,
    greedy: prompt.greedy_tokens,
    gaps: prompt.greedy_margin,
  }
}
