/**
 * One grammar thread as the loop sees it. Compiling is a promise with a time limit. A mask is computed ahead, as soon as the token before it is
 * known, so that it usually lies there when the next step is built. A thread that dies or hangs fails its own answers and no others.
 */
import { Worker } from 'node:worker_threads'
import type { TokenMaskProvider } from '../types.ts'
import { invalid } from './invalid.ts'
import { MATCHER_HEADER, MatcherStatus, matcherBytes } from './matcher-memory.ts'

/** The bytes of every token, end to end, shared by the threads of a model. */
export interface GrammarVocabulary {
  readonly bytes: SharedArrayBuffer
  /** Token i is bytes[offsets[i] … offsets[i + 1]); empty = may never be chosen (special tokens, padding). */
  readonly offsets: SharedArrayBuffer
  /** Width of the model's logits, which may exceed the number of tokens. */
  readonly vocabulary: number
  /** Allowed where the grammar may end, and nowhere else. */
  readonly stopTokenIds: readonly number[]
}

export type GrammarThreadData = GrammarVocabulary

export type HostMessage =
  | { readonly kind: 'compile'; readonly grammar: number; readonly ebnf: string }
  | { readonly kind: 'forget'; readonly grammar: number }
  | { readonly kind: 'open'; readonly grammar: number; readonly matcher: number; readonly memory: SharedArrayBuffer }
  | {
      readonly kind: 'advance'
      readonly matcher: number
      readonly sequence: number
      readonly rollback: number
      readonly accept: readonly number[]
    }
  | { readonly kind: 'close'; readonly matcher: number }

export interface ThreadMessage {
  readonly kind: 'compiled'
  readonly grammar: number
  readonly error: string | null
}

/** A mask takes fractions of a millisecond, tens at worst: longer means that the thread is gone. */
const MASK_LIMIT_MS = 10_000

interface Compiling {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

function threadUrl(): URL {
  const extension = /\.[cm]?[jt]s(?=$|\?)/.exec(import.meta.url)?.[0] ?? '.js'
  return new URL(`./grammar-thread${extension}`, import.meta.url)
}

export class GrammarHost {
  readonly #worker: Worker
  readonly #vocabulary: GrammarVocabulary
  readonly #compiling = new Map<number, Compiling>()
  #nextGrammar = 0
  #nextMatcher = 0
  #failure: Error | null = null

  constructor(vocabulary: GrammarVocabulary) {
    this.#vocabulary = vocabulary
    this.#worker = new Worker(threadUrl(), { workerData: vocabulary satisfies GrammarThreadData })
    // A process with nothing else to do may end.
    this.#worker.unref()
    this.#worker.on('message', ({ grammar, error }: ThreadMessage) => {
      const waiting = this.#compiling.get(grammar)
      this.#compiling.delete(grammar)
      if (waiting === undefined) return
      clearTimeout(waiting.timer)
      if (error === null) waiting.resolve()
      else waiting.reject(invalid(`The answer's form can't be enforced: ${error}`, 'Correct the schema, pattern or grammar.'))
    })
    this.#worker.on('error', (error) => this.#fail(error instanceof Error ? error : new Error(String(error))))
    this.#worker.on('exit', () => this.#fail(new Error('The grammar thread has ended')))
  }

  get failed(): boolean {
    return this.#failure !== null
  }

  /** The number of a compiled grammar. Rejects with `runtime.invalid-request` for what is none or takes too long; then the thread ends. */
  async compile(ebnf: string, limitMs: number): Promise<number> {
    if (this.#failure !== null) throw this.#failure
    const grammar = this.#nextGrammar++
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const tooLong = (): void => {
      this.#fail(
        invalid(`The answer's form took over ${limitMs / 1000} s to compile.`, 'Simplify it: fewer alternatives, smaller repetitions.'),
      )
    }
    this.#compiling.set(grammar, { resolve, reject, timer: setTimeout(tooLong, limitMs) })
    this.#post({ kind: 'compile', grammar, ebnf })
    await promise
    return grammar
  }

  forget(grammar: number): void {
    if (this.#failure === null) this.#post({ kind: 'forget', grammar })
  }

  /** Follows one answer through the grammar. */
  open(grammar: number): TokenMaskProvider {
    if (this.#failure !== null) throw this.#failure
    const matcher = this.#nextMatcher++
    const memory = new SharedArrayBuffer(matcherBytes(this.#vocabulary.vocabulary))
    const header = new Int32Array(memory, 0, MATCHER_HEADER.words)
    const words = new Uint32Array(memory, 4 * MATCHER_HEADER.words)
    let sequence = 0
    let closed = false
    /** Tokens accepted after the end of the grammar, which the thread never sees. */
    let beyond = 0
    this.#post({ kind: 'open', grammar, matcher, memory })
    const advance = (rollback: number, accept: readonly number[]): void => {
      if (this.#failure !== null) throw this.#failure
      sequence++
      this.#post({ kind: 'advance', matcher, sequence, rollback, accept })
    }
    const current = (): Uint32Array | null => {
      const status = Atomics.load(header, MATCHER_HEADER.status)
      if (status === MatcherStatus.refused) throw new Error('The grammar refused a token that its mask had allowed')
      return status === MatcherStatus.ended ? null : words
    }
    advance(0, [])
    return {
      mask: () => {
        if (this.#failure !== null) throw this.#failure
        if (Atomics.load(header, MATCHER_HEADER.sequence) === sequence) return current()
        return this.#arrival(header, sequence).then(current)
      },
      accept: (token) => {
        this.#await(header, sequence)
        const mask = current()
        if (mask === null) {
          beyond++
          return true
        }
        if ((((mask[token >> 5] ?? 0) >>> (token & 31)) & 1) === 0) return false
        advance(0, [token])
        return true
      },
      rollback: (count) => {
        const inside = count - beyond
        beyond = Math.max(0, beyond - count)
        if (inside > 0) advance(inside, [])
      },
      dispose: () => {
        if (closed) return
        closed = true
        if (this.#failure === null) this.#post({ kind: 'close', matcher })
      },
    }
  }

  async close(): Promise<void> {
    this.#fail(new Error('The grammar thread was closed'))
    await this.#worker.terminate()
  }

  async #arrival(header: Int32Array<SharedArrayBuffer>, sequence: number): Promise<void> {
    const deadline = performance.now() + MASK_LIMIT_MS
    for (;;) {
      if (this.#failure !== null) throw this.#failure
      const seen = Atomics.load(header, MATCHER_HEADER.sequence)
      if (seen === sequence) return
      // Wakes now and then to see whether the thread is still there.
      await Atomics.waitAsync(header, MATCHER_HEADER.sequence, seen, 100).value
      if (performance.now() > deadline) this.#fail(new Error(`The grammar thread did not answer within ${MASK_LIMIT_MS} ms`))
    }
  }

  /** Blocks: only where a token is accepted whose mask nobody waited for. */
  #await(header: Int32Array<SharedArrayBuffer>, sequence: number): void {
    const deadline = performance.now() + MASK_LIMIT_MS
    for (;;) {
      if (this.#failure !== null) throw this.#failure
      const seen = Atomics.load(header, MATCHER_HEADER.sequence)
      if (seen === sequence) return
      const left = deadline - performance.now()
      if (left <= 0) {
        this.#fail(new Error(`The grammar thread did not answer within ${MASK_LIMIT_MS} ms`))
        continue
      }
      Atomics.wait(header, MATCHER_HEADER.sequence, seen, left)
    }
  }

  #post(message: HostMessage): void {
    this.#worker.postMessage(message, [])
  }

  #fail(error: Error): void {
    if (this.#failure !== null) return
    this.#failure = error
    for (const { reject, timer } of this.#compiling.values()) {
      clearTimeout(timer)
      reject(error)
    }
    this.#compiling.clear()
    void this.#worker.terminate()
  }
}
