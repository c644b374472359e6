import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { answerChoiceTask, parseChoiceTask, scoreChoiceTask, tokenizeChoice } from './choice-task.ts'
import { createTableRuntime } from './test/table-runtime.ts'

/** One token per byte. */
const codec = { encode: (text: string) => Uint32Array.from(Buffer.from(text)), bosTokenId: 0, eosTokenId: null }
/** p(next | previous) prefers the letter after the previous one: "b" after "a". */
const successor = createTableRuntime(
  'successor',
  (previous) => Array.from({ length: 256 }, (_, next) => (next === previous + 1 ? 0.5 : 0.5 / 255)),
  256,
)
const jsonl = (items: unknown[]): string => items.map((item) => JSON.stringify(item)).join('\n')

describe('multiple choice', () => {
  test('picks the choice with the highest sum of log-probabilities', async () => {
    const task = parseChoiceTask(
      'letters',
      'Letters',
      jsonl([
        { query: 'a', choices: ['x', 'bc', 'q'], gold: 1 },
        { query: 'k', choices: ['l', 'z'], gold: 1 },
      ]),
      null,
    )
    const answers = await answerChoiceTask(successor, codec, task)
    // "bc" scores 2·ln 0.5 = −1.39 against −6.2 of one unlikely letter: a sum, not a mean, and more tokens may still win.
    expect(answers).toMatchObject({ chosen: [1, 0], right: [true, false] })
    expect(answers.margins[0]).toBeCloseTo(2 * Math.log(0.5) - Math.log(0.5 / 255), 4)
    expect(answers.margins[1]).toBeCloseTo(Math.log(0.5 / 255) - Math.log(0.5), 4)
  })

  test('accuracy, interval, chance and the paired comparison', () => {
    const task = parseChoiceTask('t', 'T', jsonl(Array.from({ length: 10 }, () => ({ query: 'a', choices: ['b', 'c'], gold: 0 }))), null)
    const answersWith = (right: boolean[]) => ({ task, right, chosen: right.map(Number), margins: right.map(() => 0), scores: [] })
    const baseline = answersWith(Array.from({ length: 10 }, (_, i) => i < 8))
    const candidate = answersWith(Array.from({ length: 10 }, (_, i) => i < 7))
    const result = scoreChoiceTask(candidate, { id: 'base', answers: baseline })
    expect(result).toMatchObject({ value: 0.7, n: 10, chance: 0.5, paired: { baselineId: 'base', lost: 1, gained: 0 } })
    expect(result.paired!.recovery).toBeCloseTo(0.875, 12)
    expect(result.paired!.difference).toBeCloseTo(-0.1, 12)
    expect(scoreChoiceTask(baseline, null).paired).toBeNull()
  })

  test('answers to other items are not compared', () => {
    const one = parseChoiceTask('t', 'T', jsonl([{ query: 'a', choices: ['b', 'c'], gold: 0 }]), null)
    const two = parseChoiceTask('t', 'T', jsonl([{ query: 'a', choices: ['b', 'd'], gold: 0 }]), null)
    const answersOf = (task: typeof one) => ({ task, right: [true], chosen: [0], margins: [0] })
    expect(() => scoreChoiceTask(answersOf(one), { id: 'x', answers: answersOf(two) })).toThrow(/answered/)
  })

  test('every item is answered once, in its place, whatever finishes first; progress counts up', async () => {
    const items = Array.from({ length: 30 }, (_, i) => ({
      query: 'a',
      choices: i % 3 === 0 ? ['x', 'b'] : ['b', 'x'],
      gold: i % 3 === 0 ? 1 : 0,
    }))
    const task = parseChoiceTask('t', 'T', jsonl(items), null)
    const progress: number[] = []
    const answers = await answerChoiceTask(successor, codec, task, { onProgress: (done) => progress.push(done) })
    expect(answers.chosen).toEqual(items.map(({ gold }) => gold))
    expect(progress).toEqual(Array.from({ length: 30 }, (_, i) => i + 1))
  })

  test('an item longer than the context is refused, not cut', async () => {
    const short = createTableRuntime('short', () => Array.from({ length: 256 }, () => 1 / 256), 256, 4)
    const task = parseChoiceTask('t', 'T', jsonl([{ query: 'abcdef', choices: ['b', 'c'], gold: 0 }]), null)
    await expect(answerChoiceTask(short, codec, task)).rejects.toMatchObject({ code: 'runtime.context-exceeded' })
  })

  test('reads the public question layout, string answers and a limit', () => {
    const task = parseChoiceTask(
      'q',
      'Q',
      `\n${jsonl([
        { question: 'Sky?', choices: ['blue', 'red'], answer: 'red' },
        { question: 'x', choices: ['1', '2'], label: 0 },
      ])}\n`,
      1,
    )
    expect(task.items).toEqual([{ query: 'Question: Sky?\nAnswer:', choices: [' blue', ' red'], gold: 1 }])
  })
})

describe('tokenization of a choice', () => {
  test('spaces at the end of the query belong to the continuation', () => {
    const { tokens, from } = tokenizeChoice(codec, 'ab  ', 'c')
    expect([Buffer.from(tokens.subarray(0, from)).toString(), Buffer.from(tokens.subarray(from)).toString()]).toEqual(['ab', '  c'])
  })

  test('an empty query is scored after the prefix token', () => {
    const { tokens, from } = tokenizeChoice(codec, '', 'c')
    expect([[...tokens], from]).toEqual([[0, 99], 1])
  })
})

describe('task files are checked line by line', () => {
  test.each([
    ['{', /line 1: not valid JSON/],
    ['[]', /not a JSON object/],
    ['{"choices":["a","b"],"gold":0}', /no text under "query"/],
    ['{"query":"a","choices":["b"],"gold":0}', /"choices" must be/],
    ['{"query":"a","choices":["b",1],"gold":0}', /"choices" must be/],
    ['{"query":"a","choices":["b","c"],"gold":2}', /not one of the 2 choices/],
    ['{"query":"a","choices":["b","c"],"gold":"d"}', /not one of the 2 choices/],
    ['\n\n', /holds no items/],
  ])('%s', (text, message) => {
    expect(() => parseChoiceTask('file', 'File', text, null)).toThrow(message)
  })

  test('any text gives items or a LatheError (seed 5)', () => {
    const line = fc.oneof(
      fc.string(),
      fc.json(),
      fc.record({ query: fc.string(), choices: fc.array(fc.string()), gold: fc.integer() }).map((item) => JSON.stringify(item)),
    )
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        let outcome: unknown
        try {
          outcome = parseChoiceTask('f', 'F', lines.join('\n'), null).items.length
        } catch (error) {
          outcome = error
        }
        expect(outcome instanceof LatheError || Number(outcome) > 0).toBe(true)
      }),
      { seed: 5, numRuns: 500 },
    )
  })
})
