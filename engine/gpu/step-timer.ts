/**
 * Steps of several small programs timed in turn: all are compiled first, then each round runs every one of them for a moment, so that an adapter that
 * drifts (a busy machine, a clock that climbs) drifts under all of them alike. What counts is the quarter of a step's times that is fastest: other
 * programs only ever slow a step down, and on a machine at rest the quartile is within a few percent of the median. Knows nothing of what the
 * programs mean.
 */
import { BLOCK_SIZE, lastTokens } from './calibration-program.ts'
import type { Backend, Executable, KvCache, Program, StepInput } from './program.ts'

export interface TimedProgram {
  readonly program: Program
  /** Of the program's cache. */
  readonly cache: { readonly layers: number; readonly kvHeads: number; readonly headDim: number }
  /** Tokens of a step, and lengths of the one sequence after it: a step of its own name for each. */
  readonly tokens: number
  readonly steps: readonly { readonly name: string; readonly context: number }[]
}

interface TimedStep {
  readonly name: string
  readonly executable: Executable
  readonly input: StepInput
  /** Steps in a row of one round. */
  readonly repeats: number
  readonly seconds: number[]
}

/** How long each step is repeated in a round. */
const MOMENT_SECONDS = 0.02
const MOST_REPEATS = 32

/** Holds memory of the device until disposed. */
export class StepTimer implements Disposable {
  readonly #held = new DisposableStack()
  readonly #steps: TimedStep[] = []

  /** Compiles a program and runs its steps twice: the first time pays for what drivers put off until then. Rejects with the signal's reason. */
  async add(
    backend: Backend,
    timed: TimedProgram,
    options: { readonly owner: string; readonly signal: AbortSignal | undefined },
  ): Promise<void> {
    const { program, cache, tokens, steps } = timed
    const { owner, signal } = options
    signal?.throwIfAborted()
    const blocks = Math.ceil(Math.max(...steps.map(({ context }) => context)) / BLOCK_SIZE)
    const layout = { ...cache, blockSize: BLOCK_SIZE, blocks: blocks + 1, dtype: 'f16' } as const
    const kv: KvCache = this.#held.use(await backend.createKvCache(layout, owner))
    const capacity = { tokens, rows: 1, sequences: 1, blocksPerSequence: blocks }
    const compiled = await backend.compile(program, { capacity, kv, owner, ...(signal === undefined ? {} : { signal }) })
    const executable = this.#held.use(compiled)
    for (const { name, context } of steps) {
      const input = lastTokens(tokens, context, blocks)
      await executable.step(input)
      const began = performance.now()
      await executable.step(input)
      const once = (performance.now() - began) / 1000
      const repeats = Math.max(1, Math.min(MOST_REPEATS, Math.ceil(MOMENT_SECONDS / once)))
      this.#steps.push({ name, executable, input, repeats, seconds: [] })
    }
  }

  /** Every step for its moment. */
  async round(signal?: AbortSignal): Promise<void> {
    for (const { executable, input, repeats, seconds } of this.#steps) {
      signal?.throwIfAborted()
      for (let n = 0; n < repeats; n++) {
        const began = performance.now()
        await executable.step(input)
        seconds.push((performance.now() - began) / 1000)
      }
    }
  }

  /** Forgets the rounds so far: they were for warming up. */
  forget(): void {
    for (const { seconds } of this.#steps) seconds.length = 0
  }

  /** Lower quartile of the seconds of the step of that name. Throws RangeError where there is none or it never ran. */
  seconds(name: string): number {
    const times = this.#steps.find((step) => step.name === name)?.seconds ?? []
    if (times.length === 0) throw new RangeError(`"${name}" was not timed`)
    return lowerQuartile(times)
  }

  [Symbol.dispose](): void {
    this.#steps.length = 0
    this.#held.dispose()
  }
}

/** NaN of nothing. */
export function lowerQuartile(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[times.length >> 2] ?? Number.NaN
}
