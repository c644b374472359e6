import { screen, within } from '@testing-library/react'
import { expect, test } from 'vitest'
import type { ResultSet, ServedRun, ServiceLevel } from '../../../engine/contract/index.ts'
import { LIBRARY, RESULTS, SAMPLE } from '../../test/fixtures.ts'
import { renderApp } from '../../test/render-app.tsx'
import { goodputBoard } from './goodput-series.ts'
import { incomparableReason, metricsOf } from './metrics.ts'
import { entriesOf } from './queries.ts'

const CHAT: ServiceLevel = { name: 'chat', ttftMs: 200, tpotMs: 50, e2eMs: null }
const RAG: ServiceLevel = { name: 'rag', ttftMs: 300, tpotMs: 100, e2eMs: 3000 }

function run(rate: number | null, reached: number, share: number, level: ServiceLevel): ServedRun {
  return {
    profile: rate === null ? 'synchronous' : 'constant',
    concurrency: rate === null ? 1 : null,
    rate,
    durationSeconds: 10,
    fullDurationSeconds: 11,
    completed: 40,
    failed: 0,
    incomplete: 0,
    warmup: 2,
    requestsPerSecond: reached,
    inputTokensPerSecond: 10,
    outputTokensPerSecond: 10,
    totalTokensPerSecond: 20,
    meanConcurrency: 1,
    goodput: { level, requestsPerSecond: reached * share, share },
    queueMs: null,
    ttftMs: null,
    ttftFromSendMs: null,
    itlMs: null,
    tpotMs: null,
    e2eMs: null,
    inputTokens: null,
    outputTokens: null,
    cachedTokens: 0,
    clientLagP99Ms: null,
    warnings: [],
    errors: [],
  }
}

function served(level: ServiceLevel, rate99: number | null, rate90: number | null): ResultSet['served'] {
  return {
    target: 'in-process',
    url: null,
    model: 'pebble',
    load: 'synthetic 256+64, unique prefixes, seed 1',
    sharesGpu: true,
    runs: [run(8, 7.5, 0.4, level), run(null, 1.5, 1, level), run(4, 4.1, 0.95, level)],
    withinLevel: { level, rate99, rate90 },
    rawFile: null,
  }
}

const family = LIBRARY.filter((model) => model.id === SAMPLE.id || model.parentId === SAMPLE.id)
const results = RESULTS.map((result, index) => ({
  ...result,
  served: [served(CHAT, 1.5, 4), null, served(CHAT, null, null)][index] ?? null,
}))

test('the rates of a model in order, as scheduled or as reached; another level stands on no common axis', () => {
  const mixed = RESULTS.map((result, index) => ({ ...result, served: [served(CHAT, 1.5, 4), served(RAG, 4, 4), null][index] ?? null }))
  const board = goodputBoard(entriesOf(family, mixed))!
  expect(board.level).toEqual(CHAT)
  expect(board.series.map(({ points, rate99, rate90 }) => ({ points, rate99, rate90 }))).toEqual([
    {
      points: [
        { rate: 1.5, share: 1, load: 'synchronous, 1 at once' },
        { rate: 4, share: 0.95, load: 'constant, 4.00 requests/s' },
        { rate: 8, share: 0.4, load: 'constant, 8.00 requests/s' },
      ],
      rate99: 1.5,
      rate90: 4,
    },
  ])
  expect(board.left.map(({ level }) => level)).toEqual(['rag'])
  expect(goodputBoard(entriesOf(family, RESULTS))).toBeNull()
  const [original, other] = entriesOf(family, mixed)
  const metric = metricsOf([original!, other!]).find(({ id }) => id === 'served:goodput:constant, 4.00 requests/s')!
  expect(metric.format(metric.read(original!)!.value)).toBe('95.0 %')
  expect(incomparableReason(metric, other!, original!)).toBe(
    'held against rag (300 / 100 / 3000 ms), the baseline held against chat (200 / 50 / – ms)',
  )
})

test('the board says up to which rate the level was met', async () => {
  renderApp('/compare/m-pebble', { results })
  const table = within(await screen.findByRole('table', { name: 'Requests within the service level' }))
  expect(table.getAllByRole('row').map((row) => [...row.children].slice(0, 3).map((cell) => cell.textContent?.trim()))).toEqual([
    ['Model', '99 % within it up to', '90 % within it up to'],
    ['Original', '1.50 requests/s', '4.00 requests/s'],
    ['Balanced 4-bit', 'none of the loads', 'none of the loads'],
  ])
  expect(screen.getByText(/chat: first token within 200 ms, 50 ms for each token after it, from the moment/)).toBeDefined()
})
