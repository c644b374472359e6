/** The ways through the page that matter, on the fake engine: import, optimize, watch, cancel, undo, the keyboard, a lost engine. */
import { act, fireEvent, screen, waitFor, within } from '@testing-library/react'
import { expect, test } from 'vitest'
import { renderApp } from '../test/render-app.tsx'

test('first run: the sample ends in its card', async () => {
  const { user } = renderApp('/', { library: [], results: [] })
  await user.click(await screen.findByRole('button', { name: 'Try the sample' }))
  expect((await screen.findByRole('heading', { level: 1 })).textContent).toContain('Pebble-Tidewater')
  expect(window.location.pathname).toBe('/models/m-pebble')
})

test('a browser chooses a folder through the engine, and a wrong one is explained where it was chosen', async () => {
  const { user, engine } = renderApp('/', { library: [], results: [] })
  await user.click(await screen.findByRole('button', { name: 'Choose folder…' }))
  const dialog = within(await screen.findByRole('dialog', { name: 'Choose a model folder' }))
  await user.click(await dialog.findByRole('button', { name: 'models' }))
  await user.click(await dialog.findByRole('button', { name: /SmolLM2/ }))
  await user.click(dialog.getByRole('button', { name: 'Import this folder' }))
  await waitFor(() => expect(window.location.pathname).toMatch(/^\/models\/m-\d+$/))
  expect(engine.calls.find((call) => call.path === 'models.import')?.input).toEqual({ path: '/home/ada/models/SmolLM2-135M-Instruct' })
})

test('a refused folder comes back with its error, and what was typed', async () => {
  const { user, engine } = renderApp('/', { library: [], results: [] })
  await user.click(await screen.findByRole('button', { name: 'Choose folder…' }))
  const path = await screen.findByRole<HTMLInputElement>('textbox', { name: 'Folder path' })
  await user.clear(path)
  await user.type(path, '/tmp/model.gguf')
  await user.click(screen.getByRole('button', { name: 'Import this folder' }))
  await waitFor(() => expect(folderDialog().getAllByRole('alert')[0]?.textContent).toContain('That is a GGUF file.'))
  expect(folderDialog().getByRole<HTMLInputElement>('textbox', { name: 'Folder path' }).value).toBe('/tmp/model.gguf')
  expect(engine.calls.filter((call) => call.path === 'models.import').length).toBe(1)
})

/** Looked up each time: it closes while the engine looks, and opens again. */
function folderDialog() {
  return within(screen.getByRole('dialog', { name: 'Choose a model folder' }))
}

test('the desktop drops a path straight into the library', async () => {
  const { engine } = renderApp('/', { library: [], results: [] }, { dropped: () => [{ name: 'model.gguf', path: '/tmp/model.gguf' }] })
  await screen.findByText('Drop a Hugging Face model folder')
  fireEvent.drop(window, { dataTransfer: { types: ['Files'], files: [] } })
  await waitFor(() => expect(engine.calls.some((call) => call.path === 'models.import')).toBe(true))
  expect((await screen.findAllByText(/^That is a GGUF file\./)).length).toBeGreaterThan(0)
})

test('two presets become a queue that can be watched, undone and compared', async () => {
  const { user, engine, tick } = renderApp('/optimize/m-qwen3')
  await user.click(await screen.findByRole('checkbox', { name: 'Fine 4-bit' }))
  await waitFor(() => expect(window.location.search).toContain('presets='))
  await user.click(screen.getByRole('switch', { name: 'Tasks' }))
  const start = await screen.findByRole('button', { name: 'Run 2 and compare' })
  await waitFor(() => expect(start.hasAttribute('disabled')).toBe(false))
  await user.click(start)
  await waitFor(() => expect(engine.jobs.length).toBe(2))
  expect(engine.calls.find((call) => call.path === 'optimize.start')?.input).toEqual({
    modelId: 'm-qwen3',
    presetIds: ['fine-4bit', 'balanced-4bit'],
    recipes: [],
    overrides: [],
    calibration: null,
    outputFolder: null,
    baseVariantId: null,
    evaluate: { perplexity: true, tasks: false, throughput: true },
    seed: 0,
  })
  const tray = within(await screen.findByRole('complementary', { name: 'Jobs' }))
  expect(await tray.findByText('Qwen3-0.6B → Fine 4-bit')).toBeDefined()
  await tick(4000)
  expect(await tray.findByText(/^Quantize \d+ of 56 tensors$/)).toBeDefined()
  await tick(200_000)
  expect(engine.jobs.every((job) => job.state === 'succeeded')).toBe(true)
  expect((await tray.findAllByRole('link', { name: 'Compare' })).length).toBe(2)
})

test('Undo after a start cancels what was started', async () => {
  const { user, engine } = renderApp('/optimize/m-qwen3')
  const start = await screen.findByRole('button', { name: 'Run and compare' })
  await waitFor(() => expect(start.hasAttribute('disabled')).toBe(false))
  await user.click(start)
  await user.click(await screen.findByRole('button', { name: 'Undo' }))
  await waitFor(() => expect(engine.jobs.map((job) => job.state)).toEqual(['cancelled']))
})

test('a full disk stops the start and offers another folder', async () => {
  renderApp('/optimize/m-qwen3?folder=%2Fmedia%2Ffull')
  expect(await screen.findByText('The disk of /media/full has 1.00 MB free.')).toBeDefined()
  expect(screen.getByRole('button', { name: 'Choose another folder…' })).toBeDefined()
  expect(screen.getByRole('button', { name: 'Run and compare' }).hasAttribute('disabled')).toBe(true)
})

test('cancel answers at once and resume continues', async () => {
  const { user, engine, tick } = renderApp('/jobs')
  await screen.findByText('No jobs')
  await act(async () => {
    await engine.client.optimize.start({
      modelId: 'm-pebble',
      presetIds: ['fine-4bit'],
      outputFolder: null,
      evaluate: { perplexity: false, tasks: false, throughput: false },
      seed: 0,
    })
  })
  await tick(2000)
  // The card moves from one list to the next: it is looked up each time.
  await user.click((await jobCard()).getByRole('button', { name: 'Cancel' }))
  expect((await (await jobCard()).findAllByText('Cancelling…')).length).toBeGreaterThan(0)
  await tick(400)
  await waitFor(async () => expect((await jobCard()).getByText('Cancelled')).toBeDefined())
  await user.click((await jobCard()).getByRole('button', { name: 'Resume' }))
  await tick(60_000)
  await waitFor(async () => expect((await jobCard()).getByText('Done')).toBeDefined())
})

async function jobCard() {
  return within(await screen.findByRole('article', { name: 'Pebble-Tidewater → Fine 4-bit' }))
}

test('removing a model can be undone; deleting files needs the name', async () => {
  const { user, engine } = renderApp('/models')
  await user.click(await screen.findByRole('button', { name: 'Actions for Qwen3-0.6B' }))
  await user.click(await screen.findByRole('menuitem', { name: 'Remove from library' }))
  await waitFor(() => expect(screen.queryByRole('button', { name: 'Actions for Qwen3-0.6B' })).toBeNull())
  await user.click(await screen.findByRole('button', { name: 'Undo' }))
  expect(await screen.findByRole('button', { name: 'Actions for Qwen3-0.6B' })).toBeDefined()

  const name = 'Pebble-Tidewater · Balanced 4-bit'
  await user.click(screen.getByRole('button', { name: `Actions for ${name}` }))
  await user.click(await screen.findByRole('menuitem', { name: 'Delete files…' }))
  const dialog = within(await screen.findByRole('dialog'))
  const button = dialog.getByRole('button', { name: /^Delete / })
  await user.type(dialog.getByRole('textbox'), 'Pebble')
  expect(button.hasAttribute('disabled')).toBe(true)
  await user.clear(dialog.getByRole('textbox'))
  await user.type(dialog.getByRole('textbox'), name)
  await user.click(button)
  await waitFor(() => expect(engine.models.some((model) => model.name === name)).toBe(false))
})

test('the palette finds commands and models, and goes there', async () => {
  const { user } = renderApp('/models')
  await screen.findAllByText('Qwen3-0.6B')
  await user.keyboard('{Control>}k{/Control}')
  const palette = within(await screen.findByRole('dialog', { name: 'Command palette' }))
  await user.type(palette.getByRole('combobox'), 'qwen')
  expect((await palette.findAllByRole('option')).map((option) => option.textContent)).toEqual(['Qwen3-0.6BBF16'])
  await user.keyboard('{Enter}')
  await waitFor(() => expect(window.location.pathname).toBe('/models/m-qwen3'))
  await user.keyboard('{Control>}2{/Control}')
  await waitFor(() => expect(window.location.pathname).toBe('/optimize'))
  await user.keyboard('?')
  expect(await screen.findByRole('dialog', { name: 'Keyboard shortcuts' })).toBeDefined()
})

test('a lost engine is said after a second, not before, and the page keeps what it knows', async () => {
  const { engine, user } = renderApp('/models')
  await screen.findAllByText('Qwen3-0.6B')
  act(() => engine.setConnection({ status: 'lost', hasBeenOpen: true, attempt: 1 }))
  expect(screen.queryByText(/The engine stopped and is restarting/)).toBeNull()
  expect(await screen.findByText(/The engine stopped and is restarting/, undefined, { timeout: 2000 })).toBeDefined()
  expect(screen.getAllByText('Qwen3-0.6B').length).toBeGreaterThan(0)
  await user.click(screen.getByRole('button', { name: 'Try now' }))
  await waitFor(() => expect(screen.queryByText(/The engine stopped and is restarting/)).toBeNull())
})

test('typing into the tokenizer shows the tokens', async () => {
  const { user } = renderApp('/models/m-pebble/tokenizer')
  const box = await screen.findByRole('textbox', { name: 'Text' })
  await user.clear(box)
  await user.type(box, '<|im_end|>')
  await waitFor(() => expect(screen.getByLabelText('Tokens').textContent).toBe('<|im_end|>'))
  expect(screen.getByLabelText('Tokens').querySelectorAll('[data-special]').length).toBe(1)
})

test('after a change of screen the focus is on its title', async () => {
  const { user } = renderApp('/models')
  await screen.findAllByText('Qwen3-0.6B')
  await user.click(screen.getByRole('link', { name: 'Optimize' }))
  await screen.findByText('Which model?')
  expect(document.activeElement?.textContent).toBe('Optimize')
  expect(document.activeElement?.tagName).toBe('H1')
})

async function row(name: string): Promise<HTMLElement | undefined> {
  return (await screen.findAllByRole('row')).find((candidate) => candidate.textContent?.startsWith(name))
}

test('Compare: another baseline turns the differences round, and the table can be taken away', async () => {
  const { user, host } = renderApp('/compare/m-pebble?show=differences')
  await screen.findByRole('table', { name: 'All figures' })
  expect((await row('Size of the weights'))?.textContent).toContain('−65.7 %')
  await user.click(screen.getByRole('button', { name: 'Use Balanced 4-bit as the baseline' }))
  await waitFor(async () => expect((await row('Size of the weights'))?.textContent).toContain('+191.1 %'))
  await user.click(screen.getByRole('button', { name: 'Near-lossless 8-bit' }))
  await waitFor(() =>
    expect(
      within(screen.getByRole('table', { name: 'All figures' }))
        .getAllByRole('columnheader')
        .map((header) => header.textContent),
    ).toEqual(['Metric', 'Original', 'Balanced 4-bit']),
  )
  await user.click(screen.getByRole('button', { name: 'Copy' }))
  await user.click(await screen.findByRole('menuitem', { name: 'As Markdown' }))
  await waitFor(() => expect(host.copied[0]).toContain('| Size of the weights | 9.32 MB | 3.20 MB |'))
})

test('Compare: what is not measured can be measured from there', async () => {
  const { user, engine } = renderApp('/compare/m-pebble', { results: [] })
  expect(await screen.findByText('Nothing has been measured yet')).toBeDefined()
  await user.click(screen.getByRole('button', { name: 'Measure them' }))
  await waitFor(() => expect(engine.jobs.map((job) => job.modelId)).toEqual(['m-pebble', 'm-pebble-w8', 'm-pebble-w4']))
  expect(await screen.findByText('The board fills in as results arrive.')).toBeDefined()
})
