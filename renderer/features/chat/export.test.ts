import { expect, test } from 'vitest'
import type { ChatMessage } from '../../../engine/contract/index.ts'
import { asCurl, asJson, asMarkdown } from './export.ts'
import { DEFAULT_SAMPLING } from './sampling.ts'

const message = (role: ChatMessage['role'], content: string): ChatMessage => ({
  id: content,
  role,
  content,
  modelId: role === 'assistant' ? 'm' : null,
  createdAt: '2026-11-23T12:00:00Z',
  stats: null,
  error: null,
})
const CONVERSATION = {
  title: 'Gus',
  systemPrompt: 'Be brief.',
  sampling: { ...DEFAULT_SAMPLING, seed: 7 },
  messages: [message('user', "Who's Gus?"), message('assistant', '<think>hm</think>\n\nA **hen** keeper.'), message('user', 'And "she"?')],
  nameOf: () => 'Pebble',
}

test('Markdown has the turns without the thinking', () => {
  expect(asMarkdown(CONVERSATION)).toBe(
    '# Gus\n\n## System\n\nBe brief.\n\n## You\n\nWho\'s Gus?\n\n## Pebble\n\nA **hen** keeper.\n\n## You\n\nAnd "she"?\n',
  )
})

test('JSON has everything', () => {
  const value = JSON.parse(asJson(CONVERSATION)) as { messages: object[] }
  expect(value).toMatchObject({ title: 'Gus', system_prompt: 'Be brief.', sampling: { seed: 7 } })
  expect(value.messages[1]).toMatchObject({ role: 'assistant', model: 'Pebble', content: '<think>hm</think>\n\nA **hen** keeper.' })
})

test('the call says to a shell what was said in the chat', () => {
  const call = asCurl(CONVERSATION, 'http://x/v1', 'pebble')
  expect(call).toMatch(/^curl http:\/\/x\/v1\/chat\/completions \\\n/)
  // What stands between single quotes is taken as it is; '\\'' is a quote of its own.
  const data = /-d '([\s\S]*)'$/.exec(call)![1]!
  expect(data.split(String.raw`'\''`).some((part) => part.includes("'"))).toBe(false)
  const body = JSON.parse(data.replaceAll(String.raw`'\''`, "'")) as { messages: object[] }
  expect(body).toMatchObject({ model: 'pebble', seed: 7, temperature: 0.7 })
  expect(body.messages).toEqual([
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: "Who's Gus?" },
    { role: 'assistant', content: '<think>hm</think>\n\nA **hen** keeper.' },
    { role: 'user', content: 'And "she"?' },
  ])
})
