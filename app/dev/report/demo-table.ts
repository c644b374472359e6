/**
 * Prints the table of README's "What compression costs, measured": the demo model and its variants, measured by the same code that the studio runs, on
 * one adapter, paired. Run with `node app/dev/report/demo-table.ts [adapter] [--items N] [--windows N]`; figures change only if the code does.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { measureThroughput } from '../../../engine/benchmark/throughput.ts'
import { CALIBRATION_DEFAULTS } from '../../../engine/compress/calibration/defaults.ts'
import { compress } from '../../../engine/compress/pipeline.ts'
import { listPresets } from '../../../engine/compress/presets.ts'
import { answerChoiceTask, parseChoiceTask, scoreChoiceTask } from '../../../engine/evaluate/choice-task.ts'
import type { ChoiceAnswers } from '../../../engine/evaluate/choice-task.ts'
import { measureDrift } from '../../../engine/evaluate/perplexity.ts'
import { openBackend } from '../../../engine/gpu/webgpu/backend.ts'
import { openRuntime } from '../../../engine/runtime/open-runtime.ts'
import { scorePair } from '../../../engine/runtime/pair.ts'
import { loadTokenizer } from '../../../engine/tokenizer/tokenizer.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    items: { type: 'string', default: '250' },
    windows: { type: 'string', default: '80' },
    window: { type: 'string', default: '512' },
  },
})
const items = Number(values.items)
const [adapter = null] = positionals

const baselineFolder = join(root, 'assets/demo-model')
const evaluationFolder = join(root, 'assets/demo-eval')
const taskNames = ['world_facts', 'reading', 'arithmetic', 'completion']
const tasks = await Promise.all(
  taskNames.map(async (name) => parseChoiceTask(name, name, await readFile(join(evaluationFolder, `${name}.jsonl`), 'utf8'), items)),
)
const text = await readFile(join(evaluationFolder, 'perplexity.txt'), 'utf8')
const tokenizer = await loadTokenizer(baselineFolder)

const scratch = await mkdtemp(join(tmpdir(), 'lathe-demo-table-'))
await using backend = await openBackend(adapter, { profile: 'production' })
const open = (source: string, modelId: string) => openRuntime({ source, backend, modelId, contextTokens: 1024, kvDtype: 'f16' })

interface Row {
  readonly name: string
  readonly bytes: number
  readonly perplexity: number
  readonly kld: number
  readonly agreement: number
  readonly right: readonly boolean[]
  readonly decode: number
  readonly prefill: number
}

function percent(value: number): string {
  return (100 * value).toFixed(1)
}

const rows: Row[] = []
try {
  await using baseline = await open(baselineFolder, 'baseline')
  const baselineAnswers: ChoiceAnswers[] = []
  for (const task of tasks) {
    baselineAnswers.push(await answerChoiceTask(baseline, tokenizer, task))
    console.error(`baseline ${task.name}: ${(100 * scoreChoiceTask(baselineAnswers.at(-1) as ChoiceAnswers, null).value).toFixed(1)} %`)
  }
  for (const preset of [null, ...listPresets()]) {
    let folder = baselineFolder
    let bytes = baseline.info.weightBytes
    if (preset !== null) {
      folder = join(scratch, preset.id)
      const report = await compress({
        sourceFolder: baselineFolder,
        outFolder: folder,
        recipe: { presetId: preset.id },
        seed: 0,
        resume: false,
        latheVersion: 'report',
        ...(preset.needsCalibration
          ? {
              calibration: { path: join(evaluationFolder, 'calibration.jsonl'), ...CALIBRATION_DEFAULTS, seed: 0 },
              openBackend: () => openBackend(adapter, { profile: 'production' }),
            }
          : {}),
      })
      bytes = report.bytesOut
    }
    await using candidate = await open(folder, preset?.id ?? 'original again')
    const measured = await measureDrift(
      { baseline, candidate, scorePair, baselineId: 'baseline' },
      tokenizer,
      { name: 'perplexity.txt', text },
      { protocol: 'rolling', window: Number(values.window), maxWindows: Number(values.windows) },
    )
    const answers: ChoiceAnswers[] = []
    for (const task of tasks)
      answers.push(
        preset === null ? (baselineAnswers[answers.length] as ChoiceAnswers) : await answerChoiceTask(candidate, tokenizer, task),
      )
    const [, speed] = await measureThroughput(
      [baseline, candidate].map((runtime) => ({ modelId: runtime.info.modelId, runtime, peakGpuBytes: () => 0 })),
      { promptTokens: 128, generatedTokens: 32, warmups: 1, repeats: 3 },
    )
    rows.push({
      name: preset === null ? 'Original (BF16)' : `${preset.title} (${preset.scheme})`,
      bytes,
      perplexity: measured.candidate.value ?? Number.NaN,
      kld: measured.drift.kldMean ?? Number.NaN,
      agreement: measured.drift.top1Agreement ?? Number.NaN,
      right: answers.flatMap((answer) => answer.right),
      decode: speed?.decodeTokensPerSecond.median ?? Number.NaN,
      prefill: speed?.prefillTokensPerSecond.median ?? Number.NaN,
    })
    console.error(`${rows.at(-1)?.name}: done`)
  }
} finally {
  await rm(scratch, { recursive: true, force: true })
}

const [original] = rows
if (original === undefined) throw new Error('nothing was measured')
const all = { name: 'all tasks', title: 'all tasks', items: tasks.flatMap((task) => task.items), dataset: 'all' }
const pooled = (row: Row): ChoiceAnswers => ({ task: all, right: row.right, chosen: [], margins: [] })
console.log(
  `Adapter: ${backend.id}${backend.software ? ' (software)' : ''}; ${tasks.length} tasks × ${items} items; perplexity: rolling, window ${values.window}.\n`,
)
console.log('| model | weights MB | perplexity | KLD (nats) | top-1 agreement | task accuracy [95 %] | recovery | decode × | prefill × |')
console.log('|---|--:|--:|--:|--:|--:|--:|--:|--:|')
for (const row of rows) {
  const result = scoreChoiceTask(pooled(row), { id: 'baseline', answers: pooled(original) })
  console.log(
    `| ${row.name} | ${(row.bytes / 1e6).toFixed(2)} | ${row.perplexity.toFixed(4)} | ${row.kld.toFixed(5)} | ${percent(row.agreement)} % | ${percent(result.value)} % [${percent(result.interval[0])}, ${percent(result.interval[1])}] | ${percent(result.paired?.recovery ?? Number.NaN)} % | ${(row.decode / original.decode).toFixed(2)} | ${(row.prefill / original.prefill).toFixed(2)} |`,
  )
}
