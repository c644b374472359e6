import { afterEach, describe, expect, it } from 'vitest'
import type { ChatEvent, ChatMessage } from '../contract/index.ts'
import { LatheError } from '../contract/index.ts'
import { DEFAULT_SAMPLING } from './chat.ts'
import { createFakeEngine } from './test/fake-engine.ts'
import { openStudio } from './test/open-studio.ts'
import type { OpenStudio } from './test/open-studio.ts'
import { useTemporaryFolders } from './test/temporary-folder.ts'

const temporaryFolder = useTemporaryFolders()
const opened: OpenStudio[] = []
afterEach(async () => {
  for (const { studio } of opened.splice(0)) await studio.close()
})

async function start(folder = temporaryFolder(), engine = createFakeEngine()) {
  const open = await openStudio(folder, engine)
  opened.push(open)
  const model = await open.client.models.importSample()
  return { ...open, folder, model }
}

function request(
  threadId: string,
  modelId: string,
  content: string,
  change: { replaceFrom?: string; systemPrompt?: string; seed?: number } = {},
) {
  return {
    threadId,
    modelId,
    content,
    sampling: { ...DEFAULT_SAMPLING, seed: change.seed ?? null },
    systemPrompt: change.systemPrompt ?? '',
    replaceFrom: change.replaceFrom ?? null,
  }
}

async function all(stream: AsyncIterable<ChatEvent>): Promise<ChatEvent[]> {
  const events: ChatEvent[] = []
  for await (const event of stream) events.push(event)
  return events
}

function doneOf(events: readonly ChatEvent[]): ChatMessage {
  const last = events.at(-1)
  if (last?.kind !== 'done') throw new Error(`The answer ended with ${last?.kind}.`)
  return last.message
}

describe('an answer', () => {
  it('streams, and is stored with its text and figures', async () => {
    const { client, model } = await start()
    const thread = await client.chat.create({ modelId: model.id })
    const events = await all(await client.chat.send(request(thread.id, model.id, 'Hi there', { seed: 7 })))
    expect(events[0]).toMatchObject({ kind: 'accepted', userMessage: { role: 'user', content: 'Hi there', stats: null } })
    expect(events.filter((event) => event.kind === 'loading')).toEqual([
      { kind: 'loading', doneBytes: 50, totalBytes: 100, phase: 'uploading' },
    ])
    expect(events.find((event) => event.kind === 'prefill')).toEqual({ kind: 'prefill', done: 15, total: 15 })
    expect(events.flatMap((event) => (event.kind === 'text' ? [event.text] : [])).join('')).toBe('Hello, world.')
    const message = doneOf(events)
    expect(message).toMatchObject({
      role: 'assistant',
      content: 'Hello, world.',
      modelId: model.id,
      error: null,
      stats: {
        promptTokens: 15,
        completionTokens: 4,
        timeToFirstTokenMs: 110,
        // 15 computed prompt tokens in 100 ms, three gaps of 20 ms
        prefillTokensPerSecond: 150,
        decodeTokensPerSecond: 50,
        stopReason: 'stop',
        seed: 7,
        adapter: 'Fake adapter',
        softwareAdapter: true,
        contextUsed: 19,
        contextLimit: 4096,
      },
    })
    expect(await client.chat.messages({ threadId: thread.id })).toEqual([
      expect.objectContaining({ role: 'user', content: 'Hi there' }),
      message,
    ])
    expect(await client.chat.threads()).toMatchObject([{ id: thread.id, title: 'Hi there', modelId: model.id, messageCount: 2 }])
  })

  it('is given the system prompt and what was said before', async () => {
    const { client, model, engine } = await start()
    const { id } = await client.chat.create({ modelId: null })
    await all(await client.chat.send(request(id, model.id, 'one')))
    await all(await client.chat.send(request(id, model.id, 'two', { systemPrompt: 'Be kind.' })))
    const rendered = 'system: Be kind.\nuser: one\nassistant: Hello, world.\nuser: two\n'
    expect(engine.generated[1]?.promptTokens).toEqual(Uint32Array.from(rendered, (character) => character.codePointAt(0)! % 16))
    expect((await client.chat.threads())[0]).toMatchObject({ systemPrompt: 'Be kind.', title: 'one', messageCount: 4 })
  })

  it('runs on matrix units where the settings say so, and its figures say so too', async () => {
    const { client, model } = await start()
    expect((await client.settings.get()).matrixUnits).toBe(false)
    await client.settings.update({ matrixUnits: true })
    const { id } = await client.chat.create({ modelId: null })
    const message = doneOf(await all(await client.chat.send(request(id, model.id, 'one'))))
    expect(message.stats?.adapter).toBe('Fake adapter (matrix units)')
  })

  it('does not report loading when the model is there already', async () => {
    const { client, model } = await start()
    const { id } = await client.chat.create({ modelId: null })
    expect(doneOf(await all(await client.chat.send(request(id, model.id, 'one')))).stats?.loadMs).toBeGreaterThan(0)
    const second = await all(await client.chat.send(request(id, model.id, 'two')))
    expect(second.some((event) => event.kind === 'loading')).toBe(false)
    expect(doneOf(second).stats?.loadMs).toBe(0)
  })
})

describe('stopping', () => {
  it('by leaving the stream keeps the partial answer as aborted', async () => {
    const { client, model, engine } = await start()
    const { id } = await client.chat.create({ modelId: null })
    engine.answer = ['one', ' two', ' three']
    void engine.tokenGate.close(2)
    for await (const event of await client.chat.send(request(id, model.id, 'count'))) if (event.kind === 'text' && event.tokens === 2) break
    expect(await client.chat.messages({ threadId: id })).toMatchObject([
      { content: 'count' },
      { content: 'one two', error: null, stats: { stopReason: 'aborted', completionTokens: 2 } },
    ])
  })

  it('by losing the connection while the stream waits keeps what was said and frees the model', async () => {
    const { client, model, engine } = await start()
    const { id } = await client.chat.create({ modelId: null })
    engine.answer = ['kept', ' lost']
    const waiting = engine.tokenGate.close(1)
    const controller = new AbortController()
    const reading = all(await client.chat.send(request(id, model.id, 'go'), { signal: controller.signal }))
    await waiting
    controller.abort()
    expect(doneOf(await reading)).toMatchObject({ content: 'kept', stats: { stopReason: 'aborted' } })
    expect((await client.chat.messages({ threadId: id }))[1]?.content).toBe('kept')
    await client.runtime.unload({ modelId: model.id })
    expect((await client.system.hardware()).loaded).toEqual([])
  })

  it('while the model loads leaves the prompt and says so', async () => {
    const { client, model, engine } = await start()
    const { id } = await client.chat.create({ modelId: null })
    void engine.loadGate.close()
    for await (const event of await client.chat.send(request(id, model.id, 'my long prompt'))) if (event.kind === 'loading') break
    const messages = await client.chat.messages({ threadId: id })
    expect(messages.map((message) => message.content)).toEqual(['my long prompt', ''])
    expect(messages[1]?.error).toMatchObject({ code: 'runtime.aborted' })
  })
})

describe('failure', () => {
  it('belongs to the message: prompt and partial text stay, the stream ends with done', async () => {
    const { client, model, engine } = await start()
    const { id } = await client.chat.create({ modelId: null })
    engine.failWith = new LatheError('gpu.device-lost', 'The GPU went away.', 'Try again.')
    const message = doneOf(await all(await client.chat.send(request(id, model.id, 'hello'))))
    expect(message).toMatchObject({ content: '', stats: null, error: { code: 'gpu.device-lost', hint: 'Try again.' } })
    engine.failWith = null
    // the failed exchange is not shown to the model again
    await all(await client.chat.send(request(id, model.id, 'again')))
    expect(engine.generated.at(-1)?.promptTokens.length).toBe('user: again\n'.length)
  })

  it('before anything is stored throws: unknown thread, unknown model, a thread that is busy', async () => {
    const { client, model, engine } = await start()
    const { id } = await client.chat.create({ modelId: null })
    const codes: unknown[] = []
    const attempt = async (stream: Promise<AsyncIterable<ChatEvent>>): Promise<void> => {
      try {
        await all(await stream)
      } catch (error) {
        codes.push((error as { data: { code: string } }).data.code)
      }
    }
    await attempt(client.chat.send(request('nothing', model.id, 'x')))
    await attempt(client.chat.send(request(id, 'nothing', 'x')))
    const waiting = engine.tokenGate.close()
    const first = await client.chat.send(request(id, model.id, 'first'))
    const reading = all(first)
    await waiting
    await attempt(client.chat.send(request(id, model.id, 'second')))
    engine.tokenGate.open()
    await reading
    expect(codes).toEqual(['chat.not-found', 'model.not-found', 'chat.busy'])
    expect(await client.chat.messages({ threadId: id })).toHaveLength(2)
  })
})

describe('editing', () => {
  it('a prompt drops it and everything after; regenerating an answer drops its prompt too, which is sent again', async () => {
    const { client, model } = await start()
    const { id } = await client.chat.create({ modelId: null })
    for (const content of ['one', 'two', 'three']) await all(await client.chat.send(request(id, model.id, content)))
    const before = await client.chat.messages({ threadId: id })
    await all(await client.chat.send(request(id, model.id, 'TWO', { replaceFrom: before[2]!.id })))
    const edited = await client.chat.messages({ threadId: id })
    expect(edited.map((message) => message.content)).toEqual(['one', 'Hello, world.', 'TWO', 'Hello, world.'])
    await all(await client.chat.send(request(id, model.id, 'TWO', { replaceFrom: edited[3]!.id })))
    const regenerated = await client.chat.messages({ threadId: id })
    expect(regenerated.map((message) => message.content)).toEqual(['one', 'Hello, world.', 'TWO', 'Hello, world.'])
    expect(regenerated[3]!.id).not.toBe(edited[3]!.id)
  })
})

describe('after a restart', () => {
  it('threads are there, and an answer that was being written says why it ends', async () => {
    const folder = temporaryFolder()
    const engine = createFakeEngine()
    const { client, model, studio } = await start(folder, engine)
    const { id } = await client.chat.create({ modelId: null })
    await client.chat.update({ threadId: id, title: 'Kept' })
    const waiting = engine.tokenGate.close()
    const reading = all(await client.chat.send(request(id, model.id, 'unfinished')))
    await waiting
    opened.splice(0)
    await studio.close()
    await reading
    const again = await openStudio(folder)
    opened.push(again)
    expect(await again.client.chat.threads()).toMatchObject([{ id, title: 'Kept', messageCount: 2 }])
    expect(await again.client.chat.messages({ threadId: id })).toMatchObject([
      { content: 'unfinished' },
      { content: '', stats: { stopReason: 'aborted', completionTokens: 0, decodeTokensPerSecond: null } },
    ])
  })
})

describe('pace', () => {
  it('sends text at most 30 times a second, and all of it', async () => {
    const { client, model, engine } = await start()
    const { id } = await client.chat.create({ modelId: null })
    engine.answer = Array.from({ length: 2000 }, (_, index) => `${index} `)
    const began = performance.now()
    const events = await all(await client.chat.send(request(id, model.id, 'go')))
    const seconds = (performance.now() - began) / 1000
    const texts = events.filter((event) => event.kind === 'text')
    expect(texts.map((event) => event.text).join('')).toBe(engine.answer.join(''))
    expect(texts.length).toBeLessThanOrEqual(Math.ceil(seconds * 31) + 2)
    expect(texts.at(-1)?.tokens).toBe(2000)
  })
})

describe('what is kept besides', () => {
  it('a branch has everything up to its message, and the old thread stays as it is', async () => {
    const { client, model } = await start()
    const thread = await client.chat.create({ modelId: model.id })
    const first = doneOf(await all(await client.chat.send(request(thread.id, model.id, 'One', { systemPrompt: 'Be brief.' }))))
    await all(await client.chat.send(request(thread.id, model.id, 'Two')))
    const branch = await client.chat.branch({ threadId: thread.id, messageId: first.id })
    expect(branch).toMatchObject({ title: 'One (2)', messageCount: 2, modelId: model.id })
    const [before, after] = [await client.chat.messages({ threadId: thread.id }), await client.chat.messages({ threadId: branch.id })]
    expect(after.map(({ role, content, stats }) => [role, content, stats])).toEqual(
      before.slice(0, 2).map(({ role, content, stats }) => [role, content, stats]),
    )
    expect([before.length, new Set([...before, ...after].map((message) => message.id)).size]).toEqual([4, 6])
    await expect(client.chat.branch({ threadId: thread.id, messageId: 'none' })).rejects.toMatchObject({ data: { code: 'chat.not-found' } })
  })

  it('finds what was said, with its place, whatever signs it holds', async () => {
    const { client, model } = await start()
    const thread = await client.chat.create({ modelId: model.id })
    await all(await client.chat.send(request(thread.id, model.id, `${'x'.repeat(60)} 100% of_it ${'y'.repeat(60)}`)))
    const other = await client.chat.create({ modelId: model.id })
    await all(await client.chat.send(request(other.id, model.id, 'Nothing of note')))
    const found = await client.chat.search({ text: '100% OF_IT' })
    expect(found.map(({ threadId }) => threadId)).toEqual([thread.id])
    expect(found[0]?.snippet).toMatch(/^…x+ 100% of_it y+…$/)
    expect((await client.chat.search({ text: 'hello, world' })).map(({ threadId }) => threadId)).toEqual([other.id, thread.id])
    expect([await client.chat.search({ text: '100%of' }), await client.chat.search({ text: '%' })].map(({ length }) => length)).toEqual([
      0, 1,
    ])
  })

  it('drafts are there after a restart until they are emptied', async () => {
    const { client, studio, folder } = await start()
    const thread = await client.chat.create({ modelId: null })
    await client.chat.saveDraft({ key: 'new', text: 'half' })
    await client.chat.saveDraft({ key: 'new', text: 'half a thought' })
    await client.chat.saveDraft({ key: thread.id, text: 'gone with its thread' })
    await client.chat.saveDraft({ key: 'other', text: 'x' })
    await client.chat.saveDraft({ key: 'other', text: '' })
    await client.chat.remove({ threadId: thread.id })
    await studio.close()
    opened.length = 0
    const again = await start(folder)
    expect(await again.client.chat.drafts()).toEqual({ new: 'half a thought' })
  })
})

describe('what was replaced', () => {
  it('comes back with its figures and the title of its thread, also while the new answer is written, and not once the chat has gone on', async () => {
    const { client, model } = await start()
    const thread = await client.chat.create({ modelId: model.id })
    await all(await client.chat.send(request(thread.id, model.id, 'first')))
    await all(await client.chat.send(request(thread.id, model.id, 'second')))
    const before = await client.chat.messages({ threadId: thread.id })
    await all(await client.chat.send(request(thread.id, model.id, 'another', { replaceFrom: before[0]!.id })))
    expect((await client.chat.messages({ threadId: thread.id })).map((message) => message.content)[0]).toBe('another')
    expect(await client.chat.restore({ threadId: thread.id })).toEqual(before)
    expect((await client.chat.threads())[0]).toMatchObject({ title: 'first', messageCount: 4 })
    await expect(client.chat.restore({ threadId: thread.id })).rejects.toMatchObject({ data: { code: 'chat.not-found' } })

    const stream = await client.chat.send(request(thread.id, model.id, 'second again', { replaceFrom: before[2]!.id }))
    expect((await stream[Symbol.asyncIterator]().next()).value).toMatchObject({ kind: 'accepted' })
    expect(await client.chat.restore({ threadId: thread.id })).toEqual(before)
    await all(stream)
    expect(await client.chat.messages({ threadId: thread.id })).toEqual(before)

    await all(await client.chat.send(request(thread.id, model.id, 'once more', { replaceFrom: before[2]!.id })))
    await all(await client.chat.send(request(thread.id, model.id, 'and on')))
    await expect(client.chat.restore({ threadId: thread.id })).rejects.toMatchObject({ data: { code: 'chat.not-found' } })
  })
})
