/** Structural tags on a real model and a real vocabulary, several answers at once. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createReferenceBackend } from '../../gpu/reference/backend.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import { openRuntime } from '../open-runtime.ts'
import { createGrammarEngine } from './grammar-engine.ts'
import { TagJudge, tagFormats } from './test/structural-tags.ts'

const SEED = 7
/** A forward pass of the reference backend costs ten milliseconds: enough to see that it works; more by hand. */
const RUNS = Number(process.env['STRUCTURAL_TAGS'] ?? 6)
const folder = fileURLToPath(new URL('../../../assets/demo-model', import.meta.url))

describe.skipIf(!existsSync(folder))('the demo model', () => {
  test(`answers in random structural tags fit them, several at once (seed ${SEED})`, async () => {
    const tokenizer = await loadTokenizer(folder)
    await using runtime = await openRuntime({
      source: folder,
      backend: createReferenceBackend(),
      modelId: 'demo',
      contextTokens: 128,
      kvDtype: 'f32',
      fixedTokenBudget: 64,
    })
    const { vocabulary, eosTokenIds, defaultSampling } = runtime.info
    await using engine = createGrammarEngine({ tokenizer, vocabulary, stopTokenIds: eosTokenIds })
    const judge = new TagJudge(new Ajv2020({ strict: false, validateFormats: false }))
    const promptTokens = tokenizer.encode('<f=x>[1, 2]</f> and <f=x>[1, 2]</f> and <a>yes</a>, ', { addSpecialTokens: true })
    const answer = async (format: (typeof formats)[number], seed: number): Promise<string | null> => {
      const tag = { type: 'structural_tag', format }
      const grammar = await engine.compile({ kind: 'structural-tag', tag, param: 'tag' }).catch(() => null)
      if (grammar === null) return null
      using held = grammar
      let text = ''
      const sampling = { ...defaultSampling, temperature: seed % 2 === 0 ? 0 : 1.5, topK: 0, topP: 1, seed }
      for await (const event of runtime.generate({ id: `${seed}`, promptTokens, sampling, maxTokens: 50, mask: held.start() })) {
        if (event.kind === 'tokens') text += event.text
        if (event.kind === 'finished' && event.reason !== 'stop') return null
      }
      return text
    }
    const formats = fc.sample(tagFormats, { numRuns: RUNS, seed: SEED })
    let ended = 0
    for (let at = 0; at < formats.length; at += 2) {
      const pair = formats.slice(at, at + 2)
      const texts = await Promise.all(pair.flatMap((format, index) => [0, 1].map((round) => answer(format, 4 * at + 2 * index + round))))
      for (const [index, text] of texts.entries()) {
        if (text === null) continue
        ended++
        const format = pair[index >> 1]!
        expect(judge.accepts(format, text), `${JSON.stringify(format)}\n${JSON.stringify(text)}`).toBe(true)
      }
    }
    expect(ended).toBeGreaterThan(RUNS)
  })
})
