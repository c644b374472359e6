import { describe, expect, test } from 'vitest'
import { energyOf } from './energy-source.ts'
import type { EnergySource } from './energy-source.ts'
import { createUnwrap, EnergyTrace } from './energy-trace.ts'

function traceOf(method: 'counter' | 'power', readings: readonly (readonly [number, number])[]): EnergyTrace {
  const trace = new EnergyTrace(method)
  for (const [at, value] of readings) trace.add(at, value)
  return trace
}

const every100 = (count: number, value: (ms: number) => number): [number, number][] =>
  Array.from({ length: count }, (_, i) => [i * 100, value(i * 100)])

describe('energy between two times', () => {
  test('a steady power is power × time, also between readings', () => {
    const trace = traceOf(
      'power',
      every100(51, () => 250),
    )
    expect(trace.between(1000, 4000)).toEqual({ kind: 'measured', joules: 750, seconds: 3, samples: 31 })
    const odd = trace.between(1033, 3071)
    expect(odd).toMatchObject({ kind: 'measured', samples: 20 })
    expect(odd.kind === 'measured' && odd.joules).toBeCloseTo(250 * 2.038, 9)
  })

  test('a ramp is integrated by trapezoids: 0 to 400 W in 4 s is 800 J, its last second 350', () => {
    const trace = traceOf(
      'power',
      every100(41, (ms) => ms / 10),
    )
    const joules = (from: number, to: number): number => {
      const window = trace.between(from, to)
      return window.kind === 'measured' ? window.joules : Number.NaN
    }
    expect(joules(0, 4000)).toBeCloseTo(800, 9)
    expect(joules(3000, 4000)).toBeCloseTo(350, 9)
    expect(joules(0, 2000) + joules(2000, 4000)).toBeCloseTo(800, 9)
  })

  test('a counter is subtracted, needs no readings between, and starts anywhere', () => {
    const trace = traceOf('counter', [
      [0, 5000],
      [10_000, 5000 + 1200],
    ])
    expect(trace.between(0, 10_000)).toEqual({ kind: 'measured', joules: 1200, seconds: 10, samples: 2 })
    expect(trace.between(2500, 5000)).toEqual({ kind: 'measured', joules: 300, seconds: 2.5, samples: 0 })
  })

  test.each([
    ['too short', every100(51, () => 100), [1000, 1400], 'The run took 0.40 s; power is read too seldom for less than 1 s.'],
    ['began late', every100(51, () => 100), [-500, 3000], 'The readings began after the run.'],
    ['ended early', every100(31, () => 100), [1000, 4500], 'The readings ended 1.5 s before the run did.'],
    ['no readings', [], [1000, 4500], 'The readings began after the run.'],
    [
      'a gap',
      every100(51, () => 100).filter(([at]) => at < 2000 || at > 3500),
      [1000, 4500],
      'Only 20 readings of the power in 3.5 s, up to 1.7 s apart.',
    ],
    ['negative', [...every100(30, () => 100), [3000, -4]], [1000, 2000], 'A reading was -4.'],
    ['absurd', [...every100(30, () => 100), [3000, 1e6]], [1000, 2000], 'The counter jumped: 1000000 W between two readings.'],
  ] as const)('%s: not measured, with the reason', (_, readings, [from, to], reason) => {
    expect(traceOf('power', readings).between(from, to)).toEqual({ kind: 'not-measured', reason })
  })

  test('a reading that is not later than the last is left out', () => {
    const readings = every100(31, () => 100)
    const trace = traceOf('power', [...readings.slice(0, 10), [850, 9000], [900, 9000], ...readings.slice(10)])
    expect(trace.between(0, 3000)).toMatchObject({ joules: 300 })
  })
})

describe('counters that start again', () => {
  test('each fall is one range more', () => {
    const total = createUnwrap(1000)
    expect([900, 990, 40, 500, 20].map(total)).toEqual([900, 990, 1040, 1500, 2020])
  })

  test('a fall without a range, or from beyond it, is no wrap', () => {
    const endless = createUnwrap(null)
    expect([5, 9, 8].map(endless)).toEqual([5, 9, null])
    const wrong = createUnwrap(100)
    expect([500, 3].map(wrong)).toEqual([500, null])
  })
})

test('energy of a run: per token, per request, tokens per second and watt; nothing where nothing moved or came', () => {
  const source: EnergySource = {
    scope: 'gpu-board',
    counter: 'toy',
    method: 'power',
    intervalMs: 100,
    record: () => Promise.reject(new Error()),
  }
  const window = { kind: 'measured', joules: 600, seconds: 3, samples: 30 } as const
  expect(energyOf(source, window, { outputTokens: 1200, requests: 4 })).toEqual({
    kind: 'measured',
    joules: 600,
    seconds: 3,
    outputTokens: 1200,
    requests: 4,
    joulesPerOutputToken: 0.5,
    joulesPerRequest: 150,
    // 400 tok/s at 200 W
    tokensPerSecondPerWatt: 2,
    meanWatts: 200,
    scope: 'gpu-board',
    counter: 'toy',
    method: 'power',
    samples: 30,
    intervalMs: 100,
    idleSubtracted: false,
  })
  const none = (joules: number, outputTokens: number) => energyOf(source, { ...window, joules }, { outputTokens, requests: 4 })
  expect(none(0, 9)).toEqual({ kind: 'not-measured', reason: 'toy did not move during the run.' })
  expect(none(5, 0)).toEqual({ kind: 'not-measured', reason: 'No request was completed.' })
})
