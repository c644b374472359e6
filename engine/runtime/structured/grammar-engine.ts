/**
 * Structured output of one model: compiles grammars off the loop, keeps the recent ones, and starts matchers (specs/runtime.md §7). A grammar is
 * compiled on a thread that no answer uses at the time, so that a large schema never holds up somebody else's tokens.
 */
import type { TokenMaskProvider } from '../types.ts'
import { GrammarHost } from './grammar-host.ts'
import type { GrammarVocabulary } from './grammar-host.ts'
import { grammarText } from './grammar-source.ts'
import type { StructuredOutput } from './grammar-source.ts'
import { invalid } from './invalid.ts'

export interface GrammarTokenizer {
  readonly vocabSize: number
  tokenBytes(id: number): Uint8Array
  isSpecial(id: number): boolean
}

export interface GrammarEngineOptions {
  readonly tokenizer: GrammarTokenizer
  /** Width of the logits. */
  readonly vocabulary: number
  readonly stopTokenIds: readonly number[]
  /** Special tokens that may stand in an answer all the same, as their text: markers of tool calls. */
  readonly allowedSpecialIds?: readonly number[]
  /** Default 10 s. */
  readonly compileLimitMs?: number
}

/** A compiled grammar in use. Its thread compiles nothing else until it is disposed of, so do that when the answer has ended. */
export interface CompiledGrammar extends Disposable {
  /** The state of one answer. */
  start(): TokenMaskProvider
}

export interface GrammarEngine extends AsyncDisposable {
  /**
   * Rejects with `runtime.invalid-request` for what is no grammar, can't be enforced, or takes too long. Grammars seen lately are there at once.
   */
  compile(output: StructuredOutput, signal?: AbortSignal): Promise<CompiledGrammar>
}

const COMPILE_LIMIT_MS = 10_000
/** A thread holds the vocabulary: some tens of MB for 128 K tokens. */
const MAX_HOSTS = 3
/** Grammars kept per model; each takes up to a few MB. */
const MAX_CACHED = 64

interface Entry {
  readonly ebnf: string
  readonly host: GrammarHost
  readonly ready: Promise<number>
  users: number
}

export function createGrammarEngine(options: GrammarEngineOptions): GrammarEngine {
  return new Engine(options)
}

class Engine implements GrammarEngine {
  readonly #options: GrammarEngineOptions
  readonly #limitMs: number
  #vocabulary: GrammarVocabulary | null = null
  #hosts: GrammarHost[] = []
  /** In order of last use. */
  readonly #entries = new Map<string, Entry>()
  #turn: Promise<unknown> = Promise.resolve()
  #freed: (() => void)[] = []
  #closed = false

  constructor(options: GrammarEngineOptions) {
    this.#options = options
    this.#limitMs = options.compileLimitMs ?? COMPILE_LIMIT_MS
  }

  async compile(output: StructuredOutput, signal?: AbortSignal): Promise<CompiledGrammar> {
    const ebnf = grammarText(output)
    signal?.throwIfAborted()
    const known = this.#cached(ebnf)
    if (known !== undefined) {
      known.users++
      return this.#lease(known, await this.#ready(known, signal))
    }
    const entry = await this.#compileNext(ebnf, signal)
    return this.#lease(entry, await this.#ready(entry, signal))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    this.#entries.clear()
    for (const wake of this.#freed.splice(0)) wake()
    await Promise.all(this.#hosts.splice(0).map((host) => host.close()))
  }

  #cached(ebnf: string): Entry | undefined {
    const entry = this.#entries.get(ebnf)
    if (entry === undefined) return undefined
    this.#entries.delete(ebnf)
    if (entry.host.failed) return undefined
    this.#entries.set(ebnf, entry)
    return entry
  }

  /** The number of the entry's grammar, of which the caller is a user by now. */
  async #ready(entry: Entry, signal: AbortSignal | undefined): Promise<number> {
    try {
      const grammar = await entry.ready
      signal?.throwIfAborted()
      return grammar
    } catch (error) {
      this.#release(entry)
      if (this.#entries.get(entry.ebnf) === entry && signal?.aborted !== true) this.#entries.delete(entry.ebnf)
      throw error
    }
  }

  /** Compiles take turns, so that two of the same grammar are one, and each has a thread to itself. */
  #compileNext(ebnf: string, signal: AbortSignal | undefined): Promise<Entry> {
    const turn = this.#turn.then(async () => {
      const known = this.#cached(ebnf)
      if (known !== undefined) {
        known.users++
        return known
      }
      const host = await this.#freeHost(signal)
      const entry: Entry = { ebnf, host, ready: host.compile(ebnf, this.#limitMs), users: 1 }
      this.#entries.set(ebnf, entry)
      this.#evict()
      // Whoever asked for it learns why it failed.
      await entry.ready.catch(() => null)
      return entry
    })
    this.#turn = turn.catch(() => null)
    return turn
  }

  /** A thread that follows no answer now; waits for one where all do. */
  async #freeHost(signal: AbortSignal | undefined): Promise<GrammarHost> {
    for (;;) {
      signal?.throwIfAborted()
      if (this.#closed) throw new Error('The grammar engine was closed')
      this.#hosts = this.#hosts.filter((host) => !host.failed)
      const free = this.#hosts.find((host) => !this.#isUsed(host))
      if (free !== undefined) return free
      if (this.#hosts.length < MAX_HOSTS) {
        this.#vocabulary ??= vocabularyOf(this.#options)
        const host = new GrammarHost(this.#vocabulary)
        this.#hosts.push(host)
        return host
      }
      await new Promise<void>((resolve) => {
        this.#freed.push(resolve)
        signal?.addEventListener('abort', () => resolve(), { once: true })
      })
    }
  }

  #isUsed(host: GrammarHost): boolean {
    return [...this.#entries.values()].some((entry) => entry.host === host && entry.users > 0)
  }

  #evict(): void {
    for (const entry of this.#entries.values()) {
      if (this.#entries.size <= MAX_CACHED) return
      if (entry.users > 0) continue
      this.#entries.delete(entry.ebnf)
      void entry.ready.then((grammar) => entry.host.forget(grammar)).catch(() => null)
    }
  }

  #lease(entry: Entry, grammar: number): CompiledGrammar {
    let released = false
    return {
      start: () => entry.host.open(grammar),
      [Symbol.dispose]: () => {
        if (released) return
        released = true
        this.#release(entry)
      },
    }
  }

  #release(entry: Entry): void {
    entry.users--
    if (entry.users === 0) for (const wake of this.#freed.splice(0)) wake()
  }
}

function vocabularyOf({ tokenizer, vocabulary, stopTokenIds, allowedSpecialIds = [] }: GrammarEngineOptions): GrammarVocabulary {
  if (stopTokenIds.length === 0) {
    throw invalid(
      'The model has no end-of-sequence token, so an answer of a given form could never end.',
      'Add eos_token_id to its generation_config.json.',
    )
  }
  const count = Math.min(tokenizer.vocabSize, vocabulary)
  const allowed = new Set(allowedSpecialIds)
  const stops = new Set(stopTokenIds)
  const parts = Array.from({ length: count }, (_, id) =>
    stops.has(id) || (tokenizer.isSpecial(id) && !allowed.has(id)) || isNeverText(tokenizer.tokenBytes(id))
      ? new Uint8Array(0)
      : tokenizer.tokenBytes(id),
  )
  const bytes = new SharedArrayBuffer(parts.reduce((sum, part) => sum + part.length, 0))
  const offsets = new SharedArrayBuffer(4 * (count + 1))
  const all = new Uint8Array(bytes)
  const ends = new Uint32Array(offsets)
  let at = 0
  for (const [id, part] of parts.entries()) {
    all.set(part, at)
    at += part.length
    ends[id + 1] = at
  }
  return { bytes, offsets, vocabulary, stopTokenIds }
}

/** Bytes that no UTF-8 text holds, which byte-level vocabularies have as tokens all the same. */
function isNeverText(bytes: Uint8Array): boolean {
  return bytes.some((byte) => byte === 0xc0 || byte === 0xc1 || byte >= 0xf5)
}
