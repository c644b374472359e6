import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { createGrammarEngine } from './grammar-engine.ts'
import type { StructuredOutput } from './grammar-source.ts'
import { allowedIds, pieceVocabulary, randomNumbers, sampleAnswer, schemas } from './test/schemas.ts'

const SEED = 20_261_123
const model = pieceVocabulary()
const engine = createGrammarEngine({ tokenizer: model, vocabulary: model.vocabulary, stopTokenIds: model.stopTokenIds })
const next = randomNumbers(SEED)

afterAll(() => engine[Symbol.asyncDispose]())

async function sample(output: StructuredOutput, maxTokens = 400): Promise<string> {
  using grammar = await engine.compile(output)
  const answer = await sampleAnswer(grammar, model, next, maxTokens)
  expect(answer.ended).toBe(true)
  return answer.text
}

async function refusal(output: StructuredOutput): Promise<unknown> {
  return engine.compile(output).then(
    () => null,
    (error: unknown) => ({ code: (error as { code: string }).code, message: (error as Error).message }),
  )
}

test(`answers sampled through the mask validate against their schema, by another's validator (seed ${SEED})`, async () => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false })
  let ended = 0
  for (const schema of fc.sample(schemas, { numRuns: 80, seed: SEED })) {
    using grammar = await engine.compile({ kind: 'json-schema', schema })
    for (let round = 0; round < 2; round++) {
      const answer = await sampleAnswer(grammar, model, next, 400)
      if (!answer.ended) continue
      ended++
      const valid = ajv.validate(schema, JSON.parse(answer.text))
      expect(valid, `${JSON.stringify(schema)}\n${answer.text}\n${JSON.stringify(ajv.errors)}`).toBe(true)
    }
  }
  expect(ended).toBeGreaterThan(150)
})

test('the validator can tell: the same answers fail a schema that differs in a bound', async () => {
  const ajv = new Ajv2020({ strict: false })
  const text = await sample({ kind: 'json-schema', schema: { type: 'integer', minimum: 100, maximum: 199 } })
  expect([ajv.validate({ minimum: 100, maximum: 199 }, JSON.parse(text)), ajv.validate({ minimum: 200 }, JSON.parse(text))]).toEqual([
    true,
    false,
  ])
})

describe('forms', () => {
  test.each([
    '[a-f]{2,4}(-[0-9]+)?',
    '(yes|no|maybe)!*',
    '[^\\d\\s]{3}',
    '\\x41\\u00e9?b',
    '^start(?:ed)?$',
    '[A-Z][^A-Z]{0,5}\\.',
    '日本|[éü]x',
  ])('a regular expression is matched whole: %s', async (pattern) => {
    for (let round = 0; round < 4; round++) expect(await sample({ kind: 'regex', pattern })).toMatch(new RegExp(`^(?:${pattern})$`, 'u'))
  })

  test('a choice is one of its texts', async () => {
    const choices = ['red', 'green "light"', 'blau\n', '日']
    for (let round = 0; round < 5; round++) expect(choices).toContain(await sample({ kind: 'choice', choices }))
  })

  test('JSON mode gives an object', async () => {
    const value: unknown = JSON.parse(await sample({ kind: 'json' }, 4000))
    expect([typeof value, Array.isArray(value)]).toEqual(['object', false])
  })

  test('a grammar of the client’s own', async () => {
    expect(await sample({ kind: 'grammar', ebnf: 'root ::= "a" item{2} "z"\nitem ::= "1" | "2"' })).toMatch(/^a[12]{2}z$/)
  })

  test('texts and values in order, for tool calls', async () => {
    const call = {
      kind: 'sequence',
      parts: [
        { kind: 'text', text: '<call>' },
        { kind: 'json', schema: { const: 7 } },
      ],
    } as const
    expect(await sample({ kind: 'form', form: { kind: 'repeated', part: call, least: 2, most: 2 } })).toBe('<call>7<call>7')
  })
})

describe('refusals name what cannot be enforced', () => {
  test.each<[unknown, string]>([
    [{ type: 'array', items: {}, uniqueItems: true }, '#/uniqueItems'],
    [{ type: 'object', properties: { a: { type: 'number', multipleOf: 3 } } }, '#/properties/a/multipleOf'],
    [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, '#/oneOf'],
    [{ allOf: [{ type: 'string' }, { type: 'string' }] }, '#/allOf'],
    [{ not: { type: 'string' } }, '#/not'],
    [{ minimum: 3 }, '#/minimum'],
    [{ type: 'string', pattern: 'a', maxLength: 3 }, '#'],
    [{ type: 'string', format: 'color' }, '#/format'],
    [{ $ref: '#/$defs/none' }, '#/$ref'],
    [{ $ref: '#' }, '#/$ref'],
    [{ $defs: { a: { anyOf: [{ $ref: '#/$defs/a' }, { type: 'null' }] } }, $ref: '#/$defs/a' }, '$ref'],
    [{ type: 'object', properties: {}, required: ['x'] }, '#/required'],
    [{ type: 'integer', minimum: 2, maximum: 1 }, '#'],
    [{ type: 'text' }, '#/type'],
    [false, '#'],
    [{ enum: [1, 2], type: 'string' }, '#/enum'],
  ])('%j at %s', async (schema, path) => {
    expect(await refusal({ kind: 'json-schema', schema })).toEqual({
      code: 'runtime.invalid-request',
      message: expect.stringContaining(`${path} `),
    })
  })

  test.each(['a(?=b)', '(a', 'a**', '\\1', '[z-a]', 'a{3,1}', 'x\\b', ''])('the pattern %j', async (pattern) => {
    expect(await refusal({ kind: 'regex', pattern })).toMatchObject({ code: 'runtime.invalid-request' })
  })

  test('a grammar that is none, with the place; and the thread goes on', async () => {
    expect(await refusal({ kind: 'grammar', ebnf: 'root ::= missing' })).toEqual({
      code: 'runtime.invalid-request',
      message: `The answer's form can't be enforced: EBNF parser error at line 1, column 10: Rule "missing" is not defined`,
    })
    expect(await sample({ kind: 'choice', choices: ['still here'] })).toBe('still here')
  })
})

describe('masks', () => {
  test('hold neither special tokens, nor padding, nor the end before it may come', async () => {
    using grammar = await engine.compile({ kind: 'regex', pattern: '[^x]{1,2}' })
    const matcher = grammar.start()
    const first = allowedIds((await matcher.mask())!, model.vocabulary)
    expect({
      x: first.includes(120),
      end: first.includes(256),
      special: first.includes(257),
      padding: first.some((id) => id >= model.vocabSize),
    }).toEqual({
      x: false,
      end: false,
      special: false,
      padding: false,
    })
    expect([matcher.accept(97), matcher.accept(120), matcher.accept(98)]).toEqual([true, false, true])
    expect(allowedIds((await matcher.mask())!, model.vocabulary)).toEqual([256])
    matcher.rollback(1)
    expect(allowedIds((await matcher.mask())!, model.vocabulary)).toContain(256)
    matcher.dispose?.()
  })

  test('two answers of one grammar know nothing of each other', async () => {
    using grammar = await engine.compile({ kind: 'choice', choices: ['ab', 'cd'] })
    const [one, two] = [grammar.start(), grammar.start()]
    expect([one.accept(97), two.accept(99)]).toEqual([true, true])
    expect([allowedIds((await one.mask())!, 300), allowedIds((await two.mask())!, 300)]).toEqual([[98], [100]])
    one.dispose?.()
    two.dispose?.()
  })

  test('a grammar that takes too long is refused, and another one is not held up by it', async () => {
    await using hurried = createGrammarEngine({ tokenizer: model, vocabulary: model.vocabulary, stopTokenIds: [256], compileLimitMs: 1 })
    await expect(hurried.compile({ kind: 'regex', pattern: '([a-z]{1,200}x){1,60}' })).rejects.toThrow(/took over 0.001 s/)
    using other = await engine.compile({ kind: 'choice', choices: ['fine'] })
    expect((await sampleAnswer(other, model, next, 10)).text).toBe('fine')
  })

  test('an engine that was closed ends what it follows', async () => {
    const closing = createGrammarEngine({ tokenizer: model, vocabulary: model.vocabulary, stopTokenIds: [256] })
    using grammar = await closing.compile({ kind: 'choice', choices: ['ab'] })
    const matcher = grammar.start()
    await matcher.mask()
    await closing[Symbol.asyncDispose]()
    expect(() => matcher.mask()).toThrow(/closed/)
  })
})
