import { render, screen, waitFor, within } from '@testing-library/react'
import { act } from 'react'
import { beforeEach, expect, test } from 'vitest'
import { createQueryClient } from '../../data/engine.tsx'
import { App } from '../../shell/app.tsx'
import { SAMPLE, SAMPLE_W4 } from '../../test/fixtures.ts'
import { renderApp } from '../../test/render-app.tsx'
import { LatheError } from '../../../engine/contract/index.ts'
import { useChatStore, useDraftStore } from '../chat/chat-store.ts'

beforeEach(() => {
  sessionStorage.clear()
  useDraftStore.setState({ drafts: {}, parameters: {}, rescued: {}, arenaThreads: {}, drawerOpen: false })
  useChatStore.setState({ live: {}, leaving: new Set(), announcement: '' })
})

const address = `/arena?models=${SAMPLE.id},${SAMPLE_W4.id}`
const column = (name: string) => screen.getByRole('region', { name: new RegExp(`^Column \\d: ${name}$`) })
const escaped = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)

test('one prompt goes to each in turn with the same seed, and each answer has its figures', async () => {
  const { user, engine } = renderApp(address)
  const composer = await screen.findByRole('textbox', { name: 'Message to all' })
  await user.type(composer, 'What pet has Gus?')
  await user.click(screen.getByRole('button', { name: 'Send to all' }))
  for (const { name } of [SAMPLE, SAMPLE_W4]) {
    await waitFor(() => expect(column(escaped(name)).textContent).toMatch(/TTFT.*seed \d+/), { timeout: 10_000 })
    expect(within(column(escaped(name))).getByText('What pet has Gus?')).toBeDefined()
  }
  const sent = engine.calls
    .filter((call) => call.path === 'chat.send')
    .map((call) => call.input as { modelId: string; sampling: { seed: number } })
  expect(sent.map((input) => input.modelId)).toEqual([SAMPLE.id, SAMPLE_W4.id])
  expect(sent[0]!.sampling.seed).toBe(sent[1]!.sampling.seed)
  await user.type(composer, 'And its name?')
  await user.keyboard('{Enter}')
  await waitFor(() => expect(screen.getAllByText('And its name?')).toHaveLength(2), { timeout: 10_000 })
  expect(engine.calls.filter((call) => call.path === 'chat.create')).toHaveLength(2)
})

test('Stop ends who is writing and asks nobody else', async () => {
  const { user, engine } = renderApp(address)
  engine.chatScript = { ...engine.chatScript, holdAfter: 1 }
  await user.type(await screen.findByRole('textbox', { name: 'Message to all' }), 'Hello{Enter}')
  await screen.findByText('waits its turn')
  await user.click(screen.getByRole('button', { name: 'Stop' }))
  await waitFor(() => expect(screen.getByRole('button', { name: 'Send to all' })).toBeDefined())
  await act(() => engine.releaseChat())
  expect(engine.calls.filter((call) => call.path === 'chat.send')).toHaveLength(1)
})

test('columns are added and closed, and no model gets two', async () => {
  const { user } = renderApp(address)
  await user.click(await screen.findByRole('button', { name: 'Add a column' }))
  expect(screen.getAllByRole('region', { name: /^Column/ })).toHaveLength(3)
  await user.click(screen.getByRole('button', { name: 'Close column 3' }))
  expect(screen.getAllByRole('region', { name: /^Column/ })).toHaveLength(2)
  expect(screen.queryByRole('button', { name: /^Close column/ })).toBeNull()
})

test('with one model there is nothing to compare', async () => {
  renderApp('/arena', { library: [SAMPLE] })
  expect(await screen.findByText('It takes two')).toBeDefined()
})

test('a system prompt and sampling go to all, a column may have its own, and a typed message outlives the screen', async () => {
  const { user, engine, unmount } = renderApp(address)
  await user.click(await screen.findByRole('button', { name: 'Settings of the columns' }))
  await user.type(await screen.findByRole('textbox', { name: 'System prompt' }), 'Be brief.')
  await user.click(screen.getByRole('combobox', { name: 'For' }))
  await user.click(await screen.findByRole('option', { name: new RegExp(`^Column 2: ${escaped(SAMPLE_W4.name)}$`) }))
  await user.type(screen.getByRole('textbox', { name: /^Seed/ }), '5')
  expect(await screen.findByText('own settings')).toBeDefined()
  const composer = screen.getByRole('textbox', { name: 'Message to all' })
  await user.type(composer, 'Hello{Enter}')
  await waitFor(() => expect(engine.calls.filter((call) => call.path === 'chat.send')).toHaveLength(2), { timeout: 10_000 })
  const sent = engine.calls
    .filter((call) => call.path === 'chat.send')
    .map((call) => call.input as { systemPrompt: string; sampling: { seed: number } })
  expect(sent.map((input) => input.systemPrompt)).toEqual(['Be brief.', 'Be brief.'])
  expect([sent[0]!.sampling.seed === 5, sent[1]!.sampling.seed]).toEqual([false, 5])
  await waitFor(() => expect(screen.getByRole('button', { name: 'Send to all' })).toBeDefined(), { timeout: 10_000 })
  await user.click(screen.getByRole('button', { name: 'Take those of all columns' }))
  expect(screen.queryByText('own settings')).toBeNull()
  await user.type(composer, 'Not sent yet')
  unmount()
  await waitFor(() => expect(engine.drafts.get('arena')).toBe('Not sent yet'))
})

test('a prompt that no engine has stored stays in the composer, and what a column could not answer is asked again there alone', async () => {
  const failures: Record<string, LatheError> = { 'chat.create': new LatheError('disk.full', 'The disk is full.', 'Free some space.') }
  const { user, engine } = renderApp(address, { failures })
  const composer = await screen.findByRole<HTMLTextAreaElement>('textbox', { name: 'Message to all' })
  await user.type(composer, 'Precious words{Enter}')
  expect(await screen.findByText('The disk is full.')).toBeDefined()
  expect(composer.value).toBe('Precious words')
  delete failures['chat.create']
  failures['chat.send'] = new LatheError('checkpoint.not-found', 'The folder is gone.', 'Locate it.')
  await user.type(composer, '{Enter}')
  const retries = await screen.findAllByRole('button', { name: 'Try again' })
  expect([retries.length, composer.value]).toEqual([2, 'Precious words'])
  delete failures['chat.send']
  await user.click(retries[1]!)
  await waitFor(() => expect(column(escaped(SAMPLE_W4.name)).textContent).toMatch(/TTFT/), { timeout: 10_000 })
  expect(composer.value).toBe('')
  const sent = engine.calls
    .filter((call) => call.path === 'chat.send')
    .map((call) => call.input as { modelId: string; sampling: { seed: number } })
  expect(sent.map((input) => input.modelId)).toEqual([SAMPLE.id, SAMPLE_W4.id, SAMPLE_W4.id])
  expect(new Set(sent.map((input) => input.sampling.seed)).size).toBe(1)
  await user.click(within(column(escaped(SAMPLE.name))).getByRole('button', { name: 'Try again' }))
  await waitFor(() => expect(column(escaped(SAMPLE.name)).textContent).toMatch(/TTFT/), { timeout: 10_000 })
})

test('columns keep what was said over a reload, until they are started over', async () => {
  const { user, engine, host, unmount } = renderApp(address)
  await user.type(await screen.findByRole('textbox', { name: 'Message to all' }), 'Hello{Enter}')
  await waitFor(() => expect(column(escaped(SAMPLE_W4.name)).textContent).toMatch(/TTFT/), { timeout: 10_000 })
  unmount()
  render(<App client={engine.client} connection={engine} queryClient={createQueryClient()} host={host} />)
  for (const { name } of [SAMPLE, SAMPLE_W4]) await waitFor(() => expect(column(escaped(name)).textContent).toMatch(/Hello.*TTFT/s))
  await user.click(screen.getByRole('button', { name: 'Start over' }))
  expect(screen.queryByText('Hello')).toBeNull()
  expect(screen.queryByRole('button', { name: 'Start over' })).toBeNull()
})
