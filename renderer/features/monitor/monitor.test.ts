import { expect, test } from 'vitest'
import { monitorSamples } from '../../test/monitor-fixtures.ts'
import { coursePath, niceTop } from './course-path.ts'
import { COURSE_METRICS, isTold } from './metrics.ts'
import { joinSamples } from './queries.ts'
import { completeAddress } from './server-panel.tsx'

test('gaps stay gaps, and what is older than the window is left out', () => {
  const points = [
    { atMs: 0, value: 9 },
    { atMs: 50, value: 5 },
    { atMs: 60, value: null },
    { atMs: 80, value: 20 },
    { atMs: 100, value: 0 },
  ]
  expect(coursePath(points, { endMs: 100, spanMs: 100 }, 10)).toBe('M0.0 10.0L300.0 50.0M480.0 0.0L600.0 100.0')
  expect(coursePath(points, { endMs: 100, spanMs: 30 }, 10)).toBe('M200.0 0.0L600.0 100.0')
})

test('scales end at round numbers', () => {
  expect([0, 0.3, 1, 1.5, 2.1, 70, 1000].map(niceTop)).toEqual([1, 0.5, 2, 2, 5, 100, 2000])
})

test('samples join without repeating one', () => {
  const samples = monitorSamples(6, Date.parse('2026-11-23T12:00:00Z'))
  expect(joinSamples(samples.slice(0, 4), samples.slice(2))).toEqual(samples)
  expect(joinSamples([], samples)).toEqual(samples)
})

function told(samples: Parameters<typeof isTold>[1]): string[] {
  return COURSE_METRICS.filter((metric) => isTold(metric, samples)).map((metric) => metric.id)
}

test('only figures that a server tells are shown', () => {
  const [first, second] = monitorSamples(2, 0)
  expect(told([first!])).toEqual(['requests', 'kvUsage'])
  expect(told([first!, second!])).toEqual(COURSE_METRICS.map((metric) => metric.id))
})

test('addresses are completed, others refused', () => {
  expect(['localhost:8000', 'https://gpu.example/v1', 'ftp://x', 'javascript://alert(1)', '', 'http://'].map(completeAddress)).toEqual([
    'http://localhost:8000',
    'https://gpu.example/v1',
    null,
    null,
    null,
    null,
  ])
})
