import { screen, waitFor, within } from '@testing-library/react'
import { act } from 'react'
import { describe, expect, test } from 'vitest'
import type { LiveServerRequest } from '../../../engine/contract/index.ts'
import { LatheError } from '../../../engine/contract/index.ts'
import { SAMPLE } from '../../test/fixtures.ts'
import { renderApp } from '../../test/render-app.tsx'
import { cacheMissText } from './requests-card.tsx'
import { reachableUrl, snippet } from './snippets.ts'

const REQUEST: LiveServerRequest = {
  id: 'r1',
  endpoint: 'chat',
  model: 'pebble',
  state: 'prefill',
  startedAt: '2026-11-23T12:00:00Z',
  endedAt: null,
  promptTokens: 400,
  cachedTokens: null,
  prefilledTokens: 100,
  generatedTokens: 0,
  maxTokens: 64,
  firstTokenMs: null,
  tokensPerSecond: null,
  blocks: 7,
  reason: null,
  cacheMiss: null,
}
const CONFIG = { modelIds: [SAMPLE.id], host: '127.0.0.1', port: 8000, apiKey: 'a-secret-key', corsOrigins: [], idleUnloadMinutes: 15 }
const KEPT = {
  ...CONFIG,
  apiKey: null,
  contextTokens: null,
  parallel: null,
  kvDtype: null,
  speculation: { kind: 'off' as const },
  overlong: 'reject' as const,
}

async function runningServer() {
  const app = renderApp('/server')
  await screen.findByRole('button', { name: 'Start server' })
  await act(async () => {
    await app.engine.client.server.start(CONFIG)
  })
  await screen.findByRole('button', { name: 'Stop server' })
  return app
}

describe('setting up', () => {
  test('a checkpoint that names a cache is offered with it, and a choice of one’s own wins', async () => {
    const named = { ...SAMPLE, architecture: { ...SAMPLE.architecture, kvCacheDtype: 'fp8' as const } }
    const { user, engine } = renderApp('/server', { library: [named] })
    expect(await screen.findByText(/cached as fp8, the format that the checkpoint names/)).toBeDefined()
    await user.click(screen.getByRole('combobox', { name: 'Cached keys and values' }))
    expect(screen.getByRole('option', { name: 'As the checkpoint says: 8 bits (FP8)' })).toBeDefined()
    await user.click(screen.getByRole('option', { name: '16 bits' }))
    expect(await screen.findByText('Keys and values are cached as f16; the checkpoint names fp8.')).toBeDefined()
    await user.click(screen.getByRole('button', { name: 'Start server' }))
    await screen.findByRole('button', { name: 'Stop server' })
    expect(engine.calls.find((call) => call.path === 'server.start')?.input).toMatchObject({ kvDtype: 'f16' })
  })

  test('nothing is started without a model, a port and a key; with them it is, and the address appears', async () => {
    const { user, engine } = renderApp('/server')
    await screen.findByRole('button', { name: 'Start server' })
    // The one that is talked to is offered; a second one has to be chosen or left out.
    expect(await screen.findByRole('button', { name: /Model to serve.*Pebble/s })).toBeDefined()
    await user.clear(screen.getByLabelText('API key'))
    await user.click(screen.getByRole('button', { name: 'Start server' }))
    expect(document.activeElement).toBe(screen.getByLabelText('API key'))
    expect(engine.calls.some((call) => call.path === 'server.start')).toBe(false)
    await user.click(screen.getByRole('button', { name: 'New key' }))
    await user.click(screen.getByRole('button', { name: /Model to serve/ }))
    await user.click((await screen.findAllByRole('option', { name: new RegExp(SAMPLE.name) }))[0]!)
    const port = screen.getByRole('textbox', { name: 'Port' })
    await user.clear(port)
    await user.type(port, '99999')
    await user.click(screen.getByRole('button', { name: 'Start server' }))
    expect(screen.getByText(/from 0 to 65535/)).toBeDefined()
    await user.clear(port)
    await user.type(port, '8123')
    await user.type(screen.getByRole('textbox', { name: /CORS/ }), 'https://app.example')
    await user.click(screen.getByRole('button', { name: 'Start server' }))
    expect(await screen.findByText('http://127.0.0.1:8123/v1')).toBeDefined()
    expect(engine.server.config).toMatchObject({
      modelIds: [SAMPLE.id],
      host: '127.0.0.1',
      port: 8123,
      corsOrigins: ['https://app.example'],
    })
    expect([engine.server.config!.apiKey, engine.serverKey]).toEqual([null, expect.stringMatching(/^[\w-]{32}$/)])
  })

  test('a start that fails says why and keeps what was entered', async () => {
    const failure = new LatheError('request.invalid', 'Port 8000 is in use.', 'Choose another port.')
    const { user, engine } = renderApp('/server', { failures: { 'server.start': failure } })
    await act(() => engine.setServer({ ...engine.server, config: KEPT, keyHint: 'tkey' }))
    await user.click(await screen.findByRole('button', { name: 'Start server' }))
    const alert = await screen.findByRole('alert')
    expect(alert.textContent).toContain('Port 8000 is in use.')
    // Beside the button: the top of the form is out of sight from there.
    expect(alert.closest('form')).toBe(screen.getByRole('button', { name: 'Start server' }).closest('form'))
    expect(screen.getByRole<HTMLInputElement>('textbox', { name: 'Port' }).value).toBe('8000')
  })
})

describe('running', () => {
  test('the key is masked until asked for, and copied without being shown', async () => {
    const { user, host } = await runningServer()
    expect(screen.queryByText('a-secret-key')).toBeNull()
    await user.click(screen.getByRole('button', { name: 'Copy the key' }))
    await user.click(screen.getByRole('button', { name: 'Copy the address' }))
    await user.click(screen.getByRole('button', { name: 'Python' }))
    await user.click(screen.getByRole('button', { name: 'Copy the example' }))
    expect(host.copied).toEqual(['a-secret-key', 'http://127.0.0.1:8000/v1', expect.stringContaining('from openai import OpenAI')])
    await user.click(screen.getByRole('button', { name: 'Show the key' }))
    expect(screen.getByText('a-secret-key')).toBeDefined()
  })

  test('requests show their state and progress as they change, and can be aborted', async () => {
    const { user, engine } = await runningServer()
    await act(() => engine.setServer({ ...engine.server, requests: [REQUEST], blocksUsed: 7, blocksTotal: 64 }))
    const table = await screen.findByRole('table', { name: 'Requests' })
    expect(within(table).getByText('Reading')).toBeDefined()
    expect(within(table).getByRole('progressbar').getAttribute('aria-valuenow')).toBe('25')
    expect(screen.getByText('1 running, 7 of 64 KV blocks in use')).toBeDefined()
    await act(() =>
      engine.setServer({
        ...engine.server,
        requests: [
          {
            ...REQUEST,
            state: 'decode',
            prefilledTokens: 400,
            cachedTokens: 100,
            generatedTokens: 12,
            tokensPerSecond: 41.5,
            firstTokenMs: 80,
          },
        ],
      }),
    )
    await waitFor(() => expect(within(table).getByText('Writing')).toBeDefined())
    expect(within(table).getByText(/^25\s?%$/)).toBeDefined()
    await user.click(within(table).getByRole('button', { name: 'Abort r1' }))
    await waitFor(() => expect(within(table).getByText('Aborted')).toBeDefined())
    await user.click(screen.getByRole('button', { name: 'Stop server' }))
    expect(await screen.findByRole('button', { name: 'Start server' })).toBeDefined()
  })
})

describe('models', () => {
  test('say what they hold and are unloaded and loaded by hand; the server is tried with one press', async () => {
    const { user } = await runningServer()
    const list = await screen.findByRole('list', { name: 'Served models' })
    expect(list.textContent).toMatch(/in memory.*MiB of it cache.*tokens of context.*stays/)
    await user.click(within(list).getByRole('button', { name: /^Unload/ }))
    expect(await within(list).findByText('loads when asked for')).toBeDefined()
    await user.click(within(list).getByRole('button', { name: /^Load/ }))
    expect(await within(list).findByText('in memory')).toBeDefined()
    await user.click(screen.getByRole('button', { name: 'Send test request' }))
    expect(await screen.findByText(/^200 after .*Hello!$/)).toBeDefined()
  })

  test('a taken port is followed by the next one, a kept key by none that is typed', async () => {
    const failure = new LatheError('request.invalid', 'Port 8000 is in use.', 'Choose another port.')
    const { user, engine } = renderApp('/server', { failures: { 'server.start': failure } })
    await act(() => engine.setServer({ ...engine.server, config: KEPT, keyHint: 'tkey' }))
    await user.click(await screen.findByRole('button', { name: 'Start server' }))
    await user.click(await screen.findByRole('button', { name: 'Use 8001' }))
    expect(screen.getByRole<HTMLInputElement>('textbox', { name: 'Port' }).value).toBe('8001')
    await user.click(screen.getByRole('button', { name: 'Start server' }))
    await waitFor(() =>
      expect(engine.calls.findLast((call) => call.path === 'server.start')!.input).toMatchObject({ port: 8001, apiKey: null }),
    )
  })
})

test('where the cache ended is said in words', () => {
  expect(cacheMissText({ reason: 'diverged', position: 37 })).toMatch(/^Cached up to token 37\. The prompt differs/)
})

test('examples name the address and the model, and an address that a client can reach', () => {
  expect(snippet('curl', 'http://127.0.0.1:8000/v1', 'pebble')).toContain('http://127.0.0.1:8000/v1/chat/completions')
  expect(snippet('javascript', 'http://x/v1', 'pebble')).toContain("model: 'pebble'")
  expect(reachableUrl('http://0.0.0.0:8000/v1')).toBe('http://127.0.0.1:8000/v1')
})
