/** Chat on the fake engine: sending, stopping, failing, editing, and that nothing typed or answered is lost on the way. */
import { cleanup, configure, render, screen, waitFor, within } from '@testing-library/react'
import { act } from 'react'
import { beforeEach, describe, expect, test } from 'vitest'
import { LatheError, type ChatSend } from '../../../engine/contract/index.ts'
import { createQueryClient } from '../../data/engine.tsx'
import { DisconnectedError } from '../../lib/errors.ts'
import { App } from '../../shell/app.tsx'
import { LIBRARY, SAMPLE } from '../../test/fixtures.ts'
import type { FakeEngineOptions } from '../../test/fake-engine.ts'
import { renderApp } from '../../test/render-app.tsx'
import { useChatStore, useDraftStore } from './chat-store.ts'

configure({ asyncUtilTimeout: 4000, getElementError: (message) => new Error(message?.slice(0, 600) ?? 'not found') })

beforeEach(() => {
  sessionStorage.clear()
  useDraftStore.setState({ drafts: {}, parameters: {}, editing: {}, rescued: {}, drawerOpen: false, listOpen: true })
  useChatStore.setState({ live: {}, leaving: new Set(), announcement: '' })
})

const composer = () => screen.findByRole<HTMLTextAreaElement>('textbox', { name: 'Message' })
const answers = () => screen.findAllByRole('article', { name: /^Answer of/ })
const footer = (answer: HTMLElement) => answer.textContent?.replaceAll(/\s+/g, ' ') ?? ''

const ended = (count: number) =>
  waitFor(() =>
    expect(screen.queryAllByRole('article', { name: /^Answer of/ }).filter((one) => /seed/.test(footer(one))).length).toBe(count),
  )

async function start(path = '/chat', options: FakeEngineOptions = {}) {
  const app = renderApp(path, options)
  const sends = () => app.engine.calls.filter((call) => call.path === 'chat.send').map((call) => call.input as ChatSend)
  const say = async (text: string) => {
    await app.user.type(await composer(), text)
    await app.user.keyboard('{Enter}')
  }
  return { ...app, sends, say }
}

describe('sending', () => {
  test('makes a thread, streams the answer, and keeps its figures across a reload', async () => {
    const { say, engine, host } = await start()
    await say('Who is Clover?')
    await ended(1)
    expect(window.location.pathname).toMatch(/^\/chat\/thread-/)
    const [answer] = await answers()
    expect(within(answer!).getByText('hen', { selector: 'strong' })).toBeDefined()
    const figures = footer(answer!)
    for (const part of ['TTFT 182 ms', 'prefill 884 tok/s', 'decode 71.3 tok/s', 'finished', 'seed 1234', 'software adapter'])
      expect(figures).toContain(part)
    expect((await composer()).value).toBe('')
    expect(screen.getByRole('link', { name: /Who is Clover/ }).getAttribute('aria-current')).toBe('page')
    expect(screen.getAllByRole('status').some((status) => status.textContent?.startsWith('Answer finished: '))).toBe(true)
    const messages = await engine.client.chat.messages({ threadId: window.location.pathname.slice('/chat/'.length) })
    expect(messages.map((message) => message.role)).toEqual(['user', 'assistant'])
    cleanup()
    render(<App client={engine.client} connection={engine} queryClient={createQueryClient()} host={host} />)
    expect(footer((await answers())[0]!)).toBe(figures)
  })

  test('Shift+Enter breaks the line, Ctrl+Enter sends', async () => {
    const { user, sends } = await start()
    await user.type(await composer(), 'one{Shift>}{Enter}{/Shift}two')
    expect(sends()).toEqual([])
    await user.keyboard('{Control>}{Enter}{/Control}')
    await ended(1)
    expect(sends()[0]).toMatchObject({ content: 'one\ntwo', replaceFrom: null, modelId: SAMPLE.id })
  })

  test('the address chooses the model, a suggestion is one press', async () => {
    const { user, sends } = await start('/chat?model=m-pebble-w4')
    await user.click(await screen.findByRole('button', { name: 'How much is 12 minus 7?' }))
    await ended(1)
    expect(sends()[0]).toMatchObject({ content: 'How much is 12 minus 7?', modelId: 'm-pebble-w4' })
  })

  test('settings of the chat go with the prompt', async () => {
    const { user, sends, say } = await start()
    await user.click(await screen.findByRole('button', { name: 'Chat settings' }))
    await user.type(await screen.findByRole('textbox', { name: 'System prompt' }), 'Be brief.')
    await user.type(screen.getByRole('textbox', { name: 'Seed' }), '42')
    await user.type(screen.getByRole('textbox', { name: 'Max tokens' }), '0')
    expect(screen.getByText('A whole number of at least 1, or nothing.')).toBeDefined()
    await say('Hello')
    await ended(1)
    expect(sends()[0]).toMatchObject({ systemPrompt: 'Be brief.', sampling: { seed: 42, maxTokens: null, temperature: 0.7 } })
  })
})

test('a model whose folder was away is talked to again once it is back, without a restart', async () => {
  const reason = new LatheError('checkpoint.not-found', 'The folder is no longer there.', 'Locate it.').toShape()
  const away = { ...SAMPLE, status: 'missing' as const, statusReason: reason }
  const { engine, user } = await start(`/chat?model=${SAMPLE.id}`, {
    library: LIBRARY.map((model) => (model.id === SAMPLE.id ? away : model)),
  })
  expect(await screen.findByText('The folder is no longer there.')).toBeDefined()
  engine.models = [...LIBRARY]
  await user.click(screen.getByRole('button', { name: 'Look again' }))
  await waitFor(() => expect(screen.queryByText('The folder is no longer there.')).toBeNull())
})

describe('a long text', () => {
  test('is counted before it is sent, and folded once it is', async () => {
    const { user, sends } = await start()
    const field = await composer()
    const text = 'two words '.repeat(450).trim()
    await user.click(field)
    await user.paste(text)
    expect(await screen.findByText(/^Context:/).then((label) => label.parentElement?.textContent)).toMatch(/0 \/ 1,024 tokens$/)
    await waitFor(() =>
      expect(screen.getByText(/^Context:/).parentElement?.textContent).toMatch(/0 \+ ≈\d{3} \/ 1,024 tokens · nearly full$/),
    )
    await user.paste(` ${text}`)
    await waitFor(() =>
      expect(screen.getByText(/^Context:/).parentElement?.textContent).toMatch(/0 \+ ≈1,\d{3} \/ 1,024 tokens · too long$/),
    )
    await user.keyboard('{Enter}')
    await ended(1)
    expect(sends()[0]?.content).toBe(`${text} ${text}`)
    const prompt = screen.getByRole('article', { name: 'You' })
    expect(prompt.textContent).toContain('…')
    await user.click(within(prompt).getByRole('button', { name: 'Show all 8,999 characters' }))
    expect(prompt.textContent).toContain(`${text} ${text}`)
  })
})

describe('stopping', () => {
  test('Esc keeps the part that has arrived and says so', async () => {
    const { say, user, engine } = await start()
    engine.chatScript = { ...engine.chatScript, holdAfter: 4 }
    await say('Go on')
    await screen.findByText('8 tokens')
    expect(screen.getByRole('button', { name: 'Stop' })).toBeDefined()
    await user.keyboard('{Escape}')
    await ended(1)
    const [answer] = await answers()
    expect(footer(answer!)).toContain('stopped early')
    expect(footer(answer!)).toContain('Gus keeps a hen')
    expect(screen.queryByRole('button', { name: 'Stop' })).toBeNull()
  })

  test('a lost engine leaves the partial answer with a way to try again', async () => {
    const { say, user, engine, sends } = await start()
    engine.chatScript = { ...engine.chatScript, holdAfter: 4, breakWith: new DisconnectedError('gone') }
    await say('Go on')
    const [answer] = await answers()
    await waitFor(() => expect(footer(answer!)).toMatch(/kept above|closed while/))
    expect(footer((await answers())[0]!)).toContain('Gus keeps')
    // At once: while the engine is away the page may be reloaded, or the next prompt may take the live answer's place.
    expect(Object.values(useDraftStore.getState().rescued)).toEqual([expect.stringContaining('Gus keeps')])
    engine.chatScript = { ...engine.chatScript, holdAfter: null, breakWith: null }
    await user.click(await screen.findByRole('button', { name: 'Try again' }))
    await ended(1)
    expect(sends().map((send) => [send.content, send.replaceFrom === null])).toEqual([
      ['Go on', true],
      ['Go on', false],
    ])
    expect(screen.getAllByRole('article', { name: 'You' }).length).toBe(1)
  })

  test('two threads stream side by side and do not mix', async () => {
    const { say, user, engine } = await start()
    engine.chatScript = { ...engine.chatScript, answer: 'alpha alpha alpha alpha', holdAfter: 2 }
    await say('first')
    await screen.findByText('4 tokens')
    await user.click(screen.getByRole('link', { name: 'New chat' }))
    engine.chatScript = { ...engine.chatScript, answer: 'beta beta beta beta', holdAfter: 2 }
    await say('second')
    await screen.findByText('4 tokens')
    engine.releaseChat()
    await waitFor(() => expect(footer(screen.getAllByRole('article', { name: /^Answer of/ })[0]!)).toContain('beta beta beta betaTTFT'))
    expect(footer((await answers())[0]!)).not.toContain('alpha')
    await user.click(screen.getByRole('link', { name: /^first/ }))
    await waitFor(() => expect(footer(screen.getAllByRole('article', { name: /^Answer of/ })[0]!)).toContain('alpha alpha alpha alphaTTFT'))
  })
})

describe('failure', () => {
  test('before the prompt is stored it stays in the composer, and Try again sends it', async () => {
    const busy = new LatheError('model.not-found', 'The model is gone.', 'Import it again.')
    const failures: Record<string, LatheError> = { 'chat.send': busy }
    const { say, user, sends } = await start('/chat', { failures })
    await say('Precious words')
    const alert = await screen.findByRole('alert')
    expect(alert.textContent).toContain('The model is gone.')
    expect((await composer()).value).toBe('Precious words')
    expect(sessionStorage.getItem('lathe.chat')).toContain('Precious words')
    delete failures['chat.send']
    await user.click(within(alert).getByRole('button', { name: 'Try again' }))
    await ended(1)
    expect(sends().length).toBe(2)
    expect((await composer()).value).toBe('')
  })

  test('of the answer belongs to the message: what arrived stays, Try again replaces it', async () => {
    const { say, user, engine, sends } = await start()
    engine.chatScript = { ...engine.chatScript, failWith: new LatheError('gpu.device-lost', 'The GPU went away.', 'Try again.') }
    await say('Hello')
    const alert = await screen.findByRole('alert')
    expect(alert.textContent).toContain('gpu.device-lost')
    expect(footer((await answers())[0]!)).toContain('Gus keeps')
    engine.chatScript = { ...engine.chatScript, failWith: null }
    await user.click(within(alert).getByRole('button', { name: 'Try again' }))
    await ended(1)
    expect(sends()[1]?.replaceFrom).toMatch(/^msg-/)
    expect(screen.queryByRole('alert')).toBeNull()
  })
})

describe('changing what was said', () => {
  test('regenerate asks the same again in place of the answer', async () => {
    const { say, user, sends } = await start()
    await say('Hello')
    await ended(1)
    await user.click(screen.getByRole('button', { name: 'Regenerate answer' }))
    await waitFor(() => expect(sends().length).toBe(2))
    await ended(1)
    expect(sends()[1]).toMatchObject({ content: 'Hello' })
    expect(screen.getAllByRole('article').length).toBe(2)
  })

  test('what was replaced comes back with Undo', async () => {
    const { say, user, engine } = await start()
    await say('Hello')
    await ended(1)
    const before = footer((await answers())[0]!)
    engine.chatScript = { ...engine.chatScript, answer: 'Something much worse.' }
    await user.click(screen.getByRole('button', { name: 'Regenerate answer' }))
    await waitFor(() => expect(footer(screen.getAllByRole('article', { name: /^Answer of/ })[0]!)).toContain('much worse.TTFT'))
    await user.click(await screen.findByRole('button', { name: 'Undo' }))
    await waitFor(() => expect(footer(screen.getAllByRole('article', { name: /^Answer of/ })[0]!)).toBe(before))
  })

  test('an edited prompt replaces what follows; Esc leaves everything as it was', async () => {
    const { say, user, sends } = await start()
    await say('one')
    await ended(1)
    await say('two')
    await ended(2)
    await user.click(screen.getAllByRole('button', { name: 'Edit prompt' })[0]!)
    expect(screen.getByText('Replaces 3 messages below.')).toBeDefined()
    await user.keyboard('{Escape}')
    expect(screen.getAllByRole('article').length).toBe(4)
    await user.click(screen.getAllByRole('button', { name: 'Edit prompt' })[0]!)
    await user.keyboard(' more{Enter}')
    await waitFor(() => expect(sends().length).toBe(3))
    await ended(1)
    expect(sends()[2]).toMatchObject({ content: 'one more' })
    expect(screen.getAllByRole('article', { name: 'You' }).map((one) => one.textContent)).toEqual(['one more'])
  })
})

describe('threads', () => {
  test('a draft waits in its chat, survives switching and a new page', async () => {
    const { say, user, unmount } = await start()
    await say('Hello')
    await ended(1)
    await user.type(await composer(), 'half a thought')
    await user.click(screen.getByRole('link', { name: 'New chat' }))
    await waitFor(async () => expect((await composer()).value).toBe(''))
    await user.type(await composer(), 'another')
    await user.click(screen.getByRole('link', { name: /^Hello/ }))
    await waitFor(async () => expect((await composer()).value).toBe('half a thought'))
    unmount()
    cleanup()
    useDraftStore.setState({ drafts: {} })
    sessionStorage.setItem('lathe.chat', JSON.stringify({ state: { drafts: { new: 'from before' } }, version: 1 }))
    await useDraftStore.persist.rehydrate()
    renderApp('/chat')
    expect((await composer()).value).toBe('from before')
  })

  test('are renamed in place and deleted with Undo', async () => {
    const { say, user, engine } = await start()
    await say('Hello')
    await ended(1)
    await user.click(screen.getByRole('button', { name: 'Actions for Hello' }))
    await user.click(await screen.findByRole('menuitem', { name: /Rename/ }))
    const field = await screen.findByRole('textbox', { name: 'Name of the chat' })
    await user.clear(field)
    await user.type(field, 'About hens{Enter}')
    await screen.findByRole('link', { name: /About hens/ })
    expect(engine.calls.find((call) => call.path === 'chat.update')?.input).toMatchObject({ title: 'About hens' })
    await user.click(screen.getByRole('button', { name: 'Actions for About hens' }))
    await user.click(await screen.findByRole('menuitem', { name: 'Delete' }))
    await waitFor(() => expect(screen.queryByRole('link', { name: /About hens/ })).toBeNull())
    await user.click(await screen.findByRole('button', { name: 'Undo' }))
    expect(await screen.findByRole('link', { name: /About hens/ })).toBeDefined()
    expect(engine.calls.some((call) => call.path === 'chat.remove')).toBe(false)
  })

  test('an address that leads nowhere says so', async () => {
    await start('/chat/nothing')
    expect(await screen.findByText('This chat is gone')).toBeDefined()
  })
})

describe('models', () => {
  test('without a chat template the chat says why and sends nothing', async () => {
    const base = { ...SAMPLE, id: 'm-base', name: 'Base', hasChatTemplate: false }
    const { user, sends } = await start('/chat?model=m-base', { library: [...LIBRARY, base] })
    expect(await screen.findByText(/Base has no chat template/)).toBeDefined()
    await user.type(await composer(), 'Hello{Enter}')
    expect(screen.getByRole('button', { name: 'Send' }).hasAttribute('disabled')).toBe(true)
    expect(sends()).toEqual([])
  })

  test('with an empty library it offers the sample', async () => {
    await start('/chat', { library: [], results: [] })
    expect(await screen.findByText('Nobody to talk to yet')).toBeDefined()
  })
})

describe('what a model writes is not trusted', () => {
  test('raw HTML stays text, pictures stay unloaded, only https is a link and it leaves through the host', async () => {
    const opened: string[] = []
    const { engine, user, host } = renderApp('/chat', {}, { openLink: (url) => opened.push(url) })
    engine.chatScript = {
      ...engine.chatScript,
      answer:
        '<img src=x onerror=alert(1)><script>alert(1)</script>\n\n![cat](https://evil.example/cat.png) [bad](javascript:alert(1)) [plain](http://a.example) [good](https://b.example/x)\n\n```js\nlet a = 1\n```\n',
    }
    await user.type(await composer(), 'x{Enter}')
    await screen.findByText(/seed 1234/)
    const [answer] = await answers()
    expect(answer!.querySelector('img, script, iframe')).toBeNull()
    expect(footer(answer!)).toContain('<script>alert(1)</script>')
    expect(footer(answer!)).toContain('Picture not loaded: cat')
    expect(
      within(answer!)
        .getAllByRole('link')
        .map((link) => link.getAttribute('href')),
    ).toEqual(['https://b.example/x'])
    await user.click(within(answer!).getByRole('link', { name: 'good' }))
    expect(opened).toEqual(['https://b.example/x'])
    await user.click(within(answer!).getByRole('button', { name: 'Copy code' }))
    expect(host.copied).toEqual(['let a = 1'])
  })
})

describe('keeping', () => {
  test('a branch goes on by itself, and what was said is found', async () => {
    const { say, user, engine } = await start()
    await say('Who is Clover?')
    await ended(1)
    await user.click(screen.getByRole('button', { name: 'Branch from here' }))
    await waitFor(() => expect(screen.getByRole('heading', { level: 1 }).textContent).toMatch(/\(2\)$/))
    await ended(1)
    await say('And her age?')
    await ended(2)
    expect((await engine.client.chat.threads()).map((thread) => thread.messageCount).toSorted()).toEqual([2, 4])
    await user.click(screen.getByRole('link', { name: 'New chat' }))
    await say('Something else')
    await ended(1)
    await user.type(await screen.findByRole('searchbox', { name: 'Find a chat' }), 'her age')
    await waitFor(() => expect(within(screen.getByRole('navigation', { name: 'Chats' })).getAllByRole('listitem')).toHaveLength(1))
  })

  test('a draft that only the engine has is there again, and what is typed reaches the engine', async () => {
    const first = await start()
    await first.user.type(await composer(), 'half a thou')
    first.unmount()
    await waitFor(() => expect(first.engine.drafts.get('new')).toBe('half a thou'))
    sessionStorage.clear()
    useDraftStore.setState({ drafts: {} })
    const app = await start('/chat', {})
    await act(async () => {
      app.engine.drafts.set('new', 'half a thou')
      app.unmount()
      await Promise.resolve()
    })
    render(<App client={app.engine.client} connection={app.engine} queryClient={createQueryClient()} host={app.host} />)
    await waitFor(async () => expect((await composer()).value).toBe('half a thou'))
  })

  test('thinking is folded away from the answer and is not copied with it', async () => {
    const { say, user, engine, host } = await start()
    engine.chatScript = { ...engine.chatScript, answer: '<think>\nA hen, I believe.\n</think>\n\nA hen.' }
    await say('What pet?')
    await ended(1)
    const [answer] = await answers()
    const folded = within(answer!).getByText('Thought before answering').closest('details')!
    expect([folded.open, folded.textContent]).toEqual([false, 'Thought before answeringA hen, I believe.'])
    await user.click(within(answer!).getByRole('button', { name: 'Copy answer' }))
    expect(host.copied).toEqual(['A hen.'])
    await user.click(screen.getByRole('button', { name: 'Export chat' }))
    await user.click(await screen.findByRole('menuitem', { name: 'Copy as cURL' }))
    await waitFor(() => expect(host.copied[1]).toMatch(/^curl http:\/\/127\.0\.0\.1:8000\/v1\/chat\/completions/))
  })
})
