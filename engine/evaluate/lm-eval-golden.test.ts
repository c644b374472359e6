/**
 * Against lm-eval itself (test/golden/lm-eval, made with 0.4.13 on the demo model in float32): the same task files on the same data give the same
 * prompts, items, answers and figures, digest for digest, and its folder as a baseline is compared item by item.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Runtime } from '../runtime/types.ts'
import { createReferenceBackend } from '../gpu/reference/backend.ts'
import { openRuntime } from '../runtime/open-runtime.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import { compareWithPublished } from './matched-items.ts'
import { publishedRows, readPublishedResults } from './published-results.ts'
import { lmEvalSample } from './results-file.ts'
import { createLocalTarget } from './tasks/local-target.ts'
import { openTaskFile } from './tasks/open-tasks.ts'
import { fewshotCount, PLAIN_PROMPTS } from './tasks/prompts.ts'
import { loadDocuments, runTask } from './tasks/run-task.ts'
import { sampleRows, scoreTask, taskResults } from './tasks/score-task.ts'
import type { ScoredTask } from './tasks/score-task.ts'
import type { EvaluationTarget } from './tasks/target.ts'

const folder = join(import.meta.dirname, 'test/golden/lm-eval')
const published = join(folder, 'published')
const model = join(import.meta.dirname, '../../assets/demo-model')

const backend = createReferenceBackend()
let runtime: Runtime
let target: EvaluationTarget
beforeAll(async () => {
  const codec = await loadTokenizer(model)
  runtime = await openRuntime({ source: model, backend, modelId: 'demo', contextTokens: 256, kvDtype: 'f32', tokenizer: codec })
  target = createLocalTarget({
    name: 'demo',
    runtime,
    codec: {
      encode: (text, options) => codec.encode(text, options),
      bosTokenId: codec.bosTokenId,
      eosTokenId: codec.eosTokenId,
      decode: (ids) => codec.decode(ids, { skipSpecialTokens: false }),
      renderChat: () => '',
    },
    modelFingerprint: 'demo',
  })
})
afterAll(async () => {
  await runtime[Symbol.asyncDispose]()
  await backend[Symbol.asyncDispose]()
})

/** Each task is asked once. */
const runs = new Map<string, Promise<ScoredTask>>()
function run(name: string): Promise<ScoredTask> {
  const known = runs.get(name) ?? ask(name)
  runs.set(name, known)
  return known
}

async function ask(name: string): Promise<ScoredTask> {
  const { tasks } = await openTaskFile(join(folder, `${name}.yaml`))
  const [task] = tasks
  if (task === undefined) throw new Error(`${name}.yaml has no task`)
  const documents = await loadDocuments(task, null, fewshotCount(task, PLAIN_PROMPTS))
  return scoreTask(await runTask(task, target, documents, { prompts: PLAIN_PROMPTS, limit: null }))
}

/** Lines of the samples file, by filter and document. */
function linesOf(task: string): Record<string, unknown>[] {
  const file = readdirSync(published).find((name) => name.startsWith(`samples_${task}_`)) ?? ''
  const lines = readFileSync(join(published, file), 'utf8').trim().split('\n')
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>)
}

/** Text of a log-probability becomes a number of four decimals: float32 elsewhere, float64 here. */
function rounded(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(rounded)
  const number = typeof value === 'string' && /^-\d+\.\d+$/.test(value) ? Number(value) : value
  return typeof number === 'number' ? Number(number.toFixed(3)) : number
}

const order = (lines: readonly Record<string, unknown>[]) =>
  lines.toSorted((a, b) => String(a['filter']).localeCompare(String(b['filter'])) || Number(a['doc_id']) - Number(b['doc_id']))

const shown = ({ arguments: asked, ...line }: Record<string, unknown>) => ({
  ...Object.fromEntries(Object.entries(line).map(([key, value]) => [key, key === 'doc' ? value : rounded(value)])),
  // Options of generation are written out here, and as given there.
  asked: Object.values(asked as Record<string, { arg_0: string; arg_1?: unknown }>).map(({ arg_0: prompt, arg_1: continuation }) =>
    typeof continuation === 'object' ? [prompt] : [prompt, continuation],
  ),
})

test.each([
  ['arithmetic', 'lathe_arithmetic'],
  ['continue', 'lathe_generate'],
  ['rolling', 'lathe_rolling'],
])('%s: every line of the samples file, and the figures', async (name, task) => {
  const scored = await run(name)
  const own = order(scored.samples.map((sample) => lmEvalSample(scored, sample)))
  const theirs = order(linesOf(task))
  expect(own.map(shown)).toEqual(theirs.map(shown))
  const { tasks } = await readPublishedResults(published)
  const figures = tasks.filter((result) => result.task === task).map(({ metric, filter, value }) => [metric, filter, rounded(value)])
  expect(scored.figures.map(({ metric, filter, value }) => [metric, filter, rounded(value)])).toEqual(figures)
})

test('its folder as a baseline is compared item by item', async () => {
  const { tasks, samples, modelName } = await readPublishedResults(published)
  const scored = await run('arithmetic')
  const [result] = taskResults(scored, null, null)
  const other = tasks.find(({ name }) => name === 'lathe_arithmetic')!
  // The same items in the same order have the same name, whoever answered them.
  expect(other).toMatchObject({ dataset: scored.dataset, hasSamples: true, origin: 'published', n: 4 })
  const rows = publishedRows(samples.get('lathe_arithmetic')!, 'none', 'acc')
  const side = { id: modelName, rows, n: other.n }
  const options = { margin: 0.05, isShare: true }
  const paired = compareWithPublished(result!, sampleRows(scored), side, options)
  expect(paired).toMatchObject({ pairing: 'paired', items: 4, difference: 0, lost: 0, gained: 0, changed: 0, recovery: 1 })
  expect(paired!.logLikelihoodDifference!.mean).toBeCloseTo(0, 4)
  expect(paired!.warnings).toEqual([expect.stringContaining('another engine answered')])

  // Two of four items here, in another order and counted otherwise; one of them asked in other words.
  const some = sampleRows(scored)
    .toReversed()
    .slice(0, 2)
    .map((row, docId) => ({ ...row, docId, prompt: docId === 0 ? 'other words' : row.prompt }))
  const fewer = compareWithPublished({ ...result!, n: 2 }, some, side, options)
  expect(fewer).toMatchObject({ items: 2, changed: 0 })
  expect(fewer!.warnings.slice(1)).toEqual([
    'Compared on the 2 items that both have, of 2 here and 4 there.',
    'The two models were asked in different words (another chat template).',
  ])
  const strangers = some.map((row) => ({ ...row, docHash: 'x' }))
  expect(compareWithPublished(result!, strangers, side, options)).toBeNull()
})
