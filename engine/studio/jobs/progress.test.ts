import { array, assert, double, property, tuple } from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { StoredPhase } from '../store/job-store.ts'
import { JobProgress } from './progress.ts'

function phase(id: string, total: number, change: Partial<StoredPhase> = {}): StoredPhase {
  return { id, title: id, state: 'pending', done: 0, total, unit: 'bytes', rateKey: `key:${id}`, priorRate: 10, group: id, ...change }
}

function setup(phases: readonly StoredPhase[], remembered: Record<string, number> = {}, resumed = false) {
  const clock = { ms: 0 }
  const progress = new JobProgress({
    phases,
    rememberedRate: (key) => remembered[key] ?? null,
    now: () => clock.ms,
    resumed,
  })
  return { clock, progress }
}

describe('progress', () => {
  it('weighs phases by the time they are expected to take', () => {
    // 100 units at 10/s is 10 s, 100 units at 100/s is 1 s: half of the first phase is 5 of 11 seconds
    const { progress } = setup([phase('slow', 100), phase('fast', 100, { priorRate: 100 })])
    progress.advance('slow', 50, 100, null)
    expect(progress.snapshot().progress).toBeCloseTo(5 / 11, 6)
  })

  it('counts phases that run at the same time once', () => {
    const { progress } = setup([phase('read', 100, { group: 'stream' }), phase('write', 50, { group: 'stream' }), phase('verify', 100)])
    progress.advance('read', 100, 100, null)
    progress.advance('write', 25, 50, null)
    // the stream takes 10 s and is three quarters through, verify takes another 10 s
    expect(progress.snapshot().progress).toBeCloseTo((10 * 0.75) / 20, 6)
  })

  it('leaves out skipped phases and ends at one', () => {
    const { progress } = setup([phase('a', 10), phase('b', 1000)])
    progress.skip('b')
    progress.advance('a', 10, 10, null)
    progress.finish('a')
    expect(progress.snapshot()).toMatchObject({ progress: 1 })
  })

  it('never falls, whatever is reported', () => {
    assert(
      property(array(tuple(double({ min: 0, max: 2000, noNaN: true }), double({ min: 1, max: 1000, noNaN: true }))), (reports) => {
        const { clock, progress } = setup([phase('a', 100), phase('b', 100)])
        let last = 0
        for (const [ms, done] of reports) {
          clock.ms += ms
          progress.advance('a', done, 500, null)
          const now = progress.snapshot().progress
          expect(now).toBeGreaterThanOrEqual(last)
          expect(now).toBeLessThanOrEqual(1)
          last = now
        }
      }),
      { seed: 20_261_123 },
    )
  })
})

describe('the estimate', () => {
  it('is not shown before 5 % or 10 s', () => {
    const { clock, progress } = setup([phase('a', 1000)])
    progress.start('a')
    clock.ms = 9999
    progress.advance('a', 40, 1000, null)
    expect(progress.snapshot().etaSeconds).toBeNull()
    clock.ms = 10_000
    expect(progress.snapshot().etaSeconds).not.toBeNull()
  })

  it('is shown at 5 % even before 10 s', () => {
    const { clock, progress } = setup([phase('a', 1000)])
    progress.start('a')
    clock.ms = 1000
    progress.advance('a', 50, 1000, null)
    expect(progress.snapshot().etaSeconds).toBeCloseTo(950 / 50, 3)
  })

  it('uses the speed remembered on this machine for phases that have not begun', () => {
    const { clock, progress } = setup([phase('a', 100), phase('b', 240)], { 'key:b': 3 })
    progress.start('a')
    clock.ms = 5000
    progress.advance('a', 50, 100, null)
    expect(progress.snapshot().etaSeconds).toBeCloseTo(5 + 80, 3)
  })

  it('follows a machine that slows down, weighting recent speed more', () => {
    const { clock, progress } = setup([phase('a', 1000)])
    progress.start('a')
    for (let second = 1; second <= 10; second++) {
      clock.ms = second * 1000
      progress.advance('a', second * 10, 1000, null)
    }
    expect(progress.snapshot().rate?.value).toBeCloseTo(10, 6)
    for (let second = 11; second <= 60; second++) {
      clock.ms = second * 1000
      progress.advance('a', 100 + (second - 10) * 2, 1000, null)
    }
    const { rate, etaSeconds } = progress.snapshot()
    expect(rate?.value).toBeLessThan(2.2)
    expect(etaSeconds).toBeGreaterThan(350)
  })

  it('holds still instead of counting up for noise', () => {
    const { clock, progress } = setup([phase('a', 1000)])
    progress.start('a')
    const shown: number[] = []
    for (let step = 1; step <= 40; step++) {
      clock.ms += 500 + (step % 3) * 60
      progress.advance('a', step * 10, 1000, null)
      const eta = progress.snapshot().etaSeconds
      if (eta !== null) shown.push(eta)
    }
    expect(shown.length).toBeGreaterThan(20)
    for (let index = 1; index < shown.length; index++) expect(shown[index]!).toBeLessThanOrEqual(shown[index - 1]! + 1e-9)
  })

  it('comes within a tenth of the truth for a steady job, from 10 % on', () => {
    const { clock, progress } = setup([phase('a', 1000)])
    progress.start('a')
    for (let done = 10; done < 1000; done += 10) {
      clock.ms += 400
      progress.advance('a', done, 1000, null)
      if (done < 100) continue
      const truth = ((1000 - done) / 25) * 1
      expect(Math.abs(progress.snapshot().etaSeconds! - truth)).toBeLessThanOrEqual(truth * 0.1 + 1)
    }
  })
})

describe('speed and stall', () => {
  it('reports seconds since the last finished unit', () => {
    const { clock, progress } = setup([phase('a', 100)])
    progress.start('a')
    clock.ms = 3000
    progress.advance('a', 1, 100, 'tensor')
    clock.ms = 20_000
    progress.advance('a', 1, 100, 'tensor')
    expect(progress.snapshot()).toMatchObject({ stalledSeconds: 17, currentItem: 'tensor' })
  })

  it('takes a sign of life for one, without counting it as a unit', () => {
    const { clock, progress } = setup([phase('a', 100)])
    clock.ms = 20_000
    progress.working('Loading the model')
    clock.ms = 22_000
    expect(progress.snapshot()).toMatchObject({ stalledSeconds: 2, currentItem: 'Loading the model', rate: null, progress: 0 })
  })

  it('remembers the speed of a finished phase', () => {
    const { clock, progress } = setup([phase('a', 100)])
    progress.start('a')
    clock.ms = 4000
    progress.advance('a', 100, 100, null)
    expect(progress.finish('a')).toEqual({ key: 'key:a', unitsPerSecond: 25 })
  })

  it('does not take work that an earlier run had finished for speed', () => {
    const { clock, progress } = setup([phase('a', 1000)], {}, true)
    progress.start('a')
    clock.ms = 1000
    progress.advance('a', 900, 1000, null)
    clock.ms = 3000
    progress.advance('a', 920, 1000, null)
    expect(progress.snapshot().rate).toEqual({ value: 10, unit: 'bytes' })
    clock.ms = 11_000
    progress.advance('a', 1000, 1000, null)
    expect(progress.finish('a')).toEqual({ key: 'key:a', unitsPerSecond: 10 })
  })
})
