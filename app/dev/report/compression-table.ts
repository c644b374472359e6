/**
 * The table behind docs/compression.md: every scheme × algorithm on small models, with size, perplexity, KL divergence and top-1 agreement
 * against the original, task accuracy, seconds and memory. Everything is measured through the runtime, from the folders as written.
 *
 *   node app/dev/report/compression-table.ts --rows-file rows.jsonl [--adapter llvmpipe] [--data ../shared/data]
 *     [--models demo,stories260k,tinystories-656k,demo-outliers] [--only 'W4|2:4'] [--essential] [--jobs 1] [--print]
 *     [--items 250] [--windows 18] [--window 512] [--samples 256] [--seq 256] [--skip-mixed]
 *
 * Each row is appended to the file as it is measured, and rows that are there already are not measured again: an interrupted run goes on where
 * it stopped. Rows that decide a comparison come first, the cheap ones of them before the dear. --jobs measures several rows at once, each in a
 * process of its own. --print only prints what the file holds.
 */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { openCheckpoint } from '../../../engine/checkpoint/open.ts'
import { chooseSchemes, recipeOfMap } from '../../../engine/compress/mixed-precision/scheme-map.ts'
import type { LossTable } from '../../../engine/compress/mixed-precision/scheme-map.ts'
import { GPTQ_DEFAULTS } from '../../../engine/compress/modifiers-yaml.ts'
import { planCompression } from '../../../engine/compress/plan.ts'
import type { Recipe } from '../../../engine/compress/recipe.ts'
import { modelFolder } from './compression-bench.ts'
import { RowsFile, printTables } from './compression-file.ts'
import type { TableSettings } from './compression-file.ts'
import { MIXED_STEPS, MSE, costOf, mixedComparisons, storing, tableRows } from './compression-rows.ts'
import type { Answer, Assignment, Task } from './compression-worker.ts'
import { OUTLIERS_SUFFIX } from './planted-outliers.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const { values } = parseArgs({
  options: {
    adapter: { type: 'string' },
    data: { type: 'string', default: join(root, '../shared/data') },
    models: { type: 'string', default: `demo,stories260k,tinystories-656k,demo${OUTLIERS_SUFFIX}` },
    only: { type: 'string', default: '' },
    essential: { type: 'boolean', default: false },
    items: { type: 'string', default: '250' },
    windows: { type: 'string', default: '18' },
    window: { type: 'string', default: '512' },
    samples: { type: 'string', default: '256' },
    seq: { type: 'string', default: '256' },
    jobs: { type: 'string', default: '1' },
    'rows-file': { type: 'string' },
    print: { type: 'boolean', default: false },
    'skip-mixed': { type: 'boolean', default: false },
  },
})
const only = new RegExp(values.only, 'i')
const adapter = values.adapter ?? process.env['LATHE_ADAPTER'] ?? null
const settings: TableSettings = {
  windows: Number(values.windows),
  window: Number(values.window),
  items: Number(values.items),
  samples: Number(values.samples),
  sequenceLength: Number(values.seq),
}
const file = new RowsFile(values['rows-file'] ?? null)
const models = values.models.split(',')

interface Job {
  readonly model: string
  readonly title: string
  readonly essential: boolean
  readonly cost: number
  readonly task: Task
  /** Chosen from losses that another job measures. */
  readonly recipe?: (table: LossTable) => Promise<Recipe>
}

/** Distinct input widths of the decoder's linears. */
async function widthsOf(folder: string): Promise<readonly number[]> {
  await using checkpoint = await openCheckpoint(folder)
  const cols = [...checkpoint.tensors.values()]
    .filter(({ name, shape }) => /\.layers\.\d+\..*_proj\.weight$/.test(name) && shape.length === 2)
    .map(({ shape }) => shape[1] ?? 0)
  return [...new Set(cols)]
}

async function jobsOf(model: string): Promise<readonly Job[]> {
  const folder = modelFolder(model, values.data)
  const widths = await widthsOf(folder)
  const planted = model.endsWith(OUTLIERS_SUFFIX)
  const jobs: Job[] = tableRows(widths, planted).map((row) => {
    const { group, name, recipe, essential } = row
    return { model, title: `${group} ${name}`, essential, cost: costOf(row), task: { kind: 'row', group, name, recipe, atOnce: 1 } }
  })
  if (values['skip-mixed'] || planted) return jobs
  const groupSize = widths.every((width) => width % 64 === 0) ? 64 : 32
  // Before everything else: other rows wait for it.
  jobs.push({ model, title: 'losses of single units', essential: true, cost: -1, task: { kind: 'losses', groupSize } })
  for (const { group, uniform } of mixedComparisons(groupSize)) {
    for (const { kind, title } of MIXED_STEPS) {
      const even: Recipe = { steps: [storing(kind, uniform, MSE)] }
      const row = (name: string, recipe: Recipe | null): Omit<Job, 'recipe'> => ({
        model,
        title: `${group} ${name}`,
        essential: true,
        cost: 3,
        task: { kind: 'row', group, name, recipe, atOnce: 1 },
      })
      jobs.push(row(`uniform, ${title}`, even))
      const automatic = async (table: LossTable): Promise<Recipe> => {
        await using checkpoint = await openCheckpoint(folder)
        const { bytesOut } = planCompression(checkpoint, even)
        const map = chooseSchemes(checkpoint, table, { kind: 'bytes', bytes: bytesOut })
        return recipeOfMap(map, MSE, kind === 'gptq' ? { kind, ...GPTQ_DEFAULTS } : { kind })
      }
      jobs.push({ ...row(`automatic, ${title}`, null), recipe: automatic })
    }
  }
  return jobs
}

function isDone({ model, task }: Job): boolean {
  return task.kind === 'row' ? file.row(model, settings, task.group, task.name) !== null : file.losses(model, settings) !== null
}

/** Sends a job to a worker; resolves when its answer is in the file. */
async function run(worker: ChildProcess, scratch: string, job: Job): Promise<void> {
  const { model, title } = job
  const options = { model, settings, adapter, data: values.data, scratch }
  let task = job.task
  const group = task.kind === 'row' ? task.group : 'losses'
  const name = task.kind === 'row' ? task.name : ''
  let answer: Answer
  try {
    if (task.kind === 'row') {
      const table = file.losses(model, settings)
      const recipe = job.recipe === undefined ? task.recipe : table === null ? null : await job.recipe(table)
      task = { ...task, recipe, atOnce: working }
    }
    const assignment: Assignment = { bench: options, task }
    answer = await new Promise<Answer>((resolve, reject) => {
      worker.once('message', (reply) => resolve(reply as Answer))
      worker.once('exit', (code) => reject(new Error(`the process ended with ${code}`)))
      worker.send(assignment)
    })
  } catch (error) {
    answer = { kind: 'failed', reason: error instanceof Error ? error.message : String(error) }
  } finally {
    worker.removeAllListeners('message')
    worker.removeAllListeners('exit')
  }
  if (answer.kind === 'row') file.add(answer.row)
  else if (answer.kind === 'losses') file.add({ kind: 'losses', model, settings, seconds: answer.seconds, table: answer.table })
  else file.add({ kind: 'failed', model, settings, group, name, reason: answer.reason })
  const figures =
    answer.kind === 'row'
      ? `KLD ${answer.row.kld.toFixed(5)}, ${answer.row.seconds?.toFixed(1) ?? '—'} s`
      : answer.kind === 'losses'
        ? `${answer.seconds.toFixed(1)} s`
        : answer.reason
  const elapsed = ((performance.now() - began) / 1000).toFixed(0)
  process.stderr.write(`[${elapsed} s] ${model}: ${title}: ${figures}\n`)
}

let working = 0
const began = performance.now()

/** Jobs that wait for losses are passed over until those are measured. */
function nextJob(queue: Job[], lossesRunning: ReadonlySet<string>): Job | 'wait' | null {
  const at = queue.findIndex((job) => job.recipe === undefined || file.losses(job.model, settings) !== null)
  if (at !== -1) return queue.splice(at, 1)[0] ?? null
  // Losses that failed leave nothing to wait for.
  return queue.some(({ model }) => lossesRunning.has(model)) ? 'wait' : null
}

async function measureAll(): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), 'lathe-compression-table-'))
  try {
    const all = (await Promise.all(models.map(jobsOf))).flat()
    const wanted = all.filter(
      (job) => !isDone(job) && (!values.essential || job.essential) && (job.task.kind === 'losses' || only.test(job.title)),
    )
    // Losses are measured only for rows that want them.
    const queue = wanted
      .filter(({ task, model }) => task.kind !== 'losses' || wanted.some((job) => job.model === model && job.recipe !== undefined))
      .toSorted((a, b) => Number(b.essential) - Number(a.essential) || models.indexOf(a.model) - models.indexOf(b.model) || a.cost - b.cost)
    process.stderr.write(`${queue.length} rows to measure, ${all.length - wanted.length} not asked for or there already\n`)
    const lossesRunning = new Set<string>()
    let wake: (() => void)[] = []
    await Promise.all(
      Array.from({ length: Math.min(Number(values.jobs), queue.length) }, async (_, index) => {
        let worker: ChildProcess | null = null
        for (;;) {
          const job = nextJob(queue, lossesRunning)
          if (job === null) break
          if (job === 'wait') {
            await new Promise<void>((resolve) => wake.push(resolve))
            continue
          }
          if (worker === null || worker.exitCode !== null) worker = fork(new URL('./compression-worker.ts', import.meta.url))
          if (job.task.kind === 'losses') lossesRunning.add(job.model)
          working++
          await run(worker, join(scratch, String(index)), job)
          working--
          lossesRunning.delete(job.model)
          for (const each of wake) each()
          wake = []
        }
        worker?.disconnect()
      }),
    )
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

if (!values.print) await measureAll()
const printed = [...new Set(file.records.map(({ model }) => model))]
const orders = new Map(await Promise.all(printed.map(async (model) => [model, (await jobsOf(model)).map(({ title }) => title)] as const)))
process.stdout.write(`${printTables(file.records, (model) => orders.get(model) ?? [])}\n`)
