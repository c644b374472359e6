/**
 * One compression and what belongs to it: compress, register the variant, record the per-tensor errors, then the chosen evaluation against the
 * source. The compression's own journal makes its part resumable; the phases of this job make the rest so.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { CalibrationChoiceSchema, EvaluationOptionsSchema, LatheError } from '../../contract/index.ts'
import type { Provenance, TensorError } from '../../contract/index.ts'
import { parseRecipeYaml } from '../../compress/recipe-yaml.ts'
import type { CompressOptions, CompressProgress, CompressStage } from '../../compress/types.ts'
import type { Library } from '../library.ts'
import { calibrationOptions } from '../calibration-source.ts'
import type { CompressPort, GpuPort } from '../ports.ts'
import type { Results } from '../results.ts'
import type { JobRecord } from '../store/job-store.ts'
import { readRunRecord } from '../run-record.ts'
import { refOf, writeCard } from './evaluate-job.ts'
import type { Evaluator } from './evaluator.ts'
import { LayerTally } from './layer-tally.ts'
import type { JobContext, JobWorker } from './worker.ts'

export const CompressRequestSchema = z.object({
  sourceFolder: z.string(),
  outFolder: z.string(),
  /** null where `recipe` says what to do. */
  presetId: z.string().nullable(),
  /** Fields below are younger than the first stored requests. Most divergence that a recipe promises, measured at the end. */
  holdsWithin: z.number().nullable().default(null),
  /** A recipe's text; null = that of the preset. */
  recipe: z.string().nullable().default(null),
  calibration: CalibrationChoiceSchema.nullable().default(null),
  /** Younger still: a variant to take unchanged tensors over from. */
  baseVariantId: z.string().nullable().default(null),
  variantName: z.string(),
  sourceName: z.string(),
  seed: z.number().int(),
  evaluate: EvaluationOptionsSchema,
})
export type CompressJobRequest = z.infer<typeof CompressRequestSchema>

const PHASES: readonly string[] = ['layers', 'read', 'quantize', 'write', 'verify', 'measure']

export interface CompressJobParts {
  readonly compressor: CompressPort
  readonly library: Library
  readonly results: Results
  readonly evaluator: Evaluator
  readonly gpu: GpuPort
  /** Holds the calibration text that Lathe brings along. */
  readonly assetsFolder: string
  readonly latheVersion: string
  readonly now?: () => Date
}

export class CompressWorker implements JobWorker {
  readonly #parts: CompressJobParts

  constructor(parts: CompressJobParts) {
    this.#parts = parts
  }

  async run(context: JobContext): Promise<void> {
    const request = CompressRequestSchema.parse(context.job.request)
    const source = await this.#parts.library.usable(context.job.modelId)
    const variantId = context.job.variantId ?? (await this.#compress(context, request, source.path))
    const variant = await this.#parts.library.usable(variantId)
    await this.#parts.evaluator.run(context, {
      subject: refOf(variant),
      baseline: refOf(source),
      isDemoFamily: source.isSample,
      parameters: source.facts.parameters,
      options: request.evaluate,
    })
    await writeCard(context, variant, this.#parts)
  }

  async discard(job: JobRecord): Promise<void> {
    // a registered variant is whole and the user's; only what never became one goes
    if (job.variantId !== null) return
    await this.#parts.compressor.discardPartial(CompressRequestSchema.parse(job.request).outFolder)
  }

  async #compress(context: JobContext, request: CompressJobRequest, sourceFolder: string): Promise<string> {
    const { library, results } = this.#parts
    const tensorErrors = (await this.#adopt(context, request)) ?? (await this.#produce(context, request, sourceFolder))
    for (const phase of PHASES) if (hasPhase(context, phase)) context.finish(phase)
    const variant = await library.registerVariant({
      folder: request.outFolder,
      parentId: context.job.modelId,
      presetId: request.presetId,
      name: request.variantName,
    })
    const measuredAt = (this.#parts.now?.() ?? new Date()).toISOString()
    results.record(
      { kind: 'compression', payload: tensorErrors },
      {
        modelId: variant.id,
        protocolKey: 'compression:weights',
        provenance: {
          ...(await this.#workedOn(request)),
          latheVersion: this.#parts.latheVersion,
          platform: `${process.platform} ${process.arch}`,
          measuredAt,
        },
        jobId: context.job.id,
      },
    )
    context.setVariant(variant.id)
    return variant.id
  }

  /** Rounding alone runs on the processor; what is fitted to calibration text runs on the device. */
  async #workedOn({ calibration }: CompressJobRequest): Promise<Pick<Provenance, 'adapter' | 'adapterType' | 'driver'>> {
    if (calibration === null) return { adapter: 'CPU', adapterType: 'software', driver: `Node ${process.versions.node}` }
    const { name, type, driver } = await this.#parts.gpu.current()
    return { adapter: name, adapterType: type, driver }
  }

  /** A run that was killed between the last rename and its own record has left a whole folder: it is taken over, not made again. */
  async #adopt(context: JobContext, request: CompressJobRequest): Promise<readonly TensorError[] | null> {
    if (!context.resumed) return null
    const run = await readRunRecord(request.outFolder)
    if (run === null || run.presetId !== request.presetId || run.seed !== request.seed) return null
    if (request.recipe !== null && (await readFile(join(request.outFolder, 'recipe.yaml'), 'utf8').catch(() => null)) !== request.recipe)
      return null
    context.log('info', `${request.outFolder} was finished before the interruption.`)
    return run.tensorErrors
  }

  /** One that has gone meanwhile costs time, not the job. */
  async #base(context: JobContext, { baseVariantId }: CompressJobRequest): Promise<Pick<CompressOptions, 'base'>> {
    if (baseVariantId === null) return {}
    try {
      const { path, name } = await this.#parts.library.usable(baseVariantId)
      return { base: { folder: path, name } }
    } catch (error) {
      if (!(error instanceof LatheError)) throw error
      context.log('warn', `Everything is computed: ${error.message}`)
      return {}
    }
  }

  async #produce(context: JobContext, request: CompressJobRequest, sourceFolder: string): Promise<readonly TensorError[]> {
    const { calibration } = request
    const { compressor, assetsFolder, latheVersion } = this.#parts
    const layers = new LayerTally(context, calibration !== null)
    let candidate: string | null = null
    const report = await compressor.compress(
      {
        sourceFolder,
        outFolder: request.outFolder,
        recipe: recipeOf(request),
        holdsWithin: request.holdsWithin,
        ...(calibration === null ? {} : { calibration: await calibrationOptions(calibration, assetsFolder, sourceFolder) }),
        seed: request.seed,
        resume: true,
        latheVersion,
        sourceName: request.sourceName,
        signal: context.signal,
        onProgress: (progress) => {
          if (progress.stage?.id === 'candidate' && progress.stage.title !== candidate) {
            if (candidate !== null) layers.restart()
            candidate = progress.stage.title
          }
          showProgress(context, progress)
          layers.at(progress)
        },
        ...(await this.#base(context, request)),
        onTakenOver: (what, figures) => layers.takeOver(what, figures),
        onLayer: (layer) => layers.finish(layer.layer, layer.layers, layer.outputError, layer.seconds),
        onTensor: (tensor) => layers.tensor(tensor),
        onLog: (line) => context.log(line.level, line.text),
      },
      {
        onBytes: (bytes) => layers.device(bytes),
        onWait(message) {
          context.working(message)
          context.log('info', message)
        },
      },
    )
    const ratio = report.bytesIn === 0 ? 1 : report.bytesOut / report.bytesIn
    context.log(
      'info',
      `Wrote ${report.bytesOut} bytes, ${(ratio * 100).toFixed(1)} % of ${report.bytesIn}, in ${report.seconds.toFixed(1)} s.`,
    )
    return report.tensors
  }
}

function recipeOf({ presetId, recipe }: CompressJobRequest): Parameters<CompressPort['compress']>[0]['recipe'] {
  if (recipe !== null) return { recipe: parseRecipeYaml(recipe) }
  if (presetId === null) throw new Error('A compression has neither a preset nor a recipe.')
  return { presetId }
}

function showProgress(context: JobContext, progress: CompressProgress): void {
  // What is taken over is compared with its source first, which moves no bytes.
  const { currentTensor, phases } = progress
  if (currentTensor !== null && phases.every(({ doneBytes }) => doneBytes === 0)) context.working(`Checking ${currentTensor}`)
  const { stage } = progress
  if (stage !== undefined && stage.id !== 'candidate') {
    showMeasuring(context, stage)
    return
  }
  // Candidates are one after another: what those before have done counts, and so does what is to come.
  const { finished, total } = stage ?? { finished: 0, total: 1 }
  const item = stage === undefined ? progress.currentTensor : `${stage.title}: ${progress.currentTensor ?? ''}`
  for (const phase of progress.phases) {
    if (phase.doneBytes > 0 || finished > 0 || phase.id === progress.current) {
      context.advance(phase.id, finished * phase.totalBytes + phase.doneBytes, total * phase.totalBytes, item)
    }
  }
}

function showMeasuring(context: JobContext, { id, title, finished, total, done, of }: CompressStage): void {
  if (hasPhase(context, id)) context.advance(id, id === 'measure' ? finished * of + done : done, id === 'measure' ? total * of : of, title)
  else context.working(title)
}

/** Jobs of earlier versions have no phases for measuring. */
function hasPhase(context: JobContext, id: string): boolean {
  return context.job.phases.some((phase) => phase.id === id)
}
