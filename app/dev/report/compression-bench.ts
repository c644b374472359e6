/**
 * Measures rows of the compression table: a model's texts and tasks, its runtime as the baseline, and for each recipe the folder that `compress`
 * writes, through the runtime that would serve it. One process, one device, one row at a time; compression-table.ts says which.
 *
 * Calibration and evaluation texts are disjoint: the demo model's own files, and the two ends of the TinyStories excerpt for the others.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openCheckpoint } from '../../../engine/checkpoint/open.ts'
import { measureLosses, schemeUnits } from '../../../engine/compress/mixed-precision/scheme-map.ts'
import type { LossTable } from '../../../engine/compress/mixed-precision/scheme-map.ts'
import { compress } from '../../../engine/compress/pipeline.ts'
import type { Recipe } from '../../../engine/compress/recipe.ts'
import { answerChoiceTask, parseChoiceTask } from '../../../engine/evaluate/choice-task.ts'
import type { ChoiceTask } from '../../../engine/evaluate/choice-task.ts'
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
import type { MeasuredRow, TableSettings } from './compression-file.ts'
import { MSE, mixedCandidates } from './compression-rows.ts'
import { OUTLIERS_SUFFIX, plantOutliers } from './planted-outliers.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const EVALUATION = join(root, 'assets/demo-eval')
const TASKS = ['world_facts', 'reading', 'arithmetic', 'completion']
/** Characters that windows are cut from; 18 windows of 512 tokens of the demo model's text. */
const TEXT_CHARACTERS = 40_000
/** Sequences of the runtime's steps: as many as a task asks at a time. */
const SEQUENCES = 8
/** No item of the demo model's tasks is longer. */
const TASK_TOKENS = 512
/** Windows that a unit's loss is measured on. */
const MIXED_WINDOWS = 4

export interface BenchOptions {
  readonly model: string
  readonly settings: TableSettings
  readonly adapter: string | null
  /** Folder of the test data, for models other than the demo's. */
  readonly data: string
  /** A folder of this process alone. */
  readonly scratch: string
}

interface Subject {
  readonly folder: string
  readonly calibrationFile: string
  readonly text: string
  readonly tasks: readonly ChoiceTask[]
}

export class CompressionBench implements AsyncDisposable {
  readonly #options: BenchOptions
  readonly #subject: Subject
  readonly #backend: Backend
  readonly #baseline: Runtime
  readonly #tokenizer: Tokenizer

  private constructor(options: BenchOptions, subject: Subject, backend: Backend, baseline: Runtime, tokenizer: Tokenizer) {
    this.#options = options
    this.#subject = subject
    this.#backend = backend
    this.#baseline = baseline
    this.#tokenizer = tokenizer
  }

  static async open(options: BenchOptions): Promise<CompressionBench> {
    await mkdir(options.scratch, { recursive: true })
    const subject = await subjectOf(options)
    const backend = await openDevice(options.adapter)
    const tokenizer = await loadTokenizer(subject.folder)
    const baseline = await openModel(backend, subject.folder, 'baseline', options.settings)
    return new CompressionBench(options, subject, backend, baseline, tokenizer)
  }

  /** Compresses, measures, and removes the folder. `recipe` null: the original against itself. */
  async row(group: string, name: string, recipe: Recipe | null, atOnce: number): Promise<MeasuredRow> {
    const { model, settings } = this.#options
    const common = {
      kind: 'row',
      model,
      settings,
      device: this.#backend.id,
      software: this.#backend.software,
      atOnce,
      group,
      name,
    } as const
    if (recipe === null) {
      await using again = await openModel(this.#backend, this.#subject.folder, 'original again', settings)
      const bytes = this.#baseline.info.weightBytes
      return { ...common, bytes, ...(await this.#measure(again)), seconds: null, rssBytes: null, gpuBytes: null }
    }
    const folder = join(this.#options.scratch, 'variant')
    await rm(folder, { recursive: true, force: true })
    const report = await compress({
      sourceFolder: this.#subject.folder,
      outFolder: folder,
      recipe: { recipe },
      seed: 0,
      resume: false,
      latheVersion: 'report',
      calibration: {
        path: this.#subject.calibrationFile,
        samples: settings.samples,
        sequenceLength: settings.sequenceLength,
        seed: 0,
      },
      openBackend: () => openDevice(this.#options.adapter),
    })
    await using candidate = await openModel(this.#backend, folder, 'candidate', settings)
    const { seconds, peakRssBytes: rssBytes, peakGpuBytes, bytesOut: bytes } = report
    return { ...common, bytes, ...(await this.#measure(candidate)), seconds, rssBytes, gpuBytes: peakGpuBytes ?? null }
  }

  /** What each unit alone costs under every candidate of automatic mixed precision, on calibration text. */
  async losses(groupSize: number, onProgress: (done: number, total: number) => void): Promise<LossTable> {
    const calibration = (await readFile(this.#subject.calibrationFile, 'utf8'))
      .split('\n')
      .flatMap((line) => (line.trim() === '' ? [] : [(JSON.parse(line) as { text?: string }).text ?? '']))
      .join('\n\n')
    await using checkpoint = await openCheckpoint(this.#subject.folder)
    const loss = divergenceLoss({
      checkpoint,
      backend: this.#backend,
      baseline: this.#baseline,
      tokenizer: this.#tokenizer,
      text: { name: 'calibration', text: calibration.slice(0, TEXT_CHARACTERS) },
      window: Math.min(256, this.#baseline.info.contextLimit),
      maxWindows: MIXED_WINDOWS,
      observer: MSE,
    })
    return await measureLosses(schemeUnits(checkpoint, mixedCandidates(groupSize)), loss, { onProgress })
  }

  get folder(): string {
    return this.#subject.folder
  }

  async #measure(candidate: Runtime): Promise<Pick<MeasuredRow, 'perplexity' | 'kld' | 'agreement' | 'right'>> {
    const { settings, model } = this.#options
    const window = Math.min(settings.window, this.#baseline.info.contextLimit)
    const { candidate: perplexity, drift } = await measureDrift(
      { baseline: this.#baseline, candidate, scorePair, baselineId: 'baseline' },
      this.#tokenizer,
      { name: model, text: this.#subject.text },
      { protocol: 'rolling', window, maxWindows: settings.windows },
    )
    let right = ''
    for (const task of this.#subject.tasks) {
      const answers = await answerChoiceTask(candidate, this.#tokenizer, task)
      right += answers.right.map((isRight) => (isRight ? '1' : '0')).join('')
    }
    return {
      perplexity: perplexity.value ?? Number.NaN,
      kld: drift.kldMean ?? Number.NaN,
      agreement: drift.top1Agreement ?? Number.NaN,
      right,
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#baseline[Symbol.asyncDispose]()
    await this.#backend[Symbol.asyncDispose]()
  }
}

function openDevice(adapter: string | null): Promise<Backend> {
  return adapter === 'reference' ? Promise.resolve(createReferenceBackend()) : openBackend(adapter, { profile: 'production' })
}

function openModel(backend: Backend, folder: string, modelId: string, { window }: TableSettings): Promise<Runtime> {
  const contextTokens = Math.max(window, TASK_TOKENS)
  return openRuntime({ source: folder, backend, modelId, contextTokens, kvDtype: 'f32', maxSequences: SEQUENCES })
}

/** Where a model lies. A name that ends in the suffix of planted outliers is the model before it, with them. */
export function modelFolder(name: string, data: string): string {
  const base = name.endsWith(OUTLIERS_SUFFIX) ? name.slice(0, -OUTLIERS_SUFFIX.length) : name
  return base === 'demo' ? join(root, 'assets/demo-model') : join(data, 'models', base)
}

async function subjectOf({ model, settings, data, scratch }: BenchOptions): Promise<Subject> {
  let folder = modelFolder(model, data)
  const planted = model.endsWith(OUTLIERS_SUFFIX)
  if (planted) {
    const source = folder
    folder = join(scratch, 'planted')
    await plantOutliers(source, folder)
  }
  if (model.startsWith('demo')) {
    const tasks = await Promise.all(
      TASKS.map(async (task) => parseChoiceTask(task, task, await readFile(join(EVALUATION, `${task}.jsonl`), 'utf8'), settings.items)),
    )
    const text = await readFile(join(EVALUATION, 'perplexity.txt'), 'utf8')
    const calibrationFile = join(EVALUATION, 'calibration.jsonl')
    return { folder, calibrationFile, text: text.slice(0, TEXT_CHARACTERS), tasks }
  }
  const stories = documentsOf(await readFile(join(data, 'text/tinystories.txt'), 'utf8'))
  const half = Math.floor(stories.length / 2)
  const calibrationFile = join(scratch, 'stories.jsonl')
  const lines = stories.slice(0, half).map((text) => JSON.stringify({ text }))
  await writeFile(calibrationFile, lines.join('\n'))
  return { folder, calibrationFile, text: stories.slice(half).join('\n\n').slice(0, TEXT_CHARACTERS), tasks: [] }
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
