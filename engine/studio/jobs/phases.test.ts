/** What a compression is expected to take: honest about several candidates, about fitting to text, and about what nobody has timed yet. */
import { expect, it } from 'vitest'
import { compressPhases, expectedTime } from './phases.ts'
import type { CompressScope } from './phases.ts'

const PLAIN: CompressScope = {
  name: 'quick-4bit',
  bytesIn: 600e6,
  bytesOut: 200e6,
  parameters: 300e6,
  adapter: 'software',
  calibrationTokens: null,
  outcome: null,
}
const FITTED: CompressScope = { ...PLAIN, name: 'gptq', calibrationTokens: 10_000 }
const BEST_OF: CompressScope = { ...FITTED, name: 'balanced-4bit', outcome: { kind: 'best-of', candidates: 2 } }

function never(): null {
  return null
}

function total(scope: CompressScope, id: string): number | undefined {
  return compressPhases(scope).find((phase) => phase.id === id)?.total
}

function seconds(scope: CompressScope): number {
  return expectedTime(compressPhases(scope), never).seconds
}

it('counts every candidate, what is measured, and the slowness of fitting on a processor', () => {
  expect(['read', 'quantize', 'write', 'verify', 'measure'].map((id) => total(BEST_OF, id))).toEqual([
    1200e6,
    1200e6,
    400e6,
    400e6,
    4 * 8192,
  ])
  expect(compressPhases({ ...BEST_OF, outcome: { kind: 'holds', candidates: 1 } }).map(({ id }) => id)).toEqual([
    'layers',
    'read',
    'quantize',
    'write',
    'verify',
    'measure',
  ])
  expect(compressPhases(PLAIN).map(({ id }) => id)).toEqual(['read', 'quantize', 'write', 'verify'])
  expect(seconds(FITTED)).toBeGreaterThan(10 * seconds(PLAIN))
  expect(seconds(BEST_OF)).toBeGreaterThan(2 * seconds(FITTED))
  expect(seconds({ ...BEST_OF, adapter: 'discrete' })).toBeLessThan(seconds(BEST_OF) / 10)
})

it('says whether it was measured here', () => {
  const phases = compressPhases(BEST_OF)
  expect(expectedTime(phases, never).basis).toBe('guess')
  // The slowest phase decides: knowing how fast a disk writes says nothing of fitting.
  expect(expectedTime(phases, (key) => (key.endsWith(':write') ? 1e9 : null)).basis).toBe('guess')
  const timed = expectedTime(phases, (key) => (key === 'compress:balanced-4bit:quantize' ? 1e5 : null))
  expect(timed).toEqual({ seconds: expect.any(Number), basis: 'measured' })
  expect(timed.seconds).toBeGreaterThan(12_000)
})
