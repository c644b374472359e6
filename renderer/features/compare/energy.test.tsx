import { screen, within } from '@testing-library/react'
import { describe, expect, test } from 'vitest'
import type { Energy, MeasuredEnergy, ResultSet } from '../../../engine/contract/index.ts'
import { LIBRARY, RESULTS, SAMPLE } from '../../test/fixtures.ts'
import { renderApp } from '../../test/render-app.tsx'
import { toMarkdown } from './export.ts'
import { differenceOf, formatDifference, incomparableReason, metricsOf, type Entry, type Metric } from './metrics.ts'
import { pointsOf } from './points.ts'
import { entriesOf } from './queries.ts'
import { reportHtml } from './report/report.ts'

const MEASURED: MeasuredEnergy = {
  kind: 'measured',
  joules: 600,
  seconds: 3,
  outputTokens: 1200,
  requests: 4,
  joulesPerOutputToken: 0.5,
  joulesPerRequest: 150,
  tokensPerSecondPerWatt: 2,
  meanWatts: 200,
  scope: 'gpu-board',
  counter: 'nvidia-smi power.draw.instant',
  method: 'power',
  samples: 30,
  intervalMs: 100,
  idleSubtracted: false,
}
const REASON = 'The processor’s energy counter is for root only here.'
const SMALLER: Energy = { ...MEASURED, joulesPerOutputToken: 0.05 }
const NONE: Energy = { kind: 'not-measured', reason: REASON }

function withEnergies(...energies: readonly (Energy | undefined)[]): ResultSet[] {
  return RESULTS.map((result, i) => ({ ...result, throughput: { ...result.throughput!, energy: energies[i] } }))
}

const family = LIBRARY.filter((model) => model.id === SAMPLE.id || model.parentId === SAMPLE.id)

function board(...energies: readonly (Energy | undefined)[]) {
  const entries = entriesOf(family, withEnergies(...energies))
  const metrics = metricsOf(entries)
  const metric = (id: string): Metric => metrics.find((candidate) => candidate.id === id)!
  const [source, w8, w4] = entries as [Entry, Entry, Entry]
  return { entries, source, w8, w4, metrics, metric, energy: metric('energy') }
}

describe('energy on the board', () => {
  test('a measured one is read per output token, with where it comes from', () => {
    const { source, w4, energy } = board(MEASURED, NONE, SMALLER)
    expect([source, w4].map((entry) => energy.format(energy.read(entry)!.value))).toEqual(['0.500 J/token', '50.0 mJ/token'])
    expect(energy.read(source)?.details).toEqual({
      'Per request': '150 J',
      'Tokens per second and watt': '2.00',
      'Mean power': '200 W',
      Covers: 'GPU board, whoever used it; idle power not subtracted',
      Counter: 'nvidia-smi power.draw.instant, integrated from 30 readings every 100 ms',
      Measured: '4 requests, 1200 tokens in 3.00 s',
      Load: '256 prompt, 64 generated tokens, one request at a time',
    })
    expect(formatDifference(energy, differenceOf(energy, w4, source)!)).toBe('−90.0 %')
  })

  test('one that was not is a reason in table, chart, report and what is copied; one that nobody tried is a dash', () => {
    const { entries, source, w8, w4, metrics, metric, energy } = board(MEASURED, NONE, undefined)
    expect([energy.read(w8), energy.missing!(w8), energy.missing!(w4)]).toEqual([null, REASON, null])
    expect(
      toMarkdown({ entries, baseline: source, source, metrics: [energy] })
        .split('\n')
        .slice(2),
    ).toEqual(['| Energy per output token | 0.500 J/token | not measured [1] | — |', '', `[1] Not measured: ${REASON}`])
    const { left } = pointsOf({ entries, baseline: source, source, metrics: { x: energy, y: metric('top1'), decode: metric('decode') } })
    expect(left).toEqual([`Near-lossless 8-bit (not measured: ${REASON.slice(0, -1)})`, 'Balanced 4-bit (not measured)'])
    expect(metrics.indexOf(energy)).toBeGreaterThan(0)
    const page = reportHtml({ name: 'Pebble', entries, baseline: source, source, runs: new Map(), madeAt: '2026-11-23T12:00:00.000Z' })
    expect(page).toContain(REASON)
  })

  test('another counter is another quantity', () => {
    const { source, w8, w4, energy } = board(MEASURED, { ...SMALLER, counter: 'RAPL package-0', scope: 'cpu-package' }, SMALLER)
    expect(incomparableReason(energy, w4, source)).toBeNull()
    expect(incomparableReason(energy, w8, source)).toBe(
      'read from RAPL package-0 (CPU package), the baseline read from nvidia-smi power.draw.instant (GPU board)',
    )
  })
})

test('the table greys what is not measured and says why', async () => {
  const { user } = renderApp('/compare/m-pebble', { results: withEnergies(MEASURED, NONE, SMALLER) })
  const table = within(await screen.findByRole('table', { name: 'All figures' }))
  const row = table.getByRole('row', { name: /Energy per output token/ })
  expect(within(row).getByText('0.500 J/token')).toBeDefined()
  await user.hover(within(row).getByText('not measured'))
  expect(await screen.findByText(`Not measured: ${REASON}`)).toBeDefined()
})
