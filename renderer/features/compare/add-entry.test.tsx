import { fireEvent, screen, waitFor, within } from '@testing-library/react'
import { expect, test } from 'vitest'
import { renderApp } from '../../test/render-app.tsx'

async function openDialog(user: ReturnType<typeof renderApp>['user'], action: RegExp) {
  await user.click(await screen.findByRole('button', { name: 'Add' }))
  await user.click(await screen.findByRole('menuitem', { name: action }))
  return within(await screen.findByRole('dialog'))
}

async function fill(user: ReturnType<typeof renderApp>['user'], field: HTMLElement, text: string) {
  await user.click(field)
  await user.paste(text)
}

test('a model on a server joins the board, has no size, and is measured by text, the original’s tasks and a load', async () => {
  const { engine, user } = renderApp('/compare/m-pebble')
  const dialog = await openDialog(user, /on a server/)
  await fill(user, dialog.getByLabelText('Address'), 'http://gpu:8000/v1')
  await fill(user, dialog.getByLabelText('Model'), 'acme-8b')
  await user.click(dialog.getByRole('button', { name: 'Add it' }))
  expect(await screen.findByRole('img', { name: 'on a server' })).toBeDefined()
  const size = await screen.findByRole('row', { name: /Size of the weights/ })
  expect(within(size).getAllByRole('cell').at(-1)?.textContent).toBe('—')
  await user.click(await screen.findByRole('button', { name: 'Measure it' }))
  await waitFor(() =>
    expect(engine.calls.map((call) => call.path)).toEqual(expect.arrayContaining(['benchmarks.start', 'results.evaluateTasks'])),
  )
  const asked = engine.calls.find((call) => call.path === 'results.evaluateTasks')?.input
  expect(asked).toMatchObject({ options: { tasks: ['world_facts', 'reading', 'arithmetic', 'completion'] } })
  expect(engine.calls.find((call) => call.path === 'results.evaluate')?.input).toMatchObject({
    evaluate: { perplexity: true, tasks: false, throughput: false },
    baselineId: null,
  })
})

test('a server that can’t be reached is said so in the dialog, which stays', async () => {
  const { user } = renderApp('/compare/m-pebble')
  const dialog = await openDialog(user, /on a server/)
  await fill(user, dialog.getByLabelText('Address'), 'http://unreachable:1/v1')
  await user.click(dialog.getByRole('button', { name: 'Add it' }))
  expect((await dialog.findByRole('alert')).textContent).toContain('remote.unreachable')
})

test('a published results file is a line of its own', async () => {
  const { engine, user } = renderApp('/compare/m-pebble')
  const dialog = await openDialog(user, /results file/)
  await fill(user, dialog.getByLabelText('File'), '/data/results_paper.json')
  await user.click(dialog.getByRole('button', { name: 'Add it' }))
  expect(await screen.findByRole('img', { name: 'published results' })).toBeDefined()
  expect(engine.calls.find((call) => call.path === 'results.importPublished')?.input).toEqual({
    modelId: 'm-pebble',
    path: '/data/results_paper.json',
  })
})

test('a results file dropped on the board opens its dialog with the path', async () => {
  const path = '/data/lm-eval/results_2026.json'
  const { engine } = renderApp('/compare/m-pebble', {}, { dropped: () => [{ name: 'results_2026.json', path }] })
  await screen.findByRole('button', { name: 'Add' })
  fireEvent.drop(window, { dataTransfer: { types: ['Files'], files: [] } })
  const dialog = within(await screen.findByRole('dialog', { name: 'Add a published results file' }))
  expect((dialog.getByLabelText('File') as HTMLInputElement).value).toBe(path)
  expect(engine.calls.some((call) => call.path === 'models.import')).toBe(false)
})
