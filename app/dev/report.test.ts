import { describe, expect, it } from 'vitest'
import { addCounts, closingLine, playwrightCounts, stepCounts, vitestCounts } from './report.ts'

const vitest = (over: object = {}) =>
  JSON.stringify({ numPassedTests: 5, numFailedTests: 0, numPendingTests: 1, numTodoTests: 1, testResults: [], ...over })
const playwright = (over: object = {}) => JSON.stringify({ stats: { expected: 3, unexpected: 0, flaky: 0, skipped: 2, ...over } })
const oneFailure = { passed: 0, failed: 1, skipped: 0 }

describe('counting', () => {
  it('adds a run up into one line', () => {
    const counts = [stepCounts(0), stepCounts(1), vitestCounts(vitest(), 0), playwrightCounts(playwright(), 0)].reduce(addCounts)
    expect(closingLine(counts)).toBe('9 passed, 1 failed, 4 skipped')
    expect(closingLine({ passed: 2, failed: 0, skipped: 0 })).toBe('2 passed, 0 failed')
  })

  it('counts a test file that could not be loaded', () => {
    const testResults = [
      { status: 'failed', assertionResults: [] },
      { status: 'passed', assertionResults: [{}] },
    ]
    expect(vitestCounts(vitest({ testResults }), 1)).toEqual({ passed: 5, failed: 1, skipped: 2 })
  })

  it('counts a runner that failed although every test passed', () => {
    expect(vitestCounts(vitest(), 1)).toEqual({ passed: 5, failed: 1, skipped: 2 })
    expect(playwrightCounts(playwright(), 1)).toEqual({ passed: 3, failed: 1, skipped: 2 })
  })

  it('does not count twice', () => {
    expect(vitestCounts(vitest({ numFailedTests: 2 }), 1)).toEqual({ passed: 5, failed: 2, skipped: 2 })
  })

  it('counts a flaky test as failed', () => {
    expect(playwrightCounts(playwright({ flaky: 1 }), 0)).toEqual({ passed: 3, failed: 1, skipped: 2 })
  })

  it.each([null, '', '{"num', '{}', '[]', 'null'])('counts a missing or damaged report (%j) as a failure', (text) => {
    expect(vitestCounts(text, 0)).toEqual(oneFailure)
    expect(playwrightCounts(text, 0)).toEqual(oneFailure)
  })

  it('does not call a run without tests a success', () => {
    expect(vitestCounts(vitest({ numPassedTests: 0 }), 0)).toMatchObject({ passed: 0, failed: 1 })
    expect(playwrightCounts(playwright({ expected: 0 }), 0)).toMatchObject({ passed: 0, failed: 1 })
  })
})
