/** A LocalRuntime on the fake model, with a tokenizer whose pieces a test chooses, and a backend that compares fake models. */
import type { Backend, DriftRows, Executable } from '../../gpu/program.ts'
import { createStreamDecoder } from '../../tokenizer/stream-decoder.ts'
import type { Tokenizer } from '../../tokenizer/tokenizer.ts'
import { BlockPool } from '../block-pool.ts'
import { Core } from '../core.ts'
import { LocalRuntime } from '../local-runtime.ts'
import { PrefixHasher } from '../prefix-hash.ts'
import { FixedStepBudget } from '../step-budget.ts'
import type { GenerationEvent, GenerationRequest, Runtime, SamplingParameters } from '../types.ts'
import { FakeExecutable, logprobAfter } from './fake-executable.ts'
import type { FakeOptions } from './fake-executable.ts'

export const GREEDY: SamplingParameters = { temperature: 0, topK: 0, topP: 1, minP: 0 }

export interface FakeRuntimeOptions {
  readonly vocabulary?: number
  readonly contextLimit?: number
  readonly blocks?: number
  readonly blockSize?: number
  readonly tokenBudget?: number
  readonly rows?: number
  readonly modelId?: string
  readonly variant?: number
  readonly eosTokenIds?: readonly number[]
  readonly onStep?: FakeOptions['onStep']
  readonly spoil?: FakeOptions['spoil']
  /** Text or bytes per token; null = no tokenizer. */
  readonly pieces?: ReadonlyMap<number, string | readonly number[]> | null
  readonly special?: readonly number[]
  readonly backend?: Backend
}

export interface FakeRuntime {
  readonly runtime: LocalRuntime
  readonly executable: FakeExecutable
  readonly pool: BlockPool
}

export function createFakeRuntime(options: FakeRuntimeOptions = {}): FakeRuntime {
  const { vocabulary = 997, contextLimit = 256, blockSize = 16, modelId = 'fake', rows = 8 } = options
  const blocks = options.blocks ?? 2 * Math.ceil(contextLimit / blockSize) + 1
  const executable = new FakeExecutable({
    capacity: { tokens: 4096, rows, sequences: 4, blocksPerSequence: Math.ceil(contextLimit / blockSize) },
    blocks,
    blockSize,
    vocabulary,
    variant: options.variant ?? 0,
    ...(options.onStep === undefined ? {} : { onStep: options.onStep }),
    ...(options.spoil === undefined ? {} : { spoil: options.spoil }),
  })
  const pool = new BlockPool(blocks, blockSize)
  const runtime = new LocalRuntime({
    info: {
      modelId,
      adapterId: 'fake',
      software: true,
      contextLimit,
      modelContextLimit: contextLimit,
      maxSequences: 4,
      kvDtype: 'f32',
      vocabulary,
      eosTokenIds: options.eosTokenIds ?? [],
      defaultSampling: GREEDY,
      weightBytes: 100,
      kvBytes: 10,
      otherBytes: 1,
      loadMs: 1,
    },
    backend: options.backend ?? createFakeBackend(),
    tokenizer: options.pieces === null ? null : fakeTokenizer(options.pieces ?? new Map(), options.special ?? []),
    createCore: (emit) =>
      new Core({
        executable,
        pool,
        hasher: new PrefixHasher(blockSize),
        budget: new FixedStepBudget(options.tokenBudget ?? 64),
        contextLimit,
        modelId,
        emit,
      }),
    release: () => executable[Symbol.dispose](),
  })
  return { runtime, executable, pool }
}

/** A device that fake models share; `lose` takes it away. Drift of two rows is the distance of their hashes, which no mistake reproduces. */
export function createFakeBackend(): Backend & { lose(reason: string): void } {
  const lost = Promise.withResolvers<string>()
  return {
    id: 'fake',
    kind: 'reference',
    software: true,
    lost: lost.promise,
    lose: (reason) => lost.resolve(reason),
    createKvCache: () => Promise.reject(new Error('not used')),
    compile: () => Promise.reject(new Error('not used')),
    usage: () => new Map(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
    async drift(baseline: Executable, candidate: Executable, rows: number, targets: Uint32Array): Promise<DriftRows> {
      if (!(baseline instanceof FakeExecutable) || !(candidate instanceof FakeExecutable)) throw new Error('not fake')
      if (baseline.lastRows.length !== rows || candidate.lastRows.length !== rows || targets.length !== rows) {
        throw new Error(`${rows} rows, but ${baseline.lastRows.length} and ${candidate.lastRows.length} were left behind`)
      }
      const { vocabulary } = baseline.program
      const column = <T extends Float32Array | Uint32Array>(out: T, value: (row: number) => number): T => {
        for (let row = 0; row < rows; row++) out[row] = value(row)
        return out
      }
      const left = (row: number): number => baseline.lastRows[row]!
      const right = (row: number): number => candidate.lastRows[row]!
      return {
        kld: column(new Float32Array(rows), (row) => fakeDrift(left(row), right(row))),
        baselineArgmax: column(new Uint32Array(rows), (row) => left(row) % vocabulary),
        candidateArgmax: column(new Uint32Array(rows), (row) => right(row) % vocabulary),
        baselineTargetLogprob: column(new Float32Array(rows), (row) => logprobAfter(left(row), targets[row]!)),
        candidateTargetLogprob: column(new Float32Array(rows), (row) => logprobAfter(right(row), targets[row]!)),
      }
    },
  }
}

export function fakeDrift(left: number, right: number): number {
  return Math.abs((left % 4096) - (right % 4096)) / 4096
}

export interface Collected {
  readonly events: readonly GenerationEvent[]
  readonly ids: readonly number[]
  readonly text: string
  readonly finished: Extract<GenerationEvent, { kind: 'finished' }>
}

/** Iterates to the end. */
export async function collect(runtime: Runtime, request: Partial<GenerationRequest> & { promptTokens: Uint32Array }): Promise<Collected> {
  const events: GenerationEvent[] = []
  for await (const event of runtime.generate({ id: crypto.randomUUID(), sampling: GREEDY, ...request })) events.push(event)
  const finished = events.at(-1)
  if (finished?.kind !== 'finished') throw new Error('The last event is not `finished`')
  const tokens = events.filter((event) => event.kind === 'tokens')
  return { events, ids: tokens.flatMap(({ ids }) => ids), text: tokens.map(({ text }) => text).join(''), finished }
}

export function fakeTokenizer(pieces: ReadonlyMap<number, string | readonly number[]>, special: readonly number[]): Tokenizer {
  const encoder = new TextEncoder()
  const source = {
    stripLeadingSpaces: 0,
    isSpecial: (id: number) => special.includes(id),
    tokenBytes(id: number) {
      const piece = pieces.get(id) ?? ''
      return typeof piece === 'string' ? encoder.encode(piece) : Uint8Array.from(piece)
    },
  }
  const decoding: Pick<Tokenizer, 'createStreamDecoder'> = { createStreamDecoder: (options) => createStreamDecoder(source, options) }
  return decoding as Tokenizer
}
