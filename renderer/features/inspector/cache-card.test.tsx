import { screen, within } from '@testing-library/react'
import { expect, test } from 'vitest'
import { renderApp } from '../../test/render-app.tsx'

test('measures what each type of cache costs when asked, and shows it with what was measured', async () => {
  const { engine, user } = renderApp('/models/m-pebble')
  await user.click(await screen.findByRole('button', { name: 'Measure' }))
  const table = await screen.findByRole('table', { name: 'KV cache types' })
  const rows = await within(table).findAllByRole('row')
  expect(
    rows.map((row) =>
      within(row)
        .queryAllByRole('cell')
        .map((cell) => cell.textContent),
    ),
  ).toEqual([
    [],
    ['f16', expect.stringContaining('3'), '6.0e−9', '1.1e−7', '100.00 %'],
    ['int8', expect.any(String), '3.7e−6', '6.0e−5', '99.83 %'],
    ['int8/int4', expect.any(String), '0.00033', '0.0058', '99.00 %'],
  ])
  expect(screen.getByText(/over 599 tokens of the/)).toBeDefined()
  expect(engine.calls.find((call) => call.path === 'models.cacheCosts')?.input).toEqual({ modelId: 'm-pebble' })
  expect(await screen.findByRole('button', { name: 'Measure again' })).toBeDefined()
})
