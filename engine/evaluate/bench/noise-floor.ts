/**
 * What differs with no compression at all (specs/evaluation.md §6.3): the same model asked one request at a time and many at once, and on another adapter.
 * Whatever a compressed model changes less than this can't be measured.
 *   node engine/evaluate/bench/noise-floor.ts [folder] [--adapter NAME] [--other NAME] [--items N]
 * Prints flips of right and wrong, changed answers, free texts that stay the same with the lead where the others part, and the divergence of whole texts
 * (of the 20 most probable tokens, a lower bound). `--other reference` is the f64 backend; slow.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { openRuntime } from '../../runtime/open-runtime.ts'
import type { Backend } from '../../gpu/program.ts'
import type { Runtime } from '../../runtime/types.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import { measureTextOn } from '../remote/measure-text.ts'
import { localTextSource } from '../remote/text-source.ts'
import { createLocalTarget } from '../tasks/local-target.ts'
import type { LocalCodec } from '../tasks/local-target.ts'
import { openTaskFile } from '../tasks/open-tasks.ts'
import { PLAIN_PROMPTS } from '../tasks/prompts.ts'
import { loadDocuments, runTask } from '../tasks/run-task.ts'
import { scoreTask, taskResults } from '../tasks/score-task.ts'
import type { ScoredTask } from '../tasks/score-task.ts'
import { taskOf } from '../tasks/task-config.ts'
import type { TaskConfig } from '../tasks/task-config.ts'

/** In flight at once where many are: several prompts and answers share a step. */
const MANY = 8
const ANSWER_TOKENS = 32
const WINDOWS = 4

const { values, positionals } = parseArgs({
  options: { adapter: { type: 'string' }, other: { type: 'string' }, items: { type: 'string', default: '60' } },
  allowPositionals: true,
})
const root = join(import.meta.dirname, '../../..')
const evaluation = join(root, 'assets/demo-eval')
const folder = positionals[0] ?? join(root, 'assets/demo-model')
const limit = Number(values.items)
const tokenizer = await loadTokenizer(folder)
const sample = { name: 'text', text: readFileSync(join(evaluation, 'perplexity.txt'), 'utf8') }

const choices: readonly TaskConfig[] = (
  await Promise.all(['world_facts', 'reading', 'arithmetic'].map((name) => openTaskFile(join(evaluation, `${name}.jsonl`))))
).flatMap(({ tasks }) => tasks)
const [, reading] = choices
if (reading === undefined) throw new Error('no tasks')
const talk = taskOf({
  ...reading,
  name: 'talk',
  title: 'talk',
  outputType: 'generate_until',
  docToChoice: null,
  docToTarget: '',
  metrics: [],
  generation: { until: ['<|im_end|>'], maxTokens: ANSWER_TOKENS, temperature: 0, topP: 1 },
})

const load = async (on: Backend): Promise<Runtime> =>
  openRuntime({ source: folder, backend: on, modelId: 'model', contextTokens: 1024, kvDtype: 'f16', maxSequences: MANY, tokenizer })
/** As a target reads it: special tokens are text. */
const codec: LocalCodec = {
  encode: (text, options) => tokenizer.encode(text, options),
  decode: (ids) => tokenizer.decode(ids, { skipSpecialTokens: false }),
  tokenBytes: (id) => tokenizer.tokenBytes(id),
  renderChat: () => '',
  bosTokenId: tokenizer.bosTokenId,
  eosTokenId: tokenizer.eosTokenId,
}

async function answersOf(runtime: Runtime, parallel: number): Promise<ScoredTask[]> {
  const target = { ...createLocalTarget({ name: 'model', runtime, codec, modelFingerprint: '' }), parallel }
  const scored: ScoredTask[] = []
  for (const task of [...choices, talk])
    scored.push(scoreTask(await runTask(task, target, await loadDocuments(task, limit, 0), { prompts: PLAIN_PROMPTS, limit })))
  return scored
}

async function print(
  name: string,
  before: readonly ScoredTask[],
  after: readonly ScoredTask[],
  runtimes: readonly [Runtime, Runtime],
): Promise<void> {
  const results = after.map((task, i) => taskResults(task, { id: 'base', scored: before[i] ?? task }, null)[0])
  const sum = (of: (result: (typeof results)[number]) => number): number =>
    results.slice(0, choices.length).reduce((all, one) => all + of(one), 0)
  const free = results.at(-1)?.freeText ?? null
  const [baseline, own] = runtimes.map((runtime) => localTextSource(name, runtime, tokenizer))
  if (baseline === undefined || own === undefined) throw new Error('two runtimes are compared')
  const { drift } = await measureTextOn(own, { id: 'base', source: baseline }, sample, {
    protocol: 'rolling',
    window: 512,
    maxWindows: WINDOWS,
  })
  const cells = [
    name,
    sum((one) => one?.n ?? 0),
    sum((one) => (one?.paired?.lost ?? 0) + (one?.paired?.gained ?? 0)),
    sum((one) => one?.paired?.changed ?? 0),
    `${free?.identical ?? 0} of ${free?.n ?? 0}`,
    free?.divergenceMarginMedian?.toFixed(4) ?? '—',
    drift?.kldMean?.toExponential(1) ?? '—',
    drift?.flips ?? '—',
  ]
  console.log(`| ${cells.join(' | ')} |`)
}

await using backend = await openBackend(values.adapter ?? null)
await using runtime = await load(backend)
console.log(`${backend.id}, ${limit} items of each task, ${WINDOWS} windows of text\n`)
console.log(
  '| no compression, but | items | flips | other answers | same text | lead where they part, nats | mean KLD, at least | other top tokens |',
)
console.log('|---|--:|--:|--:|--:|--:|--:|--:|')
const alone = await answersOf(runtime, 1)
await print('the same again', alone, await answersOf(runtime, 1), [runtime, runtime])
await print(`${MANY} requests at once`, alone, await answersOf(runtime, MANY), [runtime, runtime])
if (values.other !== undefined) {
  await using other = await openBackend(values.other)
  await using elsewhere = await load(other)
  await print(other.id, alone, await answersOf(elsewhere, MANY), [runtime, elsewhere])
}
