import { describe, expect, test } from 'vitest'
import { createTableRuntime } from '../../evaluate/test/table-runtime.ts'
import type { Runtime } from '../../runtime/types.ts'
import type { LoadClock, LoadTarget } from '../load/load-target.ts'
import { runServedBenchmark } from '../load/served-benchmark.ts'
import type { ServedBenchmarkOptions } from '../load/served-benchmark.ts'
import type { EnergySource } from './energy-source.ts'
import { measureEnergy } from './measure-energy.ts'

/** A board that draws 200 W, and what it was asked. */
function steadyBoard(method: 'counter' | 'power') {
  const windows: [number, number][] = []
  const state = { open: 0 }
  const source: EnergySource = {
    scope: 'gpu-board',
    counter: 'toy',
    method,
    intervalMs: 100,
    async record() {
      state.open++
      return {
        async between(fromMs, toMs) {
          windows.push([fromMs, toMs])
          const seconds = (toMs - fromMs) / 1000
          return { kind: 'measured', joules: 200 * seconds, seconds, samples: Math.floor(seconds * 10) }
        },
        async [Symbol.asyncDispose]() {
          state.open--
        },
      }
    },
  }
  return { source, windows, state }
}

/** Each request takes 700 ms of `clock`. */
function slow(clock: { ms: number }): Runtime {
  const runtime = createTableRuntime('a', () => [1], 500)
  return new Proxy(runtime, {
    get: (target, key) => {
      if (key !== 'generate') return Reflect.get(target, key) as unknown
      return (...request: Parameters<Runtime['generate']>) => {
        clock.ms += 700
        return target.generate(...request)
      }
    },
  })
}

const SIZES = { promptTokens: 8, generatedTokens: 11 }

describe('the engine’s own requests', () => {
  test('are repeated for three seconds, after one that is not counted where power is sampled', async () => {
    const clock = { ms: 1000 }
    const { source, windows, state } = steadyBoard('power')
    const [energy] = await measureEnergy([{ runtime: slow(clock) }], source, { ...SIZES, now: () => clock.ms })
    // 700 ms to warm the sensor, then five of 700 ms
    expect(windows).toEqual([[1700, 5200]])
    expect(energy).toMatchObject({ kind: 'measured', requests: 5, outputTokens: 55, joules: 700, joulesPerRequest: 140, meanWatts: 200 })
    expect(state.open).toBe(0)
  })

  test('a counter needs no warming; models are measured one after the other', async () => {
    const clock = { ms: 0 }
    const { source, windows } = steadyBoard('counter')
    await measureEnergy([{ runtime: slow(clock) }, { runtime: slow(clock) }], source, { ...SIZES, now: () => clock.ms })
    expect(windows).toEqual([
      [0, 3500],
      [3500, 7000],
    ])
  })

  test('no counter: nothing is run, and the reason stands', async () => {
    const clock = { ms: 0 }
    const reason = 'There is none.'
    expect(await measureEnergy([{ runtime: slow(clock) }], { reason }, SIZES)).toEqual([{ kind: 'not-measured', reason }])
    expect(clock.ms).toBe(0)
  })

  test('a run that is cancelled ends its recording', async () => {
    const { source, state } = steadyBoard('power')
    const controller = new AbortController()
    controller.abort(new Error('enough'))
    const options = { ...SIZES, signal: controller.signal }
    await expect(measureEnergy([{ runtime: createTableRuntime('a', () => [1], 500) }], source, options)).rejects.toThrow('enough')
    expect(state.open).toBe(0)
  })
})

const OPTIONS: ServedBenchmarkOptions = {
  profile: 'synchronous',
  concurrency: [1],
  rates: [],
  sweepSteps: 3,
  requests: 4,
  maxSeconds: 60,
  warmupRequests: 1,
  promptTokens: 3,
  outputTokens: 10,
  sharedPrefixTokens: 0,
  level: null,
  trace: null,
  seed: 1,
  sharesGpu: true,
}

/** A second a request, in two chunks of one and nine tokens; the fourth fails. */
function counting(clock: { ms: number }): LoadTarget {
  return {
    kind: 'in-process',
    model: 'toy',
    url: null,
    async send(_prompt, id, onChunk) {
      clock.ms += 500
      onChunk(1)
      clock.ms += 500
      if (id === 3) throw new Error('refused')
      onChunk(9)
      return { inputTokens: 3, outputTokens: 10, cachedTokens: 0, finish: 'length' }
    },
  }
}

test('a load’s energy is that of its steady window, on the clock of the recording, over the tokens that came in it', async () => {
  const clock = { ms: 100_000 }
  const { source, windows, state } = steadyBoard('power')
  const loadClock: LoadClock = {
    now: () => clock.ms,
    until: (_, signal) => new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true })),
  }
  const hooks = { tokenize: async () => [1, 2, 3, 4], clock: loadClock }
  const { benchmark } = await runServedBenchmark(counting(clock), OPTIONS, { ...hooks, energy: source })
  // the warm-up took the first second
  expect(windows).toEqual([[101_000, 105_000]])
  // three whole answers and one token of the one that failed
  expect(benchmark.runs[0]!.energy).toMatchObject({ requests: 3, outputTokens: 31, joules: 800, joulesPerOutputToken: 800 / 31 })
  expect(state.open).toBe(0)
  const other = await runServedBenchmark(counting(clock), OPTIONS, { ...hooks, energy: { reason: 'none' } })
  expect(other.benchmark.runs[0]!.energy).toEqual({ kind: 'not-measured', reason: 'none' })
  const silent = await runServedBenchmark(counting(clock), OPTIONS, hooks)
  expect(silent.benchmark.runs[0]).not.toHaveProperty('energy')
})
