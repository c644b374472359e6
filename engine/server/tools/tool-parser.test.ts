import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { withShortIds } from '../chat-run.ts'
import { ReasoningSplitter, afterReasoning, reasoningStart } from '../reasoning.ts'
import type { ReasoningStart } from '../reasoning.ts'
import { ToolParser } from './tool-parser.ts'
import type { ToolFormat } from './tool-format.ts'
import { toolFormatOf } from './tool-format.ts'

const SEED = 4711

interface Parsed {
  readonly content: string
  readonly calls: readonly { readonly name: string; readonly arguments: string }[]
}

function parse(format: ToolFormat, pieces: readonly string[]): Parsed {
  const parser = new ToolParser(format)
  let content = ''
  const calls: { name: string; arguments: string }[] = []
  const take = (parts: ReturnType<ToolParser['push']>): void => {
    for (const part of parts) {
      if (part.kind === 'content') content += part.text
      else if (part.kind === 'call') calls[part.index] = { name: part.name, arguments: '' }
      else calls[part.index]!.arguments += part.text
    }
  }
  for (const piece of pieces) take(parser.push(piece))
  take(parser.finish())
  return { content, calls }
}

const CASES: readonly (readonly [ToolFormat, string, Parsed])[] = [
  [
    'hermes',
    '<tool_call>\n{"name": "f", "arguments": {"a": "}\\"<"}}\n</tool_call>',
    { content: '', calls: [{ name: 'f', arguments: '{"a": "}\\"<"}' }] },
  ],
  [
    'hermes',
    'Let me look.\n<tool_call>{"arguments": {"x": [1, {"y": 2}]}, "name": "g"}</tool_call>\n<tool_call>{"name": "h"}</tool_call>\n',
    {
      content: 'Let me look.',
      calls: [
        { name: 'g', arguments: '{"x": [1, {"y": 2}]}' },
        { name: 'h', arguments: '{}' },
      ],
    },
  ],
  ['hermes', '1 < 2 and <tool or not', { content: '1 < 2 and <tool or not', calls: [] }],
  ['hermes', '<tool_call>no JSON</tool_call> at all', { content: '<tool_call>no JSON</tool_call> at all', calls: [] }],
  ['hermes', 'cut <tool_call>{"name": "f", "argum', { content: 'cut<tool_call>{"name": "f", "argum', calls: [] }],
  [
    'hermes',
    '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>',
    { content: '', calls: [{ name: 'f', arguments: '{"a": 1}' }] },
  ],
  ['hermes', '<tool_call>{"name": "f", "arguments": {"a": 1', { content: '', calls: [{ name: 'f', arguments: '{"a": 1' }] }],
  [
    'mistral-list',
    '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]',
    {
      content: '',
      calls: [
        { name: 'f', arguments: '{"a": 1}' },
        { name: 'g', arguments: '{}' },
      ],
    },
  ],
  ['mistral-list', 'Plain [1, 2] text', { content: 'Plain [1, 2] text', calls: [] }],
  [
    'mistral-args',
    '[TOOL_CALLS]f[ARGS]{"a": {"b": "]"}}[TOOL_CALLS]g{"c": 2}',
    {
      content: '',
      calls: [
        { name: 'f', arguments: '{"a": {"b": "]"}}' },
        { name: 'g', arguments: '{"c": 2}' },
      ],
    },
  ],
  ['mistral-args', '[TOOL_CALLS]f[CALL_ID]abcdefgh1[ARGS]{"a": 1}', { content: '', calls: [{ name: 'f', arguments: '{"a": 1}' }] }],
  ['mistral-list', '[TOOL_CALLS] nothing', { content: '[TOOL_CALLS] nothing', calls: [] }],
  [
    'phi',
    'Moment. <|tool_call|>{"name": "f", "arguments": {"a": "<|/tool_call|>"}}<|/tool_call|><|tool_call|>{"name": "g", "arguments": {}}<|/tool_call|>',
    {
      content: 'Moment.',
      calls: [
        { name: 'f', arguments: '{"a": "<|/tool_call|>"}' },
        { name: 'g', arguments: '{}' },
      ],
    },
  ],
  [
    'phi',
    '<|tool_call|>[{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]<|/tool_call|>',
    {
      content: '',
      calls: [
        { name: 'f', arguments: '{"a": 1}' },
        { name: 'g', arguments: '{}' },
      ],
    },
  ],
  ['phi', '<|tool_call|>later', { content: '<|tool_call|>later', calls: [] }],
  ['llama3', '{"name": "f", "parameters": {"a": 1}}', { content: '', calls: [{ name: 'f', arguments: '{"a": 1}' }] }],
  ['llama3', '<|python_tag|>{"type": "function", "name": "f", "parameters": {}}', { content: '', calls: [{ name: 'f', arguments: '{}' }] }],
  ['llama3', '{"answer": 42}', { content: '{"answer": 42}', calls: [] }],
  ['llama3', 'It is {"name": "x"}.', { content: 'It is {"name": "x"}.', calls: [] }],
]

describe('tool calls', () => {
  test.each(CASES)('%s: %s', (format, text, expected) => {
    expect(parse(format, [text])).toEqual(expected)
  })

  test(`however the text is cut, the calls are the same (seed ${SEED})`, () => {
    fc.assert(
      fc.property(fc.constantFrom(...CASES), fc.array(fc.nat(6), { minLength: 1, maxLength: 60 }), ([format, text, expected], sizes) => {
        const pieces: string[] = []
        for (let at = 0, i = 0; at < text.length; i++) {
          const size = 1 + sizes[i % sizes.length]!
          pieces.push(text.slice(at, at + size))
          at += size
        }
        expect(parse(format, pieces)).toEqual(expected)
      }),
      { seed: SEED, numRuns: 400 },
    )
  })

  test('arguments are passed on before the call has ended', () => {
    const parser = new ToolParser('hermes')
    expect(parser.push('<tool_call>{"name": "f", "arguments": {"city": "Par')).toEqual([
      { kind: 'call', index: 0, name: 'f' },
      { kind: 'arguments', index: 0, text: '{"city": "Par' },
    ])
  })

  test('a format is told from the template', () => {
    expect([
      toolFormatOf('{% if tools %}<tool_call>{% endif %}'),
      toolFormatOf('{% if tools %}[TOOL_CALLS]{% endif %}'),
      toolFormatOf('{% if tools %}[TOOL_CALLS]{{ n }}[ARGS]{% endif %}'),
      toolFormatOf('<|start_header_id|>{% if tools %}{"name": function name, "parameters": …}{% endif %}'),
      toolFormatOf('{% if tools %}<|tool_call|>{% endif %}'),
      toolFormatOf('{% if tools %}<|START_ACTION|>{"name": …, "parameters": …}{% endif %}'),
      toolFormatOf('{% if tools %}<tool_call><function=f>{% endif %}'),
      toolFormatOf('{{ messages }} <tool_call>'),
      toolFormatOf(null),
    ]).toEqual(['hermes', 'mistral-list', 'mistral-args', 'llama3', 'phi', null, null, null, null])
  })
})

function split(start: ReasoningStart, pieces: readonly string[]): { reasoning: string; content: string } {
  const splitter = new ReasoningSplitter(start)
  const all = { reasoning: '', content: '' }
  for (const part of [...pieces.flatMap((piece) => splitter.push(piece)), ...splitter.finish()]) all[part.kind] += part.text
  return all
}

describe('thinking', () => {
  test.each([
    ['possible', '<think>\nhm < 2\n</think>\n\nYes.', { reasoning: 'hm < 2', content: 'Yes.' }],
    ['inside', 'hm</think>Yes.', { reasoning: 'hm', content: 'Yes.' }],
    ['possible', 'Yes, <think> is a tag.', { reasoning: '', content: 'Yes, <think> is a tag.' }],
    ['none', '<think>x</think>y', { reasoning: '', content: '<think>x</think>y' }],
    ['inside', 'never ends </thi', { reasoning: 'never ends </thi', content: '' }],
  ] as const)('%s: %s', (start, text, expected) => {
    expect([split(start, [text]), split(start, [...text])]).toEqual([expected, expected])
  })

  test('starts as the template and the prompt say', () => {
    const template = '{{ m }}<think></think>'
    expect([
      reasoningStart(template, 'assistant\n'),
      reasoningStart(template, 'assistant\n<think>\n'),
      reasoningStart(template, 'assistant\n<think>\n\n</think>\n\n'),
      reasoningStart('{{ m }}', 'assistant\n<think>'),
      reasoningStart(null, ''),
      reasoningStart('[THINK][/THINK]', '[/INST]'),
      reasoningStart('[THINK][/THINK]', '[/INST][THINK]'),
    ]).toEqual(['possible', 'inside', 'none', 'none', 'none', 'possible', 'inside'])
  })

  test('other tags are as good', () => {
    const splitter = new ReasoningSplitter('possible', { open: '[THINK]', close: '[/THINK]' })
    const parts = [...splitter.push('[THINK]hm <think>'), ...splitter.push('[/THINK]yes'), ...splitter.finish()]
    expect(parts).toEqual([
      { kind: 'reasoning', text: 'hm <think>' },
      { kind: 'content', text: 'yes' },
    ])
  })

  test('ids of calls are made short where a template wants them so, the same for a call and its result', () => {
    const calls = [{ id: 'call_0123456789', type: 'function', function: { name: 'f', arguments: {} } }, { id: 'abcdefgh1' }]
    const asked = withShortIds({ role: 'assistant', content: '', tool_calls: calls })
    const answered = withShortIds({ role: 'tool', content: 'x', tool_call_id: 'call_0123456789' })
    const ids = (asked['tool_calls'] as { id: string }[]).map(({ id }) => id)
    expect([ids[0], ids[1]]).toEqual([expect.stringMatching(/^[a-z0-9]{9}$/), 'abcdefgh1'])
    expect(answered['tool_call_id']).toBe(ids[0])
  })

  test('a grammar binds only after it, and walking back unbinds it again', async () => {
    const accepted: number[] = []
    const inner = {
      mask: () => Uint32Array.of(0b100),
      accept: (token: number) => token === 2 && accepted.push(token) > 0,
      rollback: (count: number) => void (accepted.length -= count),
    }
    const texts = ['<think>', 'hm', 'x', '</th', 'ink>']
    const provider = afterReasoning(inner, 'possible', { openId: 0, tokenBytes: (id) => Buffer.from(texts[id]!) })
    expect(await provider.mask()).toEqual(Uint32Array.of(0b101))
    expect([0, 1, 3].map((token) => provider.accept(token))).toEqual([true, true, true])
    expect(provider.mask()).toBeNull()
    expect(provider.accept(4)).toBe(true)
    expect([provider.mask(), provider.accept(1), provider.accept(2), [...accepted]]).toEqual([Uint32Array.of(0b100), false, true, [2]])
    provider.rollback(2)
    expect([provider.mask(), [...accepted]]).toEqual([null, []])
    provider.rollback(3)
    expect([await provider.mask(), provider.accept(1)]).toEqual([Uint32Array.of(0b101), false])
  })
})
