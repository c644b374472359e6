/**
 * Adds up what the checks, vitest and Playwright report into one closing line. It trusts no exit code alone and no report alone:
 * a runner that fails without a failed test, or leaves no readable report, counts as one failure.
 */

export interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

export const NO_COUNTS: Counts = { passed: 0, failed: 0, skipped: 0 }

export function addCounts(a: Counts, b: Counts): Counts {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped }
}

/** The plain closing line: "12 passed, 0 failed" with ", 3 skipped" where some were. */
export function closingLine({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

/** A step without tests of its own: it counts as one. */
export function stepCounts(exitCode: number): Counts {
  return exitCode === 0 ? { passed: 1, failed: 0, skipped: 0 } : { passed: 0, failed: 1, skipped: 0 }
}

interface VitestReport {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly numTodoTests: number
  readonly testResults: readonly { readonly status: string; readonly assertionResults: readonly unknown[] }[]
}

/** `report` is the text of vitest's JSON reporter, null when there is none. */
export function vitestCounts(report: string | null, exitCode: number): Counts {
  const parsed = parse<VitestReport>(report, (value) => typeof value.numPassedTests === 'number' && Array.isArray(value.testResults))
  if (parsed === null) return { passed: 0, failed: 1, skipped: 0 }
  // A file that cannot be loaded fails without holding a test.
  const brokenFiles = parsed.testResults.filter(({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0)
  return settle(
    {
      passed: parsed.numPassedTests,
      failed: parsed.numFailedTests + brokenFiles.length,
      skipped: parsed.numPendingTests + parsed.numTodoTests,
    },
    exitCode,
  )
}

interface PlaywrightReport {
  readonly stats: { readonly expected: number; readonly unexpected: number; readonly flaky: number; readonly skipped: number }
}

/** `report` is the text of Playwright's JSON reporter. A flaky test passed only when repeated, so it counts as failed. */
export function playwrightCounts(report: string | null, exitCode: number): Counts {
  const parsed = parse<PlaywrightReport>(report, (value) => typeof value.stats?.expected === 'number')
  if (parsed === null) return { passed: 0, failed: 1, skipped: 0 }
  const { expected, unexpected, flaky, skipped } = parsed.stats
  return settle({ passed: expected, failed: unexpected + flaky, skipped }, exitCode)
}

function settle(counts: Counts, exitCode: number): Counts {
  const ranNothing = counts.passed + counts.failed === 0
  return counts.failed === 0 && (exitCode !== 0 || ranNothing) ? { ...counts, failed: 1 } : counts
}

function parse<T>(text: string | null, isReport: (value: T) => boolean): T | null {
  if (text === null) return null
  try {
    const value = JSON.parse(text) as T
    return isReport(value) ? value : null
  } catch {
    return null // cut off by a crash: the caller counts it as a failure
  }
}
