/**
 * What the HTTP surface needs of a model and of the collection it comes from. The studio and the command line provide the models; tests use one
 * of their own. The surface itself never loads files and never picks an adapter.
 */
import type { CapacityPlan, LoadedModel } from '../contract/index.ts'
import { createGrammarEngine } from '../runtime/structured/grammar-engine.ts'
import type { GrammarEngine } from '../runtime/structured/grammar-engine.ts'
import type { LoadProgress, Runtime, RuntimeInfo } from '../runtime/types.ts'
import { pickTemplate } from '../tokenizer/chat-template.ts'
import type { RenderOptions } from '../tokenizer/chat-template.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { TOOL_MARKUP } from './tools/tool-format.ts'

export interface ServedTokenizer {
  readonly vocabSize: number
  encode(text: string, options: { readonly addSpecialTokens: boolean }): Uint32Array
  decode(ids: Uint32Array, options: { readonly skipSpecialTokens: boolean }): string
  /** The exact bytes a token stands for. */
  tokenBytes(id: number): Uint8Array
  isSpecial(id: number): boolean
}

export interface ServedModel extends AsyncDisposable {
  /** Name clients use; no spaces, since load tools split metric lines on them. */
  readonly name: string
  /** Unix seconds. */
  readonly created: number
  readonly runtime: Runtime
  readonly tokenizer: ServedTokenizer
  readonly grammars: GrammarEngine
  /** The chat template that a conversation with or without tools would use; null = none. */
  template(options: { readonly withTools: boolean }): string | null
  /** Renders with the model's own template, or with another. Throws `tokenizer.no-chat-template`, `tokenizer.template-failed`. */
  renderChat(options: Omit<RenderOptions, 'specialTokens'> & { readonly template?: string }): string
}

export interface ServedModelCard {
  readonly name: string
  readonly aliases: readonly string[]
  readonly created: number
  /** Effective context, which memory may have made smaller than the checkpoint's; null until loaded. */
  readonly contextLimit: number | null
  /** Of its cached keys and values; absent until it is loaded. */
  readonly cache?: ServedCache
}

/** How keys and values are kept, and whether the checkpoint itself names that. */
export interface ServedCache {
  readonly kvDtype: string
  readonly namedByCheckpoint: boolean
}

/** A model of the server and what it holds of the machine, for people and scripts that manage it. */
export interface ServedModelStatus {
  readonly name: string
  readonly aliases: readonly string[]
  /** `failed`: its device is gone; the next request loads it anew. */
  readonly state: 'unloaded' | 'loading' | 'loaded' | 'failed'
  readonly pinned: boolean
  /** Requests that hold it. */
  readonly inUse: number
  /** Weights, cache and the rest on the device; null until loaded. */
  readonly bytes: { readonly weights: number; readonly kv: number; readonly other: number } | null
  readonly contextLimit: number | null
  readonly cache: ServedCache | null
  readonly loading: LoadProgress | null
  /** Milliseconds since the epoch at which it is unloaded unless somebody asks for it; null = not planned. */
  readonly unloadAt: number | null
}

export interface ServedModels {
  cards(): readonly ServedModelCard[]
  /** The model of that exact name or alias, loading it if need be; null when there is none: no other model ever answers in its place. */
  acquire(name: string, signal: AbortSignal): Promise<{ readonly model: ServedModel; release(): void } | null>
  /** Frees the memory of models that are idle until they are asked for again. Throws `model.busy` where one is in use. Absent = can't. */
  sleep?(): Promise<void>
  wake?(signal: AbortSignal): Promise<void>
  asleep?(): boolean
  status?(): readonly ServedModelStatus[]
  /** Loads it and keeps it as long as an asked one is kept. null = no such model. Aborting gives the load up unless others wait for it. */
  load?(name: string, signal: AbortSignal, onProgress: (progress: LoadProgress) => void): Promise<ServedModelStatus | null>
  /** Frees its memory until it is asked for again. null = no such model. Throws `model.busy` while a request uses it. */
  unload?(name: string): Promise<ServedModelStatus | null>
  /** Whether it would fit: the estimate that the screens show. null = no such model. Throws `request.invalid`, its `param` among the data. */
  fit?(name: string, wish: FitWish): Promise<FitEstimate | null>
  /** Why a model that should be in memory is not: its device was lost, and it is being loaded again. null = nothing is wrong. */
  fault?(): Error | null
}

/** What somebody would load; null = as this server loads its models. */
export interface FitWish {
  readonly contextTokens: number | null
  readonly concurrency: number | null
  readonly kvDtype: string | null
  /** "What if it were stored as …". */
  readonly schemeId: string | null
  /** Of the table of GPUs. */
  readonly deviceId: string | null
}

export interface FitEstimate {
  readonly plan: CapacityPlan
  /** The cache that the plan is for. */
  readonly kvDtype: string
  /** What the model holds now; null while it is not loaded. */
  readonly measured: Pick<LoadedModel, 'weightBytes' | 'kvBytes' | 'otherBytes' | 'contextLimit' | 'kvDtype'> | null
  /** Everything that is loaded on the device; what nobody uses makes room. */
  readonly loaded: readonly { readonly name: string; readonly bytes: number; readonly inUse: boolean }[]
}

export function cacheOf({ kvDtype, checkpointKvDtype }: RuntimeInfo): ServedCache {
  return { kvDtype, namedByCheckpoint: checkpointKvDtype === kvDtype }
}

/** A name as clients and metrics can use it. */
export function servedName(text: string): string {
  return text.trim().replaceAll(/\s+/g, '-')
}

/** A model on a runtime, with its own tokenizer. Structured output starts its threads at the first use; disposing ends them, not the runtime. */
export function createServedModel(options: {
  readonly name: string
  readonly runtime: Runtime
  readonly tokenizer: Tokenizer
  readonly created?: number
}): ServedModel {
  const { name, runtime, tokenizer } = options
  const markup = TOOL_MARKUP.flatMap((text) => tokenizer.specialTokens.filter((token) => token.text === text).map((token) => token.id))
  const grammars = createGrammarEngine({
    tokenizer,
    vocabulary: runtime.info.vocabulary,
    stopTokenIds: runtime.info.eosTokenIds,
    allowedSpecialIds: markup,
  })
  return {
    name: servedName(name),
    created: options.created ?? Math.floor(Date.now() / 1000),
    runtime,
    tokenizer,
    grammars,
    template: (wish) => (tokenizer.chatTemplates.size === 0 ? null : templateOrNull(tokenizer, wish)),
    renderChat: (chat) => tokenizer.renderChat(chat),
    [Symbol.asyncDispose]: () => grammars[Symbol.asyncDispose](),
  }
}

function templateOrNull(tokenizer: Tokenizer, options: { readonly withTools: boolean }): string | null {
  const { chatTemplates } = tokenizer
  if (!chatTemplates.has('default') && !(options.withTools && chatTemplates.has('tool_use'))) return null
  return pickTemplate(chatTemplates, options)
}
