/**
 * From a choice on the Optimize screen to jobs in the queue: predictions, the checks before a start, and names for what will be written.
 * Sizes come from the compressor, fits from capacity; this file decides only where things go and what stands in the way.
 */
import { access, constants } from 'node:fs/promises'
import { resolve } from 'node:path'
import { DEFAULT_CALIBRATION, LatheError, toErrorShape } from '../contract/index.ts'
import type { Adapter, EvaluationOptions, Job, Preflight, PresetPrediction, Settings, StartCompression } from '../contract/index.ts'
import { calibrationOptions } from './calibration-source.ts'
import { freeBytesAt } from './files.ts'
import { evaluationPlan } from './jobs/evaluation-plan.ts'
import type { EvaluationData } from './jobs/evaluation-plan.ts'
import { requireTokenizer } from './jobs/evaluator.ts'
import type { CompressJobRequest } from './jobs/compress-job.ts'
import { measurable } from './jobs/measuring.ts'
import { compressPhases, evaluationPhases, expectedTime, remoteTextPhase } from './jobs/phases.ts'
import type { JobQueue } from './jobs/queue.ts'
import type { Library } from './library.ts'
import { checkOutputFolder, diskFull, folderName, freeName, inGigabytes, variantName } from './output-folder.ts'
import type { CheckpointPort, CompressPort, FitPort, GpuPort } from './ports.ts'
import { planVariants } from './planned-variants.ts'
import type { PlannedVariant } from './planned-variants.ts'
import type { Recipes } from './recipes.ts'
import type { StoredPhase } from './store/job-store.ts'
import type { ModelRecord } from './store/model-store.ts'

export interface OptimizeParts {
  readonly library: Library
  readonly checkpoint: CheckpointPort
  readonly compressor: CompressPort
  readonly fit: FitPort
  readonly gpu: GpuPort
  readonly queue: JobQueue
  readonly data: EvaluationData
  readonly settings: () => Settings
  readonly defaultFolder: string
  readonly recipes: Recipes
  /** Holds the calibration text that Lathe brings along. */
  readonly assetsFolder: string
  readonly freeBytes?: (path: string) => Promise<number | null>
}

/** Headers, journal, model card and file-system slack on top of the tensors. */
const WRITE_MARGIN_BYTES = 16 * 1024 * 1024
/** Needs no GPU and no text (engine/compress/presets.ts). */
const QUICK_PRESET = 'quick-4bit'
export class Optimize {
  readonly #parts: OptimizeParts
  readonly #freeBytes: (path: string) => Promise<number | null>

  constructor(parts: OptimizeParts) {
    this.#parts = parts
    this.#freeBytes = parts.freeBytes ?? freeBytesAt
  }

  /** Every preset with its exact size and fit for this model, or with what stands in its way. */
  async presets(modelId: string, contextTokens: number): Promise<PresetPrediction[]> {
    const record = await this.#parts.library.usable(modelId)
    const facts = await this.#parts.checkpoint.inspect(record.path)
    const variants = this.#parts.library.family(modelId).filter((variant) => variant.parentId === modelId)
    const recommended = await this.#recommended()
    return Promise.all(
      this.#parts.compressor.listPresets().map(async (listed) => {
        const preset = { ...listed, recommended: recommended === null ? listed.recommended : listed.id === recommended }
        const existingVariantId = variants.find((variant) => variant.presetId === preset.id)?.id ?? null
        try {
          if (record.facts.trouble !== null) await this.#parts.library.runnable(modelId)
          const prediction = await this.#parts.compressor.predict(record.path, preset.id)
          return {
            preset,
            predicted: {
              weightBytes: prediction.weightBytes,
              bitsPerWeight: prediction.bitsPerWeight,
              ...(prediction.range === undefined ? {} : { range: prediction.range }),
              fit: await this.#parts.fit.fit(facts, prediction.weightBytes, contextTokens),
              skippedTensors: prediction.skippedTensors.map((tensor) => ({ ...tensor })),
              source:
                prediction.range === undefined ? 'exact, from the tensor shapes' : 'the least and the most that the search can come to',
            },
            blockedBy: null,
            existingVariantId,
          }
        } catch (error) {
          const shape = toErrorShape(error)
          if (shape.code === 'internal') throw error
          return { preset, predicted: null, blockedBy: shape, existingVariantId }
        }
      }),
    )
  }

  /** Fitting to text on a processor takes minutes where a GPU takes seconds: there the quick preset is the one to begin with. */
  async #recommended(): Promise<string | null> {
    const type = await this.#adapterType()
    const presets = this.#parts.compressor.listPresets()
    // Without an adapter nothing can be fitted at all.
    const slow = type === 'software' || type === 'reference' || type === null
    return slow ? (presets.find(({ id }) => id === QUICK_PRESET)?.id ?? null) : null
  }

  async preflight(request: StartCompression): Promise<Preflight> {
    const record = await this.#parts.library.usable(request.modelId)
    const outputFolder = this.#outputFolder(request)
    const problems: LatheError[] = []
    const warnings: string[] = []
    const check = async (work: () => Promise<void> | void): Promise<void> => {
      try {
        await work()
      } catch (error) {
        if (!(error instanceof LatheError)) throw error
        problems.push(error)
      }
    }
    await check(async () => {
      await this.#parts.library.runnable(request.modelId)
    })
    await check(() => {
      if (wantsText(request.evaluate)) requireTokenizer({ name: record.name, hasTokenizer: record.facts.hasTokenizer })
    })
    if (wantsAny(request.evaluate)) await check(() => this.#checkAdapter())
    await check(() => checkOutputFolder(outputFolder, record.path))
    let needBytes = 0
    const planned: PlannedVariant[] = []
    for (const plan of planVariants(record.path, request, this.#parts)) {
      await check(async () => {
        const one = await plan()
        planned.push(one)
        // Candidates lie side by side until one is kept.
        needBytes += one.candidates * (one.weightBytes + (record.facts.diskBytes - record.facts.weightBytes) + WRITE_MARGIN_BYTES)
      })
    }
    if (planned.some(({ calibrated }) => calibrated)) {
      await check(async () => {
        await this.#checkCalibration(record, request)
        // one that can't be run has its problem already
        if (record.facts.trouble !== null) return
        const needs = await this.#calibrationNeeds(record, request)
        needBytes += needs.spilledBytes
        warnings.push(...needs.warnings)
      })
    }
    for (const { presetId } of planned) {
      const existing = this.#parts.library
        .family(record.id)
        .find((variant) => presetId !== null && variant.parentId === record.id && variant.presetId === presetId)
      if (existing !== undefined)
        warnings.push(`"${existing.name}" was already made with this preset; the new variant gets a name of its own.`)
    }
    const freeBytes = await this.#freeBytes(outputFolder)
    if (freeBytes !== null && needBytes > freeBytes) problems.push(diskFull(outputFolder, needBytes, freeBytes))
    return {
      outputFolder,
      needBytes,
      freeBytes,
      problems: problems.map((problem) => problem.toShape()),
      times: await Promise.all(planned.map((one) => this.#timeOf(record, request, one))),
      warnings: freeBytes === null ? [...warnings, 'This platform does not say how much disk space is free.'] : warnings,
    }
  }

  /** One job per preset, then one per recipe, in the given order. Throws the first problem that `preflight` would show. */
  async start(request: StartCompression): Promise<Job[]> {
    const { problems, outputFolder } = await this.preflight(request)
    const [problem] = problems
    if (problem !== undefined) throw asError(problem)
    const record = await this.#parts.library.runnable(request.modelId)
    const jobs: { readonly planned: PlannedVariant; readonly out: string; readonly phases: StoredPhase[] }[] = []
    // What other jobs have been promised counts as taken.
    const taken = new Set<unknown>(
      this.#parts.queue.requests('compress').flatMap((waiting) => {
        return typeof waiting === 'object' && waiting !== null && 'outFolder' in waiting ? [waiting.outFolder] : []
      }),
    )
    for (const plan of planVariants(record.path, request, this.#parts)) {
      const planned = await plan()
      const out = await freeName(outputFolder, `${folderName(record.name)}-${planned.slug}`, taken)
      taken.add(out)
      const phases = [
        ...(await this.#compressPhases(record, request, planned)),
        ...(await this.#evaluationPhases(record, request.evaluate, 2)),
      ]
      jobs.push({ planned, out, phases })
    }
    return jobs.map(({ planned, out, phases }) => {
      const { presetId, title, slug, yaml, calibrated, holdsWithin } = planned
      const jobRequest: CompressJobRequest = {
        sourceFolder: record.path,
        outFolder: out,
        presetId,
        recipe: yaml,
        holdsWithin,
        calibration: calibrated ? (request.calibration ?? DEFAULT_CALIBRATION) : null,
        baseVariantId: request.baseVariantId,
        sourceName: record.name,
        variantName: variantName(record.name, title, out, slug),
        seed: request.seed,
        evaluate: request.evaluate,
      }
      return this.#parts.queue.enqueue({
        kind: 'compress',
        title: `${record.name} → ${title}`,
        modelId: record.id,
        variantId: null,
        presetId,
        request: jobRequest,
        phases,
      })
    })
  }

  /** One evaluation job per model; variants are measured beside their source, or their drift from the baseline that is named. */
  async evaluate(modelIds: readonly string[], options: EvaluationOptions, baselineId: string | null = null): Promise<Job[]> {
    if (!wantsAny(options)) {
      throw new LatheError('request.invalid', 'Nothing was chosen to measure.', 'Choose at least one of perplexity, tasks and throughput.')
    }
    const records: ModelRecord[] = []
    for (const modelId of new Set(modelIds)) {
      const record = await measurable(this.#parts.library, modelId)
      if (record.origin === 'remote') refuseAllButText(record.name, options)
      else if (wantsText(options)) requireTokenizer({ name: record.name, hasTokenizer: record.facts.hasTokenizer })
      records.push(record)
    }
    const baseline = baselineId === null ? null : await measurable(this.#parts.library, baselineId)
    const jobs: Job[] = []
    for (const record of records) {
      const isVariant = this.#parts.library.familyRoot(record.id).id !== record.id
      const against = baseline === null || baseline.id === record.id ? '' : ` against ${baseline.name}`
      jobs.push(
        this.#parts.queue.enqueue({
          kind: 'evaluate',
          title: `Evaluate ${record.name}${against}`,
          modelId: record.id,
          variantId: isVariant && record.origin === 'folder' ? record.id : null,
          presetId: record.presetId,
          request: { evaluate: options, baselineId },
          phases:
            record.origin === 'remote'
              ? [remoteTextPhase(record.id)]
              : await this.#evaluationPhases(record, options, isVariant || against !== '' ? 2 : 1),
        }),
      )
    }
    return jobs
  }

  async #timeOf(record: ModelRecord, request: StartCompression, planned: PlannedVariant): Promise<Preflight['times'][number]> {
    const phases = await this.#compressPhases(record, request, planned)
    return { title: planned.title, ...expectedTime(phases, (key) => this.#parts.queue.rememberedRate(key)) }
  }

  async #compressPhases(record: ModelRecord, request: StartCompression, planned: PlannedVariant): Promise<StoredPhase[]> {
    const { presetId, slug, weightBytes, calibrated, outcome, candidates } = planned
    const { samples, sequenceLength } = request.calibration ?? DEFAULT_CALIBRATION
    return compressPhases({
      name: presetId ?? slug,
      bytesIn: record.facts.weightBytes,
      bytesOut: weightBytes,
      parameters: record.facts.parameters,
      adapter: (await this.#adapterType()) ?? 'unknown',
      // The most that it can be: texts are cut at this length, and many are shorter.
      calibrationTokens: calibrated ? samples * sequenceLength : null,
      outcome: outcome === null ? null : { kind: outcome, candidates },
    })
  }

  async #adapterType(): Promise<Adapter['type'] | null> {
    const current = await this.#parts.gpu.current().catch((error: unknown) => {
      if (error instanceof LatheError) return null
      throw error
    })
    return current?.type ?? null
  }

  async #evaluationPhases(record: ModelRecord, options: EvaluationOptions, models: 1 | 2): Promise<StoredPhase[]> {
    if (!wantsAny(options)) return []
    const adapter = await this.#parts.gpu.current()
    const root = this.#parts.library.familyRoot(record.id)
    return evaluationPhases({
      options,
      plan: evaluationPlan(adapter.type, root.facts.parameters),
      adapter,
      rootId: root.id,
      parameters: root.facts.parameters,
      models,
      taskCount: this.#parts.data.taskNames(root.isSample).length,
    })
  }

  /** Compressing needs no GPU, measuring does. */
  async #checkAdapter(): Promise<void> {
    await this.#parts.gpu.current().catch((error: unknown) => {
      if (!(error instanceof LatheError)) throw error
      throw new LatheError(error.code, error.message, `${error.hint} Or start without evaluation: compressing needs no GPU.`, {
        cause: error,
      })
    })
  }

  /** The text itself is read by the run; what can be said at once is said here. */
  async #checkCalibration(record: ModelRecord, request: StartCompression): Promise<void> {
    requireTokenizer({ name: record.name, hasTokenizer: record.facts.hasTokenizer })
    await this.#parts.gpu.current()
    const { path } = await calibrationOptions(request.calibration ?? DEFAULT_CALIBRATION, this.#parts.assetsFolder, record.path)
    await access(path, constants.R_OK).catch((cause: unknown) => {
      throw new LatheError('compress.invalid-calibration', `The calibration file ${path} can't be read.`, 'Choose another file.', { cause })
    })
  }

  /** Estimates, so that they warn and do not refuse; only what goes to the disk meanwhile is counted like any other file. */
  async #calibrationNeeds(
    record: ModelRecord,
    request: StartCompression,
  ): Promise<{ readonly spilledBytes: number; readonly warnings: readonly string[] }> {
    const { type } = await this.#parts.gpu.current()
    const needs = await this.#parts.compressor.needs(
      record.path,
      request.calibration ?? DEFAULT_CALIBRATION,
      type === 'software' || type === 'reference',
    )
    const { gpuBudgetBytes: deviceBudgetBytes } = await this.#parts.gpu.state()
    const availableBytes = process.availableMemory()
    const { hostBytes, deviceBytes, spilledBytes } = needs
    const warnings: string[] = []
    if (hostBytes > availableBytes) {
      warnings.push(
        `${layerTakes(hostBytes)} of memory, and ${inGigabytes(availableBytes)} are free: close other programs, or give less text.`,
      )
    }
    if (deviceBudgetBytes !== null && deviceBytes > deviceBudgetBytes) {
      warnings.push(
        `${layerTakes(deviceBytes)} of the device, which has ${inGigabytes(deviceBudgetBytes)}: it may not fit. Shorter samples need less.`,
      )
    }
    return { spilledBytes, warnings }
  }

  #outputFolder(request: StartCompression): string {
    return resolve(request.outputFolder ?? this.#parts.settings().variantsFolder ?? this.#parts.defaultFolder)
  }
}

function wantsAny(options: EvaluationOptions): boolean {
  return options.perplexity || options.tasks || options.throughput
}

function wantsText(options: EvaluationOptions): boolean {
  return options.perplexity || options.tasks
}

/** Tasks and loads of a server are jobs of their own, which say how they are asked. */
function refuseAllButText(name: string, options: EvaluationOptions): void {
  if (!options.tasks && !options.throughput) return
  throw new LatheError(
    'request.invalid',
    `"${name}" runs on a server: only perplexity and drift are measured of it this way.`,
    'Ask tasks with results.evaluateTasks and speeds with benchmarks.start.',
  )
}

function layerTakes(bytes: number): string {
  return `Calibrating a layer takes about ${inGigabytes(bytes)}`
}

function asError(shape: Preflight['problems'][number]): LatheError {
  return new LatheError(shape.code as LatheError['code'], shape.message, shape.hint, shape.data === undefined ? {} : { data: shape.data })
}
