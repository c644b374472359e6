import { screen, waitFor, within } from '@testing-library/react'
import { expect, test } from 'vitest'
import { renderApp } from '../../test/render-app.tsx'

async function openDialog(user: ReturnType<typeof renderApp>['user'], action: RegExp) {
  await user.click(await screen.findByRole('button', { name: 'Measure more' }))
  await user.click(await screen.findByRole('menuitem', { name: action }))
  return within(await screen.findByRole('dialog'))
}

async function fill(user: ReturnType<typeof renderApp>['user'], field: HTMLElement, text: string) {
  await user.clear(field)
  await user.click(field)
  await user.paste(text)
}

test('own task files and lists are asked of every model on the board', async () => {
  const { engine, user } = renderApp('/compare/m-pebble')
  const dialog = await openDialog(user, /of your own/)
  expect(dialog.getByRole('button', { name: 'Measure' })).toHaveProperty('disabled', true)
  await fill(user, dialog.getByLabelText('Task files'), '/data/faq.yaml\n/data/more.jsonl\n')
  await fill(user, dialog.getByLabelText('Lists for fairness and refusal'), '/data/bbq.jsonl')
  await user.click(dialog.getByRole('switch', { name: 'In other words too' }))
  await fill(user, dialog.getByLabelText('Items of each'), '50')
  await user.click(dialog.getByRole('button', { name: 'Measure' }))
  await waitFor(() => expect(engine.calls.some((call) => call.path === 'results.evaluateTasks')).toBe(true))
  const asked = engine.calls.find((call) => call.path === 'results.evaluateTasks')?.input as { modelIds: string[] }
  expect(asked).toMatchObject({
    options: {
      tasks: ['/data/faq.yaml', '/data/more.jsonl'],
      probes: ['robustness'],
      probeFiles: ['/data/bbq.jsonl'],
      limit: 50,
      chatTemplate: false,
    },
  })
  expect(asked.modelIds).not.toContain('m-pebble')
  expect(asked.modelIds.length).toBeGreaterThan(0)
})

test('a load is started on each model, with its rates and service level', async () => {
  const { engine, user } = renderApp('/compare/m-pebble')
  const dialog = await openDialog(user, /at once/)
  await user.click(dialog.getByRole('combobox', { name: 'Requests come' }))
  await user.click(await screen.findByRole('option', { name: 'At a constant rate' }))
  await fill(user, dialog.getByLabelText('Requests per second'), '2, 8')
  await fill(user, dialog.getByLabelText('Requests of a run'), '40')
  await user.click(dialog.getByRole('combobox', { name: 'Service level' }))
  await user.click(await screen.findByRole('option', { name: 'chat' }))
  await user.click(dialog.getByRole('button', { name: 'Measure' }))
  await waitFor(() => expect(engine.calls.filter((call) => call.path === 'benchmarks.start').length).toBeGreaterThan(1))
  expect(engine.calls.find((call) => call.path === 'benchmarks.start')?.input).toMatchObject({
    profile: 'constant',
    rates: [2, 8],
    requests: 40,
    level: { name: 'chat', ttftMs: 200 },
  })
})
