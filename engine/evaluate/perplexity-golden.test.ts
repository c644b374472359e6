/**
 * Perplexity of trained models on real text against figures made elsewhere (test/golden/perplexity.py: numpy in float64 and the `tokenizers` package).
 * Slices of the texts, which take seconds; the whole texts are bench/perplexity-whole.ts's, its table is in docs/evaluation.md.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { createReferenceBackend } from '../gpu/reference/backend.ts'
import { openRuntime } from '../runtime/open-runtime.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import { measureDrift, measurePerplexity } from './perplexity.ts'
import { scorePair } from '../runtime/pair.ts'
import { createLocalTarget } from './tasks/local-target.ts'
import { openTaskFile } from './tasks/open-tasks.ts'
import { PLAIN_PROMPTS } from './tasks/prompts.ts'
import { loadDocuments, runTask } from './tasks/run-task.ts'
import { scoreTask, taskResults } from './tasks/score-task.ts'

interface Figure {
  readonly model: string
  readonly text: 'slice' | 'whole'
  readonly characters: number
  readonly protocol: 'rolling' | 'gptq' | 'llamacpp'
  readonly window: number
  readonly tokens: number
  readonly bytes: number
  readonly perplexity: number
  readonly bits_per_byte: number
}

const root = join(import.meta.dirname, '../..')
const data = join(root, '../shared/data')
const { figures } = JSON.parse(readFileSync(join(import.meta.dirname, 'test/golden/perplexity.json'), 'utf8')) as {
  readonly figures: readonly Figure[]
}

const SUBJECTS = {
  stories260k: { folder: join(data, 'models/stories260k'), text: join(data, 'text/tinystories.txt') },
  'tinystories-656k': { folder: join(data, 'models/tinystories-656k'), text: join(data, 'text/tinystories.txt') },
  'demo-model': { folder: join(root, 'assets/demo-model'), text: join(root, 'assets/demo-eval/perplexity.txt') },
} as const

const backend = createReferenceBackend()
afterAll(() => backend[Symbol.asyncDispose]())

describe.each(Object.entries(SUBJECTS))('%s', (name, { folder, text }) => {
  const wanted = figures.filter((figure) => figure.model === name && figure.text === 'slice')
  const missing = [folder, text].find((path) => !existsSync(path))
  if (missing !== undefined) process.stderr.write(`perplexity-golden.test.ts skips ${name}: ${missing} is not there\n`)

  test.skipIf(missing !== undefined)(
    'has the reference’s perplexity and bits per byte under all three protocols, to 5 digits',
    async () => {
      const codec = await loadTokenizer(folder)
      await using runtime = await openRuntime({
        source: folder,
        backend,
        modelId: name,
        contextTokens: 128,
        kvDtype: 'f32',
        tokenizer: codec,
      })
      expect(wanted.map((figure) => figure.protocol)).toEqual(['rolling', 'gptq', 'llamacpp'])
      for (const figure of wanted) {
        const sample = { name, text: Array.from(readFileSync(text, 'utf8')).slice(0, figure.characters).join('') }
        const options = { protocol: figure.protocol, window: figure.window, maxWindows: null }
        const measured = await measurePerplexity(runtime, codec, sample, options)
        expect([measured.tokens, measured.bytes]).toEqual([figure.tokens, figure.bytes])
        expect(measured.value! / figure.perplexity).toBeCloseTo(1, 5)
        expect(measured.bitsPerByte! / figure.bits_per_byte).toBeCloseTo(1, 5)
      }
    },
  )
})

const renderChat = (): string => ''

test('a model against itself: no divergence, every top token alike, no change of perplexity, recovery 100 %', async () => {
  const { folder, text } = SUBJECTS['demo-model']
  const codec = await loadTokenizer(folder)
  await using runtime = await openRuntime({ source: folder, backend, modelId: 'demo', contextTokens: 64, kvDtype: 'f32', tokenizer: codec })
  const sample = { name: 'demo', text: readFileSync(text, 'utf8').slice(0, 200) }
  const pair = { baseline: runtime, candidate: runtime, scorePair, baselineId: 'demo' }
  const { drift } = await measureDrift(pair, codec, sample, { protocol: 'rolling', window: 32, maxWindows: 1 })
  expect(drift).toMatchObject({ kldMean: 0, kldMax: 0, top1Agreement: 1, flips: 0, deltaPRms: 0, logPerplexityRatio: 0 })

  const { tasks } = await openTaskFile(join(root, 'assets/demo-eval/arithmetic.jsonl'))
  const run = async () => {
    const target = createLocalTarget({
      name: 'demo',
      runtime,
      codec: {
        encode: (part, options) => codec.encode(part, options),
        bosTokenId: codec.bosTokenId,
        eosTokenId: codec.eosTokenId,
        decode: (ids) => codec.decode(ids, { skipSpecialTokens: false }),
        renderChat,
      },
      modelFingerprint: 'demo',
    })
    return scoreTask(await runTask(tasks[0]!, target, await loadDocuments(tasks[0]!, 2, 0), { prompts: PLAIN_PROMPTS, limit: 2 }))
  }
  const before = await run()
  // The second time prompts come from the prefix cache.
  const [accuracy] = taskResults(await run(), { id: 'demo', scored: before }, 0.01)
  expect(accuracy!.value).toBeGreaterThan(0)
  expect(accuracy!.paired).toMatchObject({
    difference: 0,
    recovery: 1,
    changed: 0,
    logLikelihoodDifference: { mean: 0, interval: [0, 0] },
  })
})
