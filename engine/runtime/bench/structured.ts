/**
 * Structured output at length: thousands of random schemas, each answered several times by a model without opinions, every finished answer checked
 * by an independent validator; the same for structural tags; and what masks cost at real vocabulary sizes.
 * `node engine/runtime/bench/structured.ts [schemas] [seed]`.
 */
import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { createGrammarEngine } from '../structured/grammar-engine.ts'
import type { GrammarEngine } from '../structured/grammar-engine.ts'
import type { StructuredOutput } from '../structured/grammar-source.ts'
import { pieceVocabulary, randomNumbers, sampleAnswer, schemas } from '../structured/test/schemas.ts'
import { MARKUP, TagJudge, tagFormats } from '../structured/test/structural-tags.ts'

const count = Number(process.argv[2] ?? 1000)
const seed = Number(process.argv[3] ?? 1)
const answersEach = 4
/** A model without opinions goes on in a free text for as long as it may: at 500 tokens one answer of 4,000 was cut off, not stuck. */
const MOST_TOKENS = 10_000

async function validity(): Promise<void> {
  const model = pieceVocabulary()
  await using engine = createGrammarEngine({ tokenizer: model, vocabulary: model.vocabulary, stopTokenIds: model.stopTokenIds })
  const ajv = new Ajv2020({ strict: false, validateFormats: false })
  const next = randomNumbers(seed)
  const tally = { schemas: 0, refused: 0, valid: 0, invalid: 0, unfinished: 0 }
  for (const schema of fc.sample(schemas, { numRuns: count, seed })) {
    tally.schemas++
    const grammar = await engine.compile({ kind: 'json-schema', schema }).catch(() => null)
    if (grammar === null) {
      tally.refused++
      continue
    }
    using held = grammar
    for (let round = 0; round < answersEach; round++) {
      const answer = await sampleAnswer(held, model, next, MOST_TOKENS)
      if (!answer.ended) tally.unfinished++
      else if (ajv.validate(schema, JSON.parse(answer.text))) tally.valid++
      else {
        tally.invalid++
        console.log('INVALID', JSON.stringify(schema), answer.text)
      }
    }
  }
  console.log(`seed ${seed}`, tally)
}

async function tagValidity(): Promise<void> {
  const model = pieceVocabulary(MARKUP)
  await using engine = createGrammarEngine({ tokenizer: model, vocabulary: model.vocabulary, stopTokenIds: model.stopTokenIds })
  const judge = new TagJudge(new Ajv2020({ strict: false, validateFormats: false }))
  const next = randomNumbers(seed)
  const tally = { tags: 0, refused: 0, fitting: 0, wrong: 0, unfinished: 0 }
  for (const format of fc.sample(tagFormats, { numRuns: count, seed })) {
    tally.tags++
    const tag = { type: 'structural_tag', format }
    const grammar = await engine.compile({ kind: 'structural-tag', tag, param: 'tag' }).catch(() => null)
    if (grammar === null) {
      tally.refused++
      continue
    }
    using held = grammar
    for (let round = 0; round < answersEach; round++) {
      // Longer ones tell no more, and judging them takes time in the square of their length.
      const answer = await sampleAnswer(held, model, next, 500, { stopChance: 0.1, closing: /^["}\]<`[]|^stop|^[xy]>|^本>/ })
      if (!answer.ended) tally.unfinished++
      else if (judge.accepts(format, answer.text)) tally.fitting++
      else {
        tally.wrong++
        console.log('WRONG', JSON.stringify(format), JSON.stringify(answer.text))
      }
    }
  }
  console.log(`seed ${seed}, structural tags`, tally)
}

/** A vocabulary of random lower-case pieces, as large as a real one. */
async function cost(vocabulary: number): Promise<void> {
  const base = pieceVocabulary()
  const random = randomNumbers(7)
  const pieces = Array.from({ length: vocabulary - base.vocabSize }, () =>
    Buffer.from(Array.from({ length: 2 + Math.floor(random() * 7) }, () => 97 + Math.floor(random() * 26))),
  )
  const bytesOf = (id: number): Uint8Array => (id < base.vocabSize ? base.bytesOf(id) : (pieces[id - base.vocabSize] ?? new Uint8Array(0)))
  const model = { ...base, vocabulary, vocabSize: vocabulary, tokenBytes: bytesOf, bytesOf }
  await using engine = createGrammarEngine({ tokenizer: model, vocabulary, stopTokenIds: [256] })
  console.log(`vocabulary ${vocabulary}, the first grammar with the thread`)
  const schema = {
    type: 'object',
    properties: { name: { type: 'string' }, age: { type: 'integer', minimum: 0 }, tags: { type: 'array', items: { enum: ['a', 'b'] } } },
    required: ['name', 'age', 'tags'],
  }
  const json = '{"name": "some name of a person", "age": 1234, "tags": ["a", "b"]}'
  const structures = Array.from({ length: 8 }, (_, index) => ({ begin: `<function=f${index}>`, schema, end: '</function>' }))
  const tag = { structures, triggers: ['<function='] }
  const tagged = `${'some words before that < this '.repeat(4)}<function=f3>${json}</function> and more`
  await costOf(engine, 'schema', { kind: 'json-schema', schema }, json)
  await costOf(engine, 'tags of 8 functions', { kind: 'structural-tag', tag, param: 'tag' }, tagged)
}

async function costOf(engine: GrammarEngine, name: string, output: StructuredOutput, sample: string): Promise<void> {
  const started = performance.now()
  using grammar = await engine.compile(output)
  const compileMs = performance.now() - started
  const times: number[] = []
  for (let round = 0; round < 20; round++) {
    const matcher = grammar.start()
    await matcher.mask()
    for (const id of Buffer.from(sample)) {
      const before = performance.now()
      if (!matcher.accept(id)) throw new Error('the sample does not fit')
      await matcher.mask()
      times.push(performance.now() - before)
    }
    matcher.dispose?.()
  }
  times.sort((a, b) => a - b)
  const at = (share: number): string => (times[Math.floor(share * (times.length - 1))] ?? 0).toFixed(3)
  console.log(`  ${name}: compiled in ${compileMs.toFixed(0)} ms, mask p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, max ${at(1)} ms`)
}

await validity()
await tagValidity()
for (const vocabulary of [4096, 32_000, 128_256]) await cost(vocabulary)
