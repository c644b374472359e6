/** The error of loads as the next plan counts it. Every expected number is worked out by hand. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { fitOf } from './fit.ts'
import { measuredOverhead, withOverhead } from './overhead.ts'

function errorsOf(...bytes: readonly number[]) {
  return bytes.map((each, day) => ({ bytes: each, measuredAt: `2026-01-0${day + 1}` }))
}

test('the middle one of the newest seven counts', () => {
  expect(measuredOverhead([])).toBeNull()
  expect(measuredOverhead(errorsOf(5))).toEqual({ bytes: 5, loads: 1, newestAt: '2026-01-01' })
  // one that is far off, whichever it is, changes nothing
  expect(measuredOverhead(errorsOf(5, 9e12))).toMatchObject({ bytes: 5, loads: 2 })
  expect(measuredOverhead(errorsOf(5, 7, 9e12))).toMatchObject({ bytes: 7 })
  expect(measuredOverhead(errorsOf(-9e12, 7, 8))).toMatchObject({ bytes: 7 })
  // the first two are too old: 3, 4, 5, 6, 7, 8, 9
  expect(measuredOverhead(errorsOf(100, 100, 9, 8, 7, 6, 5, 4, 3))).toEqual({ bytes: 6, loads: 7, newestAt: '2026-01-09' })
})

test('too small a prediction gains a part, too large a one loses bytes, and none falls below nothing', () => {
  const corrected = [30, -30, -300].map((bytes) => withOverhead(100, { bytes, loads: 1, newestAt: '' }))
  expect([...corrected, withOverhead(100, null)]).toEqual([
    { activationBytes: 100, overheadBytes: 30 },
    { activationBytes: 70, overheadBytes: 0 },
    { activationBytes: 0, overheadBytes: 0 },
    { activationBytes: 100, overheadBytes: 0 },
  ])
  fc.assert(
    fc.property(fc.nat(), fc.array(fc.integer(), { minLength: 1 }), (activationBytes, bytes) => {
      const parts = withOverhead(activationBytes, measuredOverhead(bytes.map((each) => ({ bytes: each, measuredAt: '' }))))
      return parts.activationBytes >= 0 && parts.overheadBytes >= 0
    }),
    { seed: 18 },
  )
})

test('it counts against the budget, and the fit says from how many loads it is', () => {
  const parts = { weightBytes: 50, kvBytes: 10, activationBytes: 10, budgetBytes: 100, contextTokens: 1 }
  expect(fitOf(parts)).toEqual({ ...parts, verdict: 'fits' })
  expect(fitOf({ ...parts, overhead: { bytes: 15, loads: 3 } })).toEqual({
    ...parts,
    overheadBytes: 15,
    overheadLoads: 3,
    verdict: 'tight',
  })
  expect(fitOf({ ...parts, overhead: { bytes: 45, loads: 3 } }).verdict).toBe('weights')
  expect(fitOf({ ...parts, overhead: { bytes: -45, loads: 3 } })).toEqual({ ...parts, verdict: 'fits' })
})
