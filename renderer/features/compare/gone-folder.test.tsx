/** A variant whose folder is gone: its figures stay, nothing more is asked of it. */
import { screen, waitFor, within } from '@testing-library/react'
import { expect, test } from 'vitest'
import { SAMPLE, SAMPLE_W4, SAMPLE_W8 } from '../../test/fixtures.ts'
import { renderApp } from '../../test/render-app.tsx'

test('a variant whose folder is gone is marked, and measuring again asks only the others', async () => {
  const gone = {
    ...SAMPLE_W4,
    status: 'missing' as const,
    statusReason: { code: 'checkpoint.not-found', message: 'The folder is no longer there.', hint: 'Locate it.' },
  }
  const { engine, user } = renderApp('/compare/m-pebble', { library: [SAMPLE, SAMPLE_W8, gone] })
  const mark = await screen.findByRole('img', { name: 'its folder is gone' })
  expect(mark.getAttribute('title')).toBe('The folder is no longer there.')
  await user.click(screen.getByRole('button', { name: 'Measure again' }))
  await waitFor(() => expect(engine.calls.some((call) => call.path === 'results.evaluate')).toBe(true))
  expect(engine.calls.find((call) => call.path === 'results.evaluate')?.input).toMatchObject({ modelIds: ['m-pebble', 'm-pebble-w8'] })
  const size = await screen.findByRole('row', { name: /Size of the weights/ })
  expect(within(size).getAllByRole('cell').at(-1)?.textContent).not.toBe('—')
})
