import { screen, waitFor, within } from '@testing-library/react'
import { expect, test } from 'vitest'
import type { ResultSet } from '../../../engine/contract/index.ts'
import { RESULTS } from '../../test/fixtures.ts'
import { renderApp } from '../../test/render-app.tsx'

const SERVED: ResultSet['served'] = {
  target: 'in-process',
  url: null,
  model: 'pebble',
  load: 'synthetic 256+64, unique prefixes, seed 1',
  sharesGpu: false,
  runs: [],
  rawFile: '/data/benchmarks/1.json',
}

test('a load’s times are shown under the names of the tool that is picked', async () => {
  const results = RESULTS.map((result, index) => (index === 1 ? { ...result, served: SERVED } : result))
  const { engine, user } = renderApp('/compare/m-pebble', { results })
  const table = within(await screen.findByRole('table', { name: 'Latencies under load' }))
  const rows = () => table.getAllByRole('row').map((row) => [...row.children].map((cell) => cell.textContent))
  expect(rows()).toEqual([
    ['Load', 'Latency', 'Mean', 'Median', 'p90', 'p99', 'Values'],
    ['concurrent, 1 at once', 'Time to first token', '20.0 ms', '19.0 ms', '24.0 ms', '30.0 ms', '40'],
    ['', 'Between tokens', '—', '—', '—', '—', '—'],
    ['concurrent, 4 at once', 'Time to first token', '80.0 ms', '76.0 ms', '96.0 ms', '120 ms', '40'],
    ['', 'Between tokens', '8.00 ms', '7.60 ms', '9.60 ms', '12.0 ms', '40'],
  ])
  await user.click(table.getAllByRole('button', { name: 'Between tokens' })[0] ?? document.body)
  expect(await screen.findByText('Every pause between two tokens, of all requests together.')).toBeDefined()
  await user.click(screen.getByRole('combobox', { name: 'Times as defined by' }))
  await user.click(await screen.findByRole('option', { name: 'AIPerf' }))
  await waitFor(() => expect(table.getAllByText('time_to_first_token').length).toBe(2))
  expect(screen.getByText(/inter-chunk latency pools the gaps/)).toBeDefined()
  expect(engine.calls.filter((call) => call.path === 'benchmarks.latencies').map((call) => call.input)).toEqual([
    { modelId: RESULTS[1]?.modelId, convention: 'lathe' },
    { modelId: RESULTS[1]?.modelId, convention: 'aiperf' },
  ])
})

test('a board without a load has no such card', async () => {
  renderApp('/compare/m-pebble')
  await screen.findByRole('heading', { name: 'Where the words differ' })
  expect(screen.queryByRole('table', { name: 'Latencies under load' })).toBeNull()
})
