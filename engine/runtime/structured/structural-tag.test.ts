import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { LatheError } from '../../contract/errors.ts'
import { createGrammarEngine } from './grammar-engine.ts'
import { grammarText } from './grammar-source.ts'
import { pieceVocabulary, randomNumbers, sampleAnswer } from './test/schemas.ts'
import { MARKUP, TagJudge, tagFormats } from './test/structural-tags.ts'

const SEED = 20_261_123
const model = pieceVocabulary(MARKUP)
const engine = createGrammarEngine({ tokenizer: model, vocabulary: model.vocabulary, stopTokenIds: model.stopTokenIds })
const ajv = new Ajv2020({ strict: false, validateFormats: false })

afterAll(() => engine[Symbol.asyncDispose]())

const output = (format: unknown) => ({ kind: 'structural-tag', tag: { type: 'structural_tag', format }, param: 'tag' }) as const

test(`answers sampled through the mask fit their structural tag, says a judge that knows no grammar (seed ${SEED})`, async () => {
  const judge = new TagJudge(ajv)
  const next = randomNumbers(SEED)
  const tally = { refused: 0, ended: 0, cut: 0 }
  const kinds = new Set<string>()
  for (const format of fc.sample(tagFormats, { numRuns: Number(process.env['RUNS'] ?? 150), seed: SEED })) {
    const grammar = await engine.compile(output(format)).catch((error: unknown) => {
      expect(error).toMatchObject({ code: 'runtime.invalid-request', data: { param: expect.stringMatching(/^tag\.format/) } })
      return null
    })
    if (grammar === null) {
      tally.refused++
      continue
    }
    using held = grammar
    for (const [, kind] of JSON.stringify(format).matchAll(/"type":"(\w+)"/g)) kinds.add(kind!)
    for (let round = 0; round < 2; round++) {
      const answer = await sampleAnswer(held, model, next, 300, { stopChance: 0.1, closing: /^["}\]<`[]|^stop|^x>|^y>/ })
      if (!answer.ended) tally.cut++
      else {
        tally.ended++
        expect(judge.accepts(format, answer.text), `${JSON.stringify(format)}\n${JSON.stringify(answer.text)}`).toBe(true)
      }
    }
  }
  console.log(tally, kinds)
}, 60000)
