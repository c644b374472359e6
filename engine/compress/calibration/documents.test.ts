/** Reading calibration text: what is understood, and what is refused with which words. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { LatheError } from '../../contract/errors.ts'
import { readDocuments } from './documents.ts'
import { shuffled } from './samples.ts'

const SEED = 20261123
const scratch = mkdtempSync(join(tmpdir(), 'lathe-calibration-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

function file(name: string, text: string): string {
  const path = join(scratch, name)
  writeFileSync(path, text)
  return path
}

describe('documents', () => {
  it('reads texts and conversations of either shape, and skips blank lines', async () => {
    const path = file(
      'mixed.jsonl',
      [
        '{"text": "one"}',
        '',
        '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}',
        '{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}',
      ].join('\r\n'),
    )
    const turns = [
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Hello' },
    ]
    expect(await readDocuments(path, 512)).toEqual({
      truncated: false,
      documents: [
        { kind: 'text', text: 'one' },
        { kind: 'chat', turns },
        { kind: 'chat', turns },
      ],
    })
  })

  it('cuts plain text into passages at line ends', async () => {
    const path = file('book.txt', 'a line of text\n'.repeat(40))
    const { documents } = await readDocuments(path, 16)
    expect(documents.map((document) => ('text' in document ? document.text.length : 0))).toEqual([135, 135, 135, 135, 60])
  })

  it.each([
    ['empty.jsonl', '', 'empty.jsonl is empty.'],
    ['blank.txt', '\n \n', 'blank.txt holds no text.'],
    ['broken.jsonl', '{"text": "a"}\n{"text": ', 'Line 2 of broken.jsonl is not JSON.'],
    ['list.jsonl', '[1]', 'Line 1 of list.jsonl is not an object.'],
    [
      'other.jsonl',
      '{"text": "a"}\n{"prompt": "b", "answer": "c"}',
      'Line 2 of other.jsonl has neither "text" nor "messages" (prompt, answer).',
    ],
    ['turns.jsonl', '{"messages": [{"role": "user"}]}', 'Message 1 on line 1 of turns.jsonl has no role and text.'],
  ])('refuses %s', async (name, text, message) => {
    await expect(readDocuments(file(name, text), 512)).rejects.toMatchObject({ code: 'compress.invalid-calibration', message })
  })

  it('refuses a file that is not there', async () => {
    await expect(readDocuments(join(scratch, 'none.jsonl'), 512)).rejects.toMatchObject({ code: 'compress.invalid-calibration' })
  })

  it(`throws nothing but its own errors (seed ${SEED})`, async () => {
    expect.hasAssertions()
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.json(), fc.string()), async (text) => {
        const outcome = await readDocuments(file('fuzz.jsonl', `${text}\n`), 8).catch((thrown: unknown) => thrown)
        expect(outcome instanceof Error && !(outcome instanceof LatheError)).toBe(false)
      }),
      { seed: SEED, numRuns: 60 },
    )
  })
})

it('shuffles by seed alone, losing nothing', () => {
  const order = shuffled(1000, 7)
  expect(order).toEqual(shuffled(1000, 7))
  expect(order).not.toEqual(shuffled(1000, 8))
  expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i))
})
