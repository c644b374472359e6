import { QueryClient } from '@tanstack/react-query'
import { expect, test } from 'vitest'
import type { ChatEvent } from '../../../engine/contract/index.ts'
import { DisconnectedError } from '../../lib/errors.ts'
import { type AnswerContext, followAnswer } from './answer-stream.ts'
import { readChats } from './chat-store.ts'

const REQUEST = { threadId: 't', modelId: 'm', content: 'Hello', replaceFrom: null, sampling: {}, systemPrompt: null }

async function* broken(): AsyncGenerator<ChatEvent> {
  await Promise.resolve()
  yield { kind: 'text', text: 'Once upon', tokens: 2 }
  throw new DisconnectedError('connection lost')
}

test('an answer that breaks off before its last words were shown has failed, with all its words', async () => {
  const engine = {
    client: { chat: { send: () => Promise.resolve(broken()) } },
    queries: { chat: { messages: { queryKey: () => ['messages'] } } },
  } as unknown as AnswerContext['engine']
  readChats().begin('t', { prompt: 'Hello', origin: 'composer', replaceFrom: null, modelId: 'm' })
  await followAnswer({ engine, cache: new QueryClient() }, REQUEST as never)
  expect(readChats().live['t']).toMatchObject({ phase: 'failed', text: 'Once upon', tokens: 2, failure: { code: 'engine.disconnected' } })
})
