import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { LatheError } from '../../contract/errors.ts'
import { createGrammarEngine } from './grammar-engine.ts'
import { grammarText } from './grammar-source.ts'
import { openingText } from './structural-tag.ts'
import { allowedIds, pieceVocabulary, randomNumbers, sampleAnswer } from './test/schemas.ts'
import { MARKUP, TagJudge, tagFormats } from './test/structural-tags.ts'

const SEED = 20_261_123
const RUNS = Number(process.env['STRUCTURAL_TAGS'] ?? 100)
const model = pieceVocabulary(MARKUP)
const engine = createGrammarEngine({ tokenizer: model, vocabulary: model.vocabulary, stopTokenIds: model.stopTokenIds })
const ajv = new Ajv2020({ strict: false, validateFormats: false })

afterAll(() => engine[Symbol.asyncDispose]())

const tagged = (value: unknown) => ({ type: 'structural_tag', format: value })
const oslo = (name: string) => `<function=${name}>{"city": "Oslo"}</function>`

/** Whether a text, byte by byte, is a whole answer; else at which byte it was refused. */
async function fits(tag: unknown, text: string): Promise<true | 'unfinished' | number> {
  using grammar = await engine.compile({ kind: 'structural-tag', tag, param: 'tag' })
  const matcher = grammar.start()
  try {
    for (const [index, byte] of [...Buffer.from(text)].entries()) if (!matcher.accept(byte)) return index
    return allowedIds((await matcher.mask())!, model.vocabulary).includes(256) || 'unfinished'
  } finally {
    matcher.dispose?.()
  }
}

/** The place and the words of a refusal, which has a hint as well; null = it is a grammar. */
function refusalOf(make: () => unknown): readonly [unknown, string] | null {
  try {
    make()
    return null
  } catch (error) {
    if (!(error instanceof LatheError) || error.code !== 'runtime.invalid-request' || !/\w.*\.$/.test(error.hint)) throw error
    return [error.data?.['param'], error.message]
  }
}

const refusal = (tag: unknown) => refusalOf(() => grammarText({ kind: 'structural-tag', tag, param: 'tag' }))

test(`answers sampled through the mask fit their structural tag, says a judge that knows no grammar (seed ${SEED})`, async () => {
  const judge = new TagJudge(ajv)
  const next = randomNumbers(SEED)
  const tally = { refused: 0, ended: 0, tagged: 0 }
  for (const format of fc.sample(tagFormats, { numRuns: RUNS, seed: SEED })) {
    const tag = { type: 'structural_tag', format }
    if (refusal(tag) !== null) {
      tally.refused++
      continue
    }
    using held = await engine.compile({ kind: 'structural-tag', tag, param: 'tag' })
    for (let round = 0; round < 2; round++) {
      const answer = await sampleAnswer(held, model, next, 300, { stopChance: 0.1, closing: /^["}\]<`[]|^stop|^[xy]>|^本>/ })
      if (!answer.ended) continue
      tally.ended++
      if (/<f=|<a|\[\[/.test(answer.text)) tally.tagged++
      expect(judge.accepts(format, answer.text), `${JSON.stringify(format)}\n${JSON.stringify(answer.text)}`).toBe(true)
    }
  }
  expect([tally.refused < RUNS / 5, tally.ended > 1.5 * RUNS, tally.tagged > 0.5 * RUNS]).toEqual([true, true, true])
})

test('the judge can tell: answers with something else in a tag, after it or instead of it do not fit', () => {
  const judge = new TagJudge(ajv)
  const body = { type: 'json_schema', json_schema: { type: 'integer', minimum: 5 } }
  const format = {
    type: 'triggered_tags',
    triggers: ['<f='],
    tags: [{ type: 'tag', begin: '<f=x>', content: body, end: '</f>' }],
    excludes: ['no'],
  }
  const texts = ['', 'a <f=x>7</f> b', '<f=x>7</f><f=x>8</f>', '<f=x>4</f>', '<f=y>7</f>', '<f=x>7', 'a no b', '<f=']
  expect(texts.map((text) => judge.accepts(format, text))).toEqual([true, true, true, false, false, false, false, false])
})

describe('what XGrammar’s documentation says of each format', () => {
  const city = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }
  const tag = (name: string, schema: unknown = city) => ({
    type: 'tag',
    begin: `<function=${name}>`,
    content: { type: 'json_schema', json_schema: schema },
    end: '</function>',
  })
  const triggered = { type: 'triggered_tags', triggers: ['<function='], tags: [tag('a'), tag('b')] }
  const item = { type: 'const_string', value: 'ab' }
  const think = { type: 'tag', begin: '<think>', content: { type: 'any_text' }, end: '</think>' }

  test.each<[object, string, true | 'unfinished' | number]>([
    [triggered, `Calling. ${oslo('a')} and ${oslo('b')}.`, true],
    [triggered, 'nothing < to <fun see', true],
    [triggered, '<function=', 'unfinished'],
    [triggered, '<function=c', 10],
    [triggered, '<<function=a>{"city": 3', 22],
    [{ ...triggered, at_least_one: true }, `${oslo('a')} then text`, true],
    [{ ...triggered, at_least_one: true }, 'text', 0],
    [{ ...triggered, stop_after_first: true }, `text ${oslo('a')}`, true],
    [{ ...triggered, stop_after_first: true }, `${oslo('a')}.`, oslo('a').length],
    [{ ...triggered, stop_after_first: true }, 'text', true],
    [{ ...triggered, at_least_one: true, stop_after_first: true }, oslo('b'), true],
    [{ ...triggered, excludes: ['</end>'] }, 'a </end>', 7],
    [think, '<think>a </thin <think></think>', true],
    [think, '<think>a</think>b', 16],
    [{ ...think, end: ['</think>', '```'] }, '<think>``````', 10],
    [{ ...think, end: ['</a>', '</a>\n'] }, '<think>x</a>\n', true],
    [{ ...think, end: ['</a>', '</a>\n'] }, '<think>x</a>', true],
    [{ ...think, content: { type: 'any_text', excludes: ['<f', '</think>'] } }, '<think>a <f', 10],
    [{ type: 'sequence', elements: [think, triggered] }, `<think>hm</think>Well: ${oslo('a')}`, true],
    [
      {
        type: 'sequence',
        elements: [
          { type: 'const_string', value: 'Answer: ' },
          { type: 'json_schema', json_schema: true },
        ],
      },
      'Answer: [1]',
      true,
    ],
    [{ type: 'or', elements: [item, { type: 'regex', pattern: '[0-9]{3}-[A-Z]' }] }, '123-A', true],
    [{ type: 'optional', content: item }, '', true],
    [{ type: 'plus', content: item }, '', 'unfinished'],
    [{ type: 'plus', content: item }, 'abab', true],
    [{ type: 'star', content: { type: 'optional', content: item } }, 'abababab', true],
    [{ type: 'repeat', min: 1, max: 2, content: item }, 'ababab', 4],
    [{ type: 'repeat', min: 2, max: -1, content: item }, 'ababab', true],
    [{ type: 'tags_with_separator', separator: ',', tags: [tag('a'), tag('b')] }, `${oslo('a')},${oslo('b')},${oslo('a')}`, true],
    [{ type: 'tags_with_separator', separator: ',', tags: [tag('a')] }, '', true],
    [{ type: 'tags_with_separator', separator: ',', tags: [tag('a')], at_least_one: true }, '', 'unfinished'],
    [{ type: 'tags_with_separator', separator: ',', tags: [tag('a')], stop_after_first: true }, `${oslo('a')},`, oslo('a').length],
    [{ type: 'grammar', grammar: 'root ::= yes | "no" # either\nyes ::= "yes" [!]*' }, 'yes!!', true],
    [{ ...think, content: { type: 'dispatch', rules: [['<f>', item]], excludes: ['bad'] } }, '<think>t <f>ab ba</think>', true],
    [{ ...think, content: { type: 'dispatch', rules: [['<f>', item]], excludes: ['bad'] } }, '<think>bad', 9],
    [{ type: 'dispatch', rules: [['<f>', item]], loop: false }, 'x<f>ab.', 6],
    [{ ...think, begin: '<｜日｜>', end: '</｜日｜>' }, '<｜日｜>é日</日', 18],
    [{ ...think, begin: '<｜日｜>', end: '</｜日｜>' }, '<｜日｜>é日 </x></｜日｜>', true],
  ])('%j: %s → %s', async (format, text, expected) => {
    expect(await fits({ type: 'structural_tag', format }, text)).toBe(expected)
  })

  test('the text that an answer begins with', () => {
    expect(
      [triggered, think, { type: 'sequence', elements: [think, triggered] }, item, null].map((one) => openingText(tagged(one))),
    ).toEqual([null, '<think>', '<think>', 'ab', null])
  })

  test('the older shape, with schemas as objects or as text', async () => {
    const structures = [
      { begin: '<function=a>', schema: city, end: '</function>' },
      { begin: '<function=b>', schema: JSON.stringify({ type: 'integer' }), end: '</function>' },
      { begin: '<function=c>', end: '</function>' },
    ]
    const older = { type: 'structural_tag', structures, triggers: ['<function='] }
    const text = `Well, ${oslo('a')}<function=b>7</function> or <function=c>null</function>`
    expect([
      await fits(older, text),
      await fits({ structures, triggers: ['<function='] }, text),
      await fits(older, '<function=b>"'),
    ]).toEqual([true, true, 12])
    expect(await fits({ ...older, at_least_one: true }, 'Well')).toBe(0)
  })
})

describe('refusals name the place and say what is understood', () => {
  const any = { type: 'any_text' }
  const tag = { type: 'tag', begin: '<a>', content: any, end: '</a>' }
  const triggered = { type: 'triggered_tags', triggers: ['<a'], tags: [tag] }
  test.each<[unknown, string, string]>([
    ['x', 'tag', 'is a string'],
    [{}, 'tag.format', 'missing'],
    [{ type: 'json_schema', format: any }, 'tag.type', 'json_schema'],
    [tagged({ type: 'token', token: 3 }), 'tag.format.type', 'single tokens'],
    [tagged({ type: 'any_tokens' }), 'tag.format.type', 'single tokens'],
    [tagged({ type: 'qwen_xml_parameter', json_schema: true }), 'tag.format.type', 'XML'],
    [tagged({ type: 'json_schema', json_schema: true, style: 'qwen_xml' }), 'tag.format.style', 'qwen_xml'],
    [tagged({ type: 'json_schema', json_schema: true, any_order: true }), 'tag.format.any_order', 'order'],
    [tagged({ type: 'json_schema', json_schema: { type: 'array', uniqueItems: true } }), 'tag.format.json_schema', '#/uniqueItems'],
    [tagged({ type: 'any_text', max_tokens: 3 }), 'tag.format.max_tokens', 'max_tokens'],
    [tagged({ type: 'nothing' }), 'tag.format.type', 'no known format'],
    [tagged({ type: 'sequence', elements: [] }), 'tag.format.elements', 'lists 0'],
    [tagged({ type: 'or', elements: [any, { type: 'regex', pattern: '(' }] }), 'tag.format.elements.1.pattern', 'pattern'],
    [tagged({ type: 'grammar', grammar: 'root ::= other' }), 'tag.format.grammar', '"other"'],
    [tagged({ type: 'grammar', grammar: 'a ::= "b"' }), 'tag.format.grammar', 'root'],
    [tagged({ type: 'grammar', grammar: 'root ::= "b' }), 'tag.format.grammar', 'never closes'],
    [tagged({ type: 'grammar', grammar: 'root ::= "b" (= "c")' }), 'tag.format.grammar', 'looks ahead'],
    [tagged({ ...tag, end: { type: 'token', token: 3 } }), 'tag.format.end', 'a token'],
    [tagged({ ...tag, content: { ...tag, begin: 3 } }), 'tag.format.content.begin', 'a number'],
    [tagged({ type: 'const_string', value: '\ud800' }), 'tag.format.value', 'half a character'],
    [tagged({ ...triggered, tags: [tag, { ...tag, begin: '<b>' }] }), 'tag.format.tags.1.begin', 'No trigger'],
    [tagged({ ...triggered, triggers: ['<a', '<a>'] }), 'tag.format.tags.0.begin', '2 triggers'],
    [tagged({ ...triggered, triggers: ['<a', '<b'] }), 'tag.format.triggers.1', 'No tag'],
    [tagged({ ...triggered, triggers: [''] }), 'tag.format.triggers.0', 'empty'],
    [tagged({ ...triggered, excludes: ['<'] }), 'tag.format', 'never come'],
    [tagged({ ...triggered, extra: 1 }), 'tag.format.extra', 'extra'],
    [
      tagged({ ...tag, content: { ...triggered, triggers: ['</a'], tags: [{ ...tag, begin: '</ab' }] } }),
      'tag.format.content',
      'never come',
    ],
    [tagged({ ...tag, end: '日' }), 'tag.format.content', 'beyond ASCII'],
    [tagged({ type: 'repeat', min: 3, max: 2, content: any }), 'tag.format.max', '2'],
    [{ structures: [{ begin: '<a>', schema: '{', end: '</a>' }], triggers: ['<a'] }, 'tag.structures.0.schema', 'not JSON'],
    [{ structures: [{ begin: '<a>', end: '</a>' }] }, 'tag.triggers', 'missing'],
  ])('%j: %s', (wrong, param, message) => {
    expect(refusal(wrong)).toEqual([param, expect.stringContaining(message)])
  })

  test('a format nested without end, and lists without end', () => {
    let deep: object = any
    for (let depth = 0; depth < 5000; depth++) deep = { type: 'optional', content: deep }
    expect(refusal(tagged(deep))).toEqual([expect.stringMatching(/^tag\.format\.content/), expect.stringContaining('64 deep')])
    const many = {
      type: 'or',
      elements: Array.from({ length: 256 }, () => ({ type: 'or', elements: Array.from({ length: 17 }, () => any) })),
    }
    expect(refusal(tagged(many))).toEqual([expect.stringMatching(/^tag\.format/), expect.stringContaining('4096 formats')])
  })

  test(`anything that is sent is a grammar or a refusal with a place (seed ${SEED})`, () => {
    const words =
      'structural_tag format type triggers tags structures begin end content value elements excludes json_schema rules grammar'.split(' ')
    const kinds = [
      'tag',
      'triggered_tags',
      'any_text',
      'sequence',
      'or',
      'repeat',
      'dispatch',
      'regex',
      'grammar',
      'const_string',
      'json_schema',
      'token',
    ]
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { depthSize: 'small' },
        fc.constantFrom(...kinds, '', '<a>', 'root ::= "', null, 3, true),
        fc.string(),
        fc.array(tie('value'), { maxLength: 3 }),
        fc.dictionary(fc.constantFrom(...words), tie('value'), { maxKeys: 5 }),
        fc
          .record({ type: fc.constantFrom(...kinds) })
          .chain((typed) => fc.dictionary(fc.constantFrom(...words), tie('value')).map((rest) => ({ ...rest, ...typed }))),
      ),
    }))
    const mutilated = fc.tuple(tagFormats, fc.nat(), value).map(([whole, seed, other]) => {
      const keys = JSON.stringify(whole).match(/"\w+":/g) ?? []
      const key = keys[seed % keys.length]?.slice(1, -2)
      return JSON.parse(JSON.stringify(whole), (name, part: unknown) => (name === key ? other : part)) as unknown
    })
    fc.assert(
      fc.property(fc.oneof(value, mutilated), fc.boolean(), (sent, wrapped) => {
        const [param, message] = refusal(wrapped ? tagged(sent) : sent) ?? ['tag', 'A grammar.']
        expect([param, message]).toEqual([expect.stringMatching(/^tag/), expect.stringMatching(/\w.*\.$/s)])
      }),
      { seed: SEED, numRuns: 1500 },
    )
  })
})
