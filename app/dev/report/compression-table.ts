/**
 * The table behind docs/compression.md: every scheme × algorithm on small models, with size, perplexity, KL divergence and top-1 agreement
 * against the original, task accuracy, seconds and memory. Everything is measured through the runtime, from the folders as written.
 *
 *   node app/dev/report/compression-table.ts --adapter llvmpipe --data ../shared/data [--models demo,stories260k] [--only 'W4|2:4']
 *     [--items 100] [--windows 18] [--window 512] [--samples 256] [--seq 256] [--skip-mixed]
 *
 * Calibration and evaluation texts are disjoint: the demo model's own files, and the two ends of the TinyStories excerpt for the others.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { openCheckpoint } from '../../../engine/checkpoint/open.ts'
import { chooseSchemes, measureLosses, recipeOfMap, schemeUnits } from '../../../engine/compress/mixed-precision/scheme-map.ts'
import { compress } from '../../../engine/compress/pipeline.ts'
import { planCompression } from '../../../engine/compress/plan.ts'
import type { Recipe } from '../../../engine/compress/recipe.ts'
import { GPTQ_DEFAULTS } from '../../../engine/compress/modifiers-yaml.ts'
import { schemeName } from '../../../engine/compress/scheme.ts'
import { answerChoiceTask, parseChoiceTask, scoreChoiceTask } from '../../../engine/evaluate/choice-task.ts'
import type { ChoiceAnswers, ChoiceTask } from '../../../engine/evaluate/choice-task.ts'
import { measureDrift } from '../../../engine/evaluate/perplexity.ts'
import { openBackend } from '../../../engine/gpu/webgpu/backend.ts'
import { createReferenceBackend } from '../../../engine/gpu/reference/backend.ts'
import type { Backend } from '../../../engine/gpu/program.ts'
import { openRuntime } from '../../../engine/runtime/open-runtime.ts'
import { scorePair } from '../../../engine/runtime/pair.ts'
import type { Runtime } from '../../../engine/runtime/types.ts'
import { divergenceLoss } from '../../../engine/studio/layer-divergence.ts'
import { loadTokenizer } from '../../../engine/tokenizer/tokenizer.ts'
import type { Tokenizer } from '../../../engine/tokenizer/tokenizer.ts'
import { MSE, mixedComparisons, storing, tableRows } from './compression-rows.ts'
import type { TableRow } from './compression-rows.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const { values } = parseArgs({
  options: {
    adapter: { type: 'string' },
    data: { type: 'string', default: join(root, '../shared/data') },
    models: { type: 'string', default: 'demo,stories260k,tinystories-656k' },
    only: { type: 'string', default: '' },
    items: { type: 'string', default: '250' },
    windows: { type: 'string', default: '18' },
    window: { type: 'string', default: '512' },
    samples: { type: 'string', default: '256' },
    seq: { type: 'string', default: '256' },
    'mixed-windows': { type: 'string', default: '4' },
    'skip-mixed': { type: 'boolean', default: false },
  },
})
const only = new RegExp(values.only, 'i')
const windows = Number(values.windows)
const adapter = values.adapter ?? process.env['LATHE_ADAPTER'] ?? null

interface Subject {
  readonly name: string
  readonly folder: string
  readonly calibrationFile: string
  readonly text: string
  readonly tasks: readonly ChoiceTask[]
}

interface Measured {
  readonly group: string
  readonly name: string
  readonly bytes: number
  readonly perplexity: number
  readonly kld: number
  readonly agreement: number
  readonly answers: readonly ChoiceAnswers[]
  readonly seconds: number | null
  readonly rssBytes: number | null
  readonly gpuBytes: number | null
}

const scratch = await mkdtemp(join(tmpdir(), 'lathe-compression-table-'))

function openDevice(): Promise<Backend> {
  return adapter === 'reference' ? Promise.resolve(createReferenceBackend()) : openBackend(adapter, { profile: 'production' })
}

async function subjectOf(name: string): Promise<Subject> {
  if (name === 'demo') {
    const evaluation = join(root, 'assets/demo-eval')
    const tasks = await Promise.all(
      ['world_facts', 'reading', 'arithmetic', 'completion'].map(async (task) =>
        parseChoiceTask(task, task, await readFile(join(evaluation, `${task}.jsonl`), 'utf8'), Number(values.items)),
      ),
    )
    const text = await readFile(join(evaluation, 'perplexity.txt'), 'utf8')
    const calibrationFile = join(evaluation, 'calibration.jsonl')
    return { name, folder: join(root, 'assets/demo-model'), calibrationFile, text: text.slice(0, 40_000), tasks }
  }
  const stories = documentsOf(await readFile(join(values.data, 'text/tinystories.txt'), 'utf8'))
  const half = Math.floor(stories.length / 2)
  const calibrationFile = join(scratch, 'stories.jsonl')
  const lines = stories.slice(0, half).map((text) => JSON.stringify({ text }))
  await writeFile(calibrationFile, lines.join('\n'))
  return {
    name,
    folder: join(values.data, 'models', name),
    calibrationFile,
    text: stories.slice(half).join('\n\n').slice(0, 40_000),
    tasks: [],
  }
}

/** Whole paragraphs in documents of about a thousand characters. */
function documentsOf(text: string): readonly string[] {
  const documents: string[] = []
  let current = ''
  for (const paragraph of text.split(/\n{2,}/)) {
    current = current === '' ? paragraph : `${current}\n\n${paragraph}`
    if (current.length < 1000) continue
    documents.push(current)
    current = ''
  }
  return current === '' ? documents : [...documents, current]
}

async function openModel(backend: Backend, folder: string, modelId: string): Promise<Runtime> {
  return openRuntime({ source: folder, backend, modelId, contextTokens: Number(values.window), kvDtype: 'f32', maxSequences: 1 })
}

interface Bench {
  readonly subject: Subject
  readonly backend: Backend
  readonly baseline: Runtime
  readonly tokenizer: Tokenizer
}

async function measure(
  { subject, baseline, tokenizer }: Bench,
  candidate: Runtime,
  row: Pick<Measured, 'group' | 'name' | 'bytes' | 'seconds' | 'rssBytes' | 'gpuBytes'>,
): Promise<Measured> {
  const window = Math.min(Number(values.window), baseline.info.contextLimit)
  const { candidate: perplexity, drift } = await measureDrift(
    { baseline, candidate, scorePair, baselineId: 'baseline' },
    tokenizer,
    { name: subject.name, text: subject.text },
    { protocol: 'rolling', window, maxWindows: windows },
  )
  const answers: ChoiceAnswers[] = []
  for (const task of subject.tasks) answers.push(await answerChoiceTask(candidate, tokenizer, task))
  return {
    ...row,
    perplexity: perplexity.value ?? Number.NaN,
    kld: drift.kldMean ?? Number.NaN,
    agreement: drift.top1Agreement ?? Number.NaN,
    answers,
  }
}

async function runRow(bench: Bench, row: TableRow): Promise<Measured | null> {
  const { subject, backend } = bench
  const folder = join(scratch, 'variant')
  await rm(folder, { recursive: true, force: true })
  try {
    const report = await compress({
      sourceFolder: subject.folder,
      outFolder: folder,
      recipe: { recipe: row.recipe },
      seed: 0,
      resume: false,
      latheVersion: 'report',
      calibration: {
        path: subject.calibrationFile,
        samples: Number(values.samples),
        sequenceLength: Number(values.seq),
        seed: 0,
      },
      openBackend: openDevice,
    })
    await using candidate = await openModel(backend, folder, 'candidate')
    const measured = await measure(bench, candidate, {
      group: row.group,
      name: row.name,
      bytes: report.bytesOut,
      seconds: report.seconds,
      rssBytes: report.peakRssBytes,
      gpuBytes: report.peakGpuBytes ?? null,
    })
    console.error(`${subject.name}: ${row.group} ${row.name}: KLD ${measured.kld.toFixed(5)}, ${report.seconds.toFixed(1)} s`)
    return measured
  } catch (error) {
    // A row that cannot be run is missing from the table, and the reason stands beside it.
    console.error(`${subject.name}: ${row.group} ${row.name}: ${error instanceof Error ? error.message : String(error)}`)
    return null
  }
}

/** Automatic mixed precision: losses by measured divergence on the calibration side of the text, at the uniform recipe's exact size. */
async function runMixed(bench: Bench, groupSize: number, show: (row: Measured | null) => void): Promise<void> {
  const { subject, backend, baseline, tokenizer } = bench
  const calibration = (await readFile(subject.calibrationFile, 'utf8'))
    .split('\n')
    .flatMap((line) => (line.trim() === '' ? [] : [(JSON.parse(line) as { text?: string }).text ?? '']))
    .join('\n\n')
  await using checkpoint = await openCheckpoint(subject.folder)
  for (const { group, uniform, candidates } of mixedComparisons(groupSize)) {
    if (!only.test(`mixed ${group}`)) continue
    const units = schemeUnits(checkpoint, candidates)
    const losses = await measureLosses(
      units,
      divergenceLoss({
        checkpoint,
        backend,
        baseline,
        tokenizer,
        text: { name: 'calibration', text: calibration.slice(0, 60_000) },
        window: Math.min(256, baseline.info.contextLimit),
        maxWindows: Number(values['mixed-windows']),
        observer: MSE,
      }),
      { onProgress: (done, total) => process.stderr.write(`\r${subject.name}: measuring layers ${done} of ${total} `) },
    )
    process.stderr.write('\n')
    const recipes = (kind: 'quantization' | 'gptq'): { readonly uniform: Recipe; readonly mixed: Recipe } => {
      const even: Recipe = { steps: [storing(kind, uniform, MSE)] }
      const { bytesOut } = planCompression(checkpoint, even)
      const map = chooseSchemes(checkpoint, losses, { kind: 'bytes', bytes: bytesOut })
      const counts = Map.groupBy(map.choices, ({ scheme }) => (scheme === null ? 'as it is' : schemeName(scheme)))
      console.error(`${subject.name}: ${[...counts].map(([name, list]) => `${list.length} × ${name}`).join(', ')}`)
      return { uniform: even, mixed: recipeOfMap(map, MSE, kind === 'gptq' ? { kind, ...GPTQ_DEFAULTS } : { kind }) }
    }
    for (const [kind, title] of [
      ['quantization', 'MSE'],
      ['gptq', 'GPTQ'],
    ] as const) {
      const { uniform: even, mixed } = recipes(kind)
      for (const [name, recipe] of [
        [`uniform, ${title}`, even],
        [`automatic, ${title}`, mixed],
      ] as const) {
        show(await runRow(bench, { group, name, recipe }))
      }
    }
  }
}

function megabytes(bytes: number | null, digits = 0): string {
  return bytes === null ? '—' : (bytes / 1e6).toFixed(digits)
}

function percent(value: number): string {
  return (100 * value).toFixed(1)
}

function printHeader({ subject, backend, baseline }: Bench): void {
  const items = subject.tasks.reduce((sum, task) => sum + task.items.length, 0)
  const window = Math.min(Number(values.window), baseline.info.contextLimit)
  console.log(`\n### ${subject.name}\n`)
  console.log(
    `${backend.id}${backend.software ? ' (software)' : ''}; perplexity over ${windows} windows of ${window}${items > 0 ? `; ${items} task items` : ''}; calibrated on ${values.samples} samples of at most ${values.seq} tokens.\n`,
  )
  console.log(
    `| scheme | algorithm | MB | perplexity | KLD (nats) | top-1 |${items > 0 ? ' tasks [95 %] | recovery |' : ''} seconds | peak RSS MB | device MB |`,
  )
  console.log(`|---|---|--:|--:|--:|--:|${items > 0 ? '--:|--:|' : ''}--:|--:|--:|`)
}

/** Rows appear as they are measured, so that an interrupted run leaves what it had. */
function printRow({ subject }: Bench, row: Measured, original: Measured): void {
  const all: ChoiceTask = { name: 'all tasks', title: 'all tasks', items: subject.tasks.flatMap((task) => task.items), dataset: 'all' }
  const pooled = (each: Measured): ChoiceAnswers => ({
    task: all,
    right: each.answers.flatMap(({ right }) => right),
    chosen: [],
    margins: [],
  })
  let tasks = ''
  if (all.items.length > 0) {
    const score = scoreChoiceTask(pooled(row), { id: 'baseline', answers: pooled(original) })
    tasks = ` ${percent(score.value)} [${percent(score.interval[0])}, ${percent(score.interval[1])}] | ${percent(score.paired?.recovery ?? Number.NaN)} % |`
  }
  console.log(
    `| ${row.group} | ${row.name} | ${megabytes(row.bytes, 2)} | ${row.perplexity.toFixed(4)} | ${row.kld.toFixed(5)} | ${(100 * row.agreement).toFixed(2)} % |${tasks} ${row.seconds === null ? '—' : row.seconds.toFixed(1)} | ${megabytes(row.rssBytes)} | ${megabytes(row.gpuBytes)} |`,
  )
}

/** Distinct input widths of the decoder's linears. */
async function widthsOf(folder: string): Promise<readonly number[]> {
  await using checkpoint = await openCheckpoint(folder)
  const cols = [...checkpoint.tensors.values()]
    .filter(({ name, shape }) => /\.layers\.\d+\..*_proj\.weight$/.test(name) && shape.length === 2)
    .map(({ shape }) => shape[1] ?? 0)
  return [...new Set(cols)]
}

try {
  await mkdir(scratch, { recursive: true })
  for (const name of values.models.split(',')) {
    const subject = await subjectOf(name)
    await using backend = await openDevice()
    const tokenizer = await loadTokenizer(subject.folder)
    await using baseline = await openModel(backend, subject.folder, 'baseline')
    const bench: Bench = { subject, backend, baseline, tokenizer }
    printHeader(bench)
    let original: Measured
    {
      await using again = await openModel(backend, subject.folder, 'original again')
      const facts = { group: 'Original', name: '—', bytes: baseline.info.weightBytes, seconds: null, rssBytes: null, gpuBytes: null }
      original = await measure(bench, again, facts)
    }
    const show = (row: Measured | null): void => {
      if (row !== null) printRow(bench, row, original)
    }
    show(original)
    const widths = await widthsOf(subject.folder)
    for (const row of tableRows(widths)) if (only.test(`${row.group} ${row.name}`)) show(await runRow(bench, row))
    if (!values['skip-mixed']) await runMixed(bench, widths.every((width) => width % 64 === 0) ? 64 : 32, show)
  }
} finally {
  await rm(scratch, { recursive: true, force: true })
}
