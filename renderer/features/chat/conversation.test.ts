import { describe, expect, test } from 'vitest'
import type { ChatMessage } from '../../../engine/contract/index.ts'
import { SAMPLE, SAMPLE_W4 } from '../../test/fixtures.ts'
import {
  announcementOf,
  chatBlock,
  contextSentence,
  conversationText,
  defaultModel,
  foldedPrompt,
  keptBefore,
  messagesBefore,
  settledCopy,
  stopReasonText,
  type LiveHead,
} from './conversation.ts'

function message(id: string, role: 'user' | 'assistant', change: Partial<ChatMessage> = {}): ChatMessage {
  return { id, role, content: id, modelId: null, createdAt: '2026-11-23T12:00:00Z', stats: null, error: null, ...change }
}
const stats = {
  promptTokens: 20,
  completionTokens: 1,
  timeToFirstTokenMs: 182,
  loadMs: 0,
  prefillTokensPerSecond: 884,
  decodeTokensPerSecond: null,
  stopReason: 'stop' as const,
  seed: 7,
  adapter: 'GPU',
  softwareAdapter: false,
  contextUsed: 21,
  contextLimit: 1024,
}
const four = [message('u1', 'user'), message('a1', 'assistant', { stats }), message('u2', 'user'), message('a2', 'assistant', { stats })]
const live: LiveHead = {
  prompt: 'again',
  origin: 'regenerate',
  replaceFrom: 'a2',
  modelId: 'm',
  phase: 'sending',
  userMessage: null,
  assistantMessageId: null,
  failure: null,
}
const ids = (messages: readonly ChatMessage[]) => messages.map((one) => one.id)

describe('replacing', () => {
  test('a prompt drops it and what follows; an answer takes its prompt along; an unknown id drops nothing', () => {
    expect(ids(keptBefore(four, 'u2'))).toEqual(['u1', 'a1'])
    expect(ids(keptBefore(four, 'a2'))).toEqual(['u1', 'a1'])
    expect(ids(keptBefore(four, null))).toEqual(['u1', 'a1', 'u2', 'a2'])
    expect(ids(keptBefore(four, 'gone'))).toEqual(['u1', 'a1', 'u2', 'a2'])
  })

  test('the live prompt is shown once, whether the snapshot has it or not', () => {
    const userMessage = message('u3', 'user')
    expect(ids(messagesBefore(four, live))).toEqual(['u1', 'a1'])
    expect(ids(messagesBefore(four, { ...live, userMessage }))).toEqual(['u1', 'a1'])
    expect(ids(messagesBefore([...four.slice(0, 2), userMessage, message('a3', 'assistant')], { ...live, userMessage }))).toEqual([
      'u1',
      'a1',
    ])
    expect(ids(messagesBefore(four, { ...live, phase: 'failed' }))).toEqual(['u1', 'a1', 'u2', 'a2'])
  })

  test('a stopped answer waits for the engine’s complete copy', () => {
    const stopping: LiveHead = { ...live, phase: 'stopping', assistantMessageId: 'a3' }
    const open = message('a3', 'assistant')
    expect(settledCopy([...four, open], stopping)).toBeNull()
    expect(settledCopy([...four, { ...open, stats }], stopping)?.id).toBe('a3')
    expect(settledCopy([...four, { ...open, stats }], { ...stopping, phase: 'writing' })).toBeNull()
  })
})

describe('words', () => {
  test('every stop reason is said in words', () => {
    expect((['stop', 'length', 'context', 'aborted', 'error'] as const).map(stopReasonText)).toEqual([
      'finished',
      'stopped at the token limit',
      'stopped: context full',
      'stopped early',
      'ended by an error',
    ])
  })

  test('a completion is announced with its figures, a failure with its reason', () => {
    expect(announcementOf(message('a', 'assistant', { stats }))).toBe('Answer finished: 1 token, first after 182 ms.')
    expect(announcementOf(message('a', 'assistant', { error: { code: 'gpu.device-lost', message: 'The GPU went away.', hint: '' } }))).toBe(
      'The answer failed: The GPU went away.',
    )
  })

  test('the context says what is left and warns when little is', () => {
    expect(contextSentence({ used: 100, limit: 1024 })).toMatchObject({ tight: false, text: expect.stringContaining('924 left') })
    expect(contextSentence({ used: 900, limit: 1024 })).toMatchObject({ tight: true, text: expect.stringContaining('Start a new chat') })
  })

  test('a chat is copied with its system prompt and the names of who speaks', () => {
    expect(conversationText(' Be kind. ', four.slice(0, 2), () => 'Pebble')).toBe('System:\nBe kind.\n\nYou:\nu1\n\nPebble:\na1\n')
  })
})

describe('models', () => {
  test('one without tokenizer or template can’t chat, and the reason says what to do', () => {
    expect(chatBlock(SAMPLE)).toBeNull()
    expect(chatBlock({ ...SAMPLE, hasChatTemplate: false })?.code).toBe('tokenizer.no-chat-template')
    expect(chatBlock({ ...SAMPLE, hasTokenizer: false })?.code).toBe('tokenizer.missing')
    expect(chatBlock({ ...SAMPLE, status: 'missing' })).not.toBeNull()
  })

  test('a new chat starts with the model used last, else the sample', () => {
    expect(defaultModel([SAMPLE_W4, SAMPLE])?.id).toBe(SAMPLE.id)
    expect(
      defaultModel([
        { ...SAMPLE_W4, lastUsedAt: null },
        { ...SAMPLE, lastUsedAt: null },
      ])?.id,
    ).toBe(SAMPLE.id)
    expect(defaultModel([{ ...SAMPLE, hasChatTemplate: false }])).toBeNull()
  })
})

describe('a long prompt', () => {
  test('is folded by lines or by characters, never inside of a letter, and never to hide two lines', () => {
    expect([foldedPrompt('short'), foldedPrompt('x'.repeat(3000)), foldedPrompt('line\n'.repeat(40))]).toEqual([null, null, null])
    expect(foldedPrompt('x'.repeat(3001))).toBe('x'.repeat(1500))
    expect(foldedPrompt('😀'.repeat(2000))).toBe('😀'.repeat(750))
    expect(foldedPrompt('line\n'.repeat(60))).toBe('line\n'.repeat(24).trimEnd())
    expect(foldedPrompt(`x${'😀'.repeat(2000)}`)).toMatch(/^x(😀)+$/u)
  })
})
