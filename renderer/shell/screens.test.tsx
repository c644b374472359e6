/** Every screen in every state: loading, empty, failing, with data. The fake engine answers; what is asserted is what a user reads. */
import { screen, waitFor, within } from '@testing-library/react'
import { describe, expect, test } from 'vitest'
import { LatheError } from '../../engine/contract/index.ts'
import { mixedJobs } from '../test/job-fixtures.ts'
import { renderApp } from '../test/render-app.tsx'

const broken = new LatheError('disk.io', 'The library database could not be read.', 'Restore it from its backup.')

async function card(title: string) {
  return within(await screen.findByRole('article', { name: title }))
}

describe('with data', () => {
  test.each([
    ['/', 'Models', 'Near-lossless 8-bit'],
    ['/models', 'Models', 'Inspect only'],
    ['/models/m-pebble', 'Pebble-Tidewater', 'LlamaForCausalLM'],
    ['/models/m-pebble/tensors', 'Pebble-Tidewater', 'model.embed_tokens.weight'],
    ['/models/m-pebble/tokenizer', 'Pebble-Tidewater', '<|im_start|>'],
    ['/models/m-pebble/files', 'Pebble-Tidewater', 'tokenizer.json'],
    ['/optimize', 'Optimize', 'Which model?'],
    ['/optimize/m-pebble', 'Optimize', 'Balanced 4-bit'],
    ['/compare', 'Compare', 'All figures'],
    ['/compare/m-pebble-w4', 'Compare', 'What it costs to be smaller'],
    ['/compare/m-pebble?task=reading', 'Compare', 'The same items, both answers'],
    ['/compare/m-pebble?order=worst', 'Compare', 'Original’s first'],
    ['/compare/m-pebble', 'Compare', 'can’t tell'],
    ['/capacity', 'Capacity', 'Which model?'],
    ['/capacity?published=llama-3.1-8b&gpu=rtx-4090', 'Capacity', 'Under load'],
    ['/monitor', 'Monitor', 'Which server?'],
    ['/monitor?server=http://localhost:8000', 'Monitor', 'KV cache in use'],
    ['/server', 'Server', 'Models'],
    ['/arena', 'Side by side', 'Send to all'],
    ['/hardware', 'Hardware', 'No hardware GPU was found'],
    ['/settings', 'Settings', 'Theme'],
    ['/settings/models', 'Settings', 'Inside the studio’s data folder'],
    ['/settings/about', 'Settings', 'Apache-2.0'],
  ])('%s', async (path, heading, text) => {
    renderApp(path)
    expect((await screen.findAllByText(text)).length).toBeGreaterThan(0)
    expect(screen.getByRole('heading', { level: 1 }).textContent).toContain(heading)
    expect(screen.getAllByRole('main').length).toBe(1)
    await waitFor(() => expect(document.title).toContain('Lathe'))
  })
})

describe('empty', () => {
  test.each([
    ['/models', 'Drop a Hugging Face model folder'],
    ['/optimize', 'Nothing to optimize yet'],
    ['/compare', 'Compare needs two variants'],
    ['/jobs', 'No jobs'],
    ['/nowhere', 'Nothing lives at this address'],
  ])('%s', async (path, text) => {
    renderApp(path, { library: [], results: [] })
    expect(await screen.findByText(text)).toBeDefined()
  })
})

describe('failing', () => {
  test.each([
    ['/models', 'models.list'],
    ['/models/m-pebble', 'models.get'],
    ['/models/m-pebble/tensors', 'models.tensors'],
    ['/models/m-pebble/tokenizer', 'models.tokenizer'],
    ['/optimize/m-pebble', 'optimize.presets'],
    ['/compare/m-pebble', 'results.board'],
    ['/jobs', 'jobs.list'],
    ['/capacity?model=m-pebble', 'capacity.plan'],
    ['/monitor?server=http://localhost:8000', 'monitor.read'],
    ['/server', 'server.view'],
    ['/hardware', 'system.hardware'],
    ['/settings', 'settings.get'],
  ])('%s says what happened, what to do, and can be tried again', async (path, procedure) => {
    const { engine, user, host } = renderApp(path, { failures: { [procedure]: broken } })
    const alert = (await screen.findAllByRole('alert')).find((element) => element.textContent?.includes(broken.message))
    expect(alert?.textContent).toContain('Restore it from its backup.')
    expect(alert?.textContent).toContain('disk.io')
    const calls = () => engine.calls.filter((call) => call.path === procedure).length
    const before = calls()
    await user.click(within(alert!).getByRole('button', { name: 'Try again' }))
    await waitFor(() => expect(calls()).toBeGreaterThan(before))
    const again = (await screen.findAllByRole('alert')).find((element) => element.textContent?.includes(broken.message))
    await user.click(within(again!).getByRole('button', { name: 'Copy details' }))
    await waitFor(() => expect(host.copied[0]).toContain('"code": "disk.io"'))
    expect(host.copied[0]).toContain('Node 24.21.0')
  })
})

describe('loading', () => {
  test.each([
    ['/models', 'models.list', 'Reading the library'],
    ['/models/m-pebble', 'models.get', 'Reading the model'],
    ['/models/m-pebble/tensors', 'models.tensors', 'Reading the headers'],
    ['/optimize/m-pebble', 'optimize.presets', 'Predicting sizes'],
    ['/compare/m-pebble', 'results.board', 'Reading the results'],
    ['/jobs', 'jobs.list', 'Reading the jobs'],
    ['/capacity?model=m-pebble', 'capacity.plan', 'Planning'],
    ['/hardware', 'system.hardware', 'Asking the adapters'],
  ])('%s shows a skeleton, but not at once', async (path, procedure, label) => {
    renderApp(path, { hanging: [procedure] })
    await screen.findByRole('heading', { level: 1 })
    expect(screen.queryByRole('status', { name: label })).toBeNull()
    expect(await screen.findByRole('status', { name: label })).toBeDefined()
  })
})

describe('jobs in every state', () => {
  test('each says where it stands and what can be done', async () => {
    const { engine } = renderApp('/jobs')
    await screen.findByText('No jobs')
    mixedJobs(engine)
    expect((await card('Qwen3-0.6B → Fine 4-bit')).getByRole('button', { name: 'Resume' })).toBeDefined()
    expect((await card('Qwen3-0.6B → Fine 4-bit')).getByText(/12.0 MB free/)).toBeDefined()
    expect((await card('Pebble-Tidewater: evaluation')).getByText('Interrupted')).toBeDefined()
    expect((await card('Pebble-Tidewater → Near-lossless 8-bit')).getByText('about 4 min left')).toBeDefined()
    expect((await card('Pebble-Tidewater → Fine 4-bit')).getByText('next in the queue')).toBeDefined()
    expect((await card('Qwen3-0.6B → Balanced 4-bit')).getByRole('link', { name: 'Compare' }).getAttribute('href')).toBe('/compare/m-qwen3')
  })
})
