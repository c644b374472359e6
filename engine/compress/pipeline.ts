/**
 * A compression from start to finish: plan, space check, partial folder with its journal, a producer that fills it, verification, and one
 * rename that gives the folder its name. A folder under the final name is whole or not there, whatever ends the process; the source is only
 * read. Everything about values is in the producer and the algorithms.
 *
 *   <parent>/.<name>.partial/journal.jsonl   what is finished (journal.ts)
 *   <parent>/.<name>.partial/model/          becomes <parent>/<name>
 */
import { access, rename, rm, statfs } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { diskError } from '../checkpoint/files.ts'
import { openCheckpoint } from '../checkpoint/open.ts'
import { createSafetensorsWriter, syncFolder, writeWholeFile } from '../checkpoint/safetensors-writer.ts'
import type { Checkpoint } from '../checkpoint/types.ts'
import { LatheError } from '../contract/errors.ts'
import type { TakenOver, TensorError } from '../contract/index.ts'
import { openBase } from './base-variant.ts'
import type { OpenedBase } from './base-variant.ts'
import { JOURNAL_FILE, openJournal } from './journal.ts'
import type { JournalEntry, ReadJournal } from './journal.ts'
import { JOURNAL_BATCH_BYTES, journaledSink } from './journaled-sink.ts'
import { calibratedProducer, prepareCalibration } from './calibration/prepare.ts'
import { modelCard } from './model-card.ts'
import { placeOf } from './module-roles.ts'
import {
  CARD_FILE,
  RECIPE_FILE,
  RUN_FILE,
  configWithQuantization,
  copySideFiles,
  readCard,
  readConfigBytes,
  sideFilesOf,
} from './output-files.ts'
import { describeRecipe } from './describe-recipe.ts'
import { planCompression } from './plan.ts'
import type { CompressionPlan, PlanItem } from './plan.ts'
import { recipeOfChoice } from './presets.ts'
import { progressMeter } from './progress.ts'
import { recipeToYaml } from './recipe-yaml.ts'
import { MODEL_FOLDER, intactEntries, partialFolderOf, preparePartial, subjectOf } from './resume.ts'
import { isLayered } from './recipe.ts'
import { rotateCheckpoint } from './rotation/rotated-checkpoint.ts'
import { runRecord } from './run-record.ts'
import { checkThatItRuns } from './sanity-check.ts'
import { schemeName } from './scheme.ts'
import { DEFAULT_BLOCK_BYTES, streamingProducer } from './streaming-producer.ts'
import { sameMaking } from './same-making.ts'
import type { Making } from './same-making.ts'
import { takeOver, takenOverSummary } from './take-over.ts'
import type { CalibrationRecord, CompressOptions, CompressReport, CompressTuning, LayerFigures } from './types.ts'
import { verifyOutput } from './verify.ts'
import { createWorkerPool } from './worker-pool.ts'

/** Threads beyond this wait for the disk; each costs about 40 MB. */
const MAX_THREADS = 8
/** Room for journal, run.json, model card and the file system's own blocks. */
const SPARE_BYTES = 4 << 20

/** Activations, cache and tables of the few tokens that a result generates before it is published. */
const SANITY_BYTES = 256 << 20
/** Any tokens do: what is looked for is numbers that are none. Every vocabulary has these. */
const TRIAL_PROMPT = Uint32Array.from({ length: 8 }, (_, i) => i + 1)

/**
 * Compresses `sourceFolder` into `outFolder`. Rejects with a LatheError: `checkpoint.*` for a source that cannot be read or that holds NaN,
 * `compress.*` for what cannot be done, `checkpoint.already-exists`, `disk.full` (data: needBytes, freeBytes), `disk.permission`, `disk.io`,
 * `job.cancelled`. After any of them finished work stays in the partial folder for `resume`.
 */
export async function compress(options: CompressOptions, tuning: CompressTuning = {}): Promise<CompressReport> {
  const started = performance.now()
  const startedAt = new Date()
  const { signal } = options
  const outFolder = resolve(options.outFolder)
  try {
    signal?.throwIfAborted()
    assertOutside(resolve(options.sourceFolder), outFolder)
    await refuseExisting(outFolder)
    await using opened = await openCheckpoint(options.sourceFolder, signal === undefined ? {} : { signal })
    const { preset, recipe } = recipeOfChoice(options.recipe)
    const rotation = recipe.steps.find((step) => step.kind === 'rotation')
    const rotated = rotation === undefined ? null : rotateCheckpoint(opened, rotation, { seed: options.seed })
    const source = rotated?.checkpoint ?? opened
    const plan = planCompression(source, recipe, tuning.maxShardBytes === undefined ? {} : { maxShardBytes: tuning.maxShardBytes })
    const recipeText = recipeToYaml(recipe)
    const configBytes = await readConfigBytes(options.sourceFolder)
    const config = configWithQuantization(configBytes, plan.quantization, rotated?.configChanges ?? {})
    await using calibration = isLayered(recipe) ? await prepareCalibration(options, source, recipe) : null
    const subject = await subjectOf(options, opened, plan, recipeText, configBytes, calibration?.sha256 ?? null)

    const making: Making = { recipe, plan, seed: options.seed, calibration: calibration === null ? null : calibratedOn(calibration.record) }
    await using base = await usableBase(options, source, making)

    const partial = partialFolderOf(outFolder)
    const modelFolder = join(partial, MODEL_FOLDER)
    if (!options.resume && (await exists(partial))) options.onLog?.({ level: 'info', text: 'Discarding an unfinished run.' })
    const previous = await preparePartial(partial, options.resume, subject)
    const side = sideFilesOf(source.files)
    const sideBytes = side.copied.reduce((sum, file) => sum + file.bytes, 0)
    await refuseFullDisk(partial, plan, previous, sideBytes + (calibration?.needs.spilledBytes ?? 0), tuning)

    const meter = progressMeter(plan, options.onProgress)
    for (const note of rotated?.notes ?? []) options.onLog?.({ level: 'info', text: note })
    for (const line of calibration?.log ?? []) options.onLog?.(line)
    for (const warning of plan.warnings) options.onLog?.({ level: 'warn', text: warning })
    if (side.left.length > 0) options.onLog?.({ level: 'info', text: `Not copied: ${side.left.join(', ')}.` })

    await using pool = createWorkerPool(tuning.threads ?? Math.min(availableParallelism(), MAX_THREADS), signal)
    const entries = await intactEntries(modelFolder, plan, previous, signal)
    const tensors: TensorError[] = []
    const warnings = [...plan.warnings]
    const layers = new Map<number, LayerFigures>()
    let sparsities: ReadonlyMap<number, readonly number[]> = new Map()
    let takenOver: TakenOver | null = null
    const report = (item: PlanItem, entry: JournalEntry): void => {
      const error = tensorErrorOf(item, entry, plan.schemeName)
      if (error === null) return
      tensors.push(error)
      options.onTensor?.(error)
    }
    {
      await using writer = await createSafetensorsWriter({
        folder: modelFolder,
        plan: plan.write,
        ...(previous === null ? {} : { resume: { finished: finishedOutputs(entries) } }),
      })
      await using journal = await openJournal(join(partial, JOURNAL_FILE), subject, previous?.validBytes ?? null)
      for (const item of plan.items) {
        const entry = entries.get(item.source.name)
        if (entry === undefined) continue
        meter.skip(item, entry)
        report(item, entry)
      }
      if (entries.size > 0)
        options.onLog?.({ level: 'info', text: `Continuing: ${entries.size} of ${plan.items.length} tensors are finished.` })
      const sink = journaledSink(writer, journal, tuning.journalBatchBytes ?? JOURNAL_BATCH_BYTES, (item, entry) => {
        entries.set(item.source.name, entry)
        meter.finishTensor()
        report(item, entry)
      })
      if (base !== null) {
        const trouble = await takeOver({
          base,
          source,
          making,
          finished: new Map(entries),
          sink,
          pool,
          signal,
          onChecked: (name) => meter.add('read', 0, name),
          onTaken: meter.takeOver,
        })
        await sink.flush()
        if (trouble !== null) options.onLog?.({ level: 'warn', text: `${base.name}: ${trouble}.` })
      }
      takenOver = takenOverSummary(plan, entries, options.base?.name ?? 'another variant')
      if (takenOver !== null) {
        for (const figures of figuresOf(takenOver, base)) layers.set(figures.layer, figures)
        tellTakenOver(takenOver, [...layers.values()], options)
      }
      const streaming = streamingProducer(pool, tuning.blockBytes ?? DEFAULT_BLOCK_BYTES)
      const produce =
        calibration === null
          ? streaming
          : calibratedProducer({
              calibration,
              options,
              recipe,
              plan,
              source,
              pool,
              streaming,
              partial,
              config,
              meter,
              warnings,
              roundOn: tuning.roundOn ?? null,
              sparsities: takenOver === null || base === null ? null : sparsitiesOf(takenOver, base),
              onSparsities: (found) => (sparsities = found),
              onLayer(layer) {
                layers.set(layer.layer, layer)
                options.onLayer?.(layer)
              },
            })
      try {
        await produce({
          source,
          plan,
          remaining: plan.items.filter((item) => !entries.has(item.source.name)),
          finished: entries,
          seed: options.seed,
          sink,
          throwIfCancelled: () => signal?.throwIfAborted(),
          onBytes: meter.add,
        })
      } finally {
        // A failure or a cancel, too, leaves a journal of all that was done. If the disk is what failed, the first error says so.
        await sink.close().catch((error: unknown) => {
          if (signal?.aborted !== true) throw error
        })
      }
      await writer.finish()
    }
    await copySideFiles(
      options.sourceFolder,
      side.copied.map((file) => file.name),
      modelFolder,
    )
    await writeWholeFile(modelFolder, 'config.json', config)
    await writeWholeFile(modelFolder, RECIPE_FILE, Buffer.from(recipeText))
    const remarks = await verifyOutput({
      folder: modelFolder,
      source,
      plan,
      entries,
      pool,
      signal,
      onBytes: (bytes, tensor) => meter.add('verify', bytes, tensor),
    })
    for (const text of remarks) {
      warnings.push(text)
      options.onLog?.({ level: 'warn', text })
    }
    if (calibration !== null) {
      const [prompt = new Uint32Array(1)] = calibration.samples.samples
      const hasRoom = (await options.reserveDevice?.(plan.bytesOut + SANITY_BYTES)) ?? true
      const untried = hasRoom
        ? await checkThatItRuns({ folder: modelFolder, backend: calibration.backend, prompt, signal })
        : `models in use leave too little memory for ${gigabytes(plan.bytesOut)} of weights.`
      logTrial(options, untried)
    } else if (options.openTrial !== undefined) {
      await using trial = await options.openTrial()
      const untried =
        trial === null
          ? 'without a GPU a model of this size takes too long.'
          : await checkThatItRuns({ folder: modelFolder, backend: trial, prompt: TRIAL_PROMPT, signal })
      logTrial(options, untried)
    }

    const order = new Map(plan.items.map((item, i) => [item.source.name.replace(/\.weight$/, ''), i]))
    tensors.sort((a, b) => (order.get(a.name) ?? 0) - (order.get(b.name) ?? 0))
    const result: CompressReport = {
      outFolder,
      presetId: preset?.id ?? null,
      scheme: plan.schemeName,
      bytesIn: plan.bytesIn,
      bytesOut: plan.bytesOut,
      bitsPerWeight: plan.bitsPerWeight,
      seconds: (performance.now() - started) / 1000,
      peakRssBytes: meter.peakRssBytes(),
      peakGpuBytes: calibration?.peakGpuBytes() ?? null,
      calibration: calibration?.record ?? null,
      resumed: previous !== null,
      takenOver,
      tensors,
      ignored: plan.ignored,
      warnings,
    }
    const sourceName = options.sourceName ?? basename(resolve(options.sourceFolder))
    const run = runRecord({
      options,
      plan,
      report: result,
      entries,
      sourceName,
      startedAt,
      recipeText,
      threads: pool.size,
      layers: [...layers.values()],
      sparsities,
    })
    await writeWholeFile(modelFolder, RUN_FILE, Buffer.from(run))
    const card = modelCard({
      name: basename(outFolder),
      sourceName,
      presetTitle: preset?.title ?? null,
      algorithm: describeRecipe(recipe),
      bytesIn: plan.bytesIn,
      bytesOut: plan.bytesOut,
      bitsPerWeight: plan.bitsPerWeight,
      parameters: plan.parameters,
      tensors,
      ignored: plan.ignored,
      latheVersion: options.latheVersion,
      sourceCard: await readCard(options.sourceFolder),
    })
    await writeWholeFile(modelFolder, CARD_FILE, Buffer.from(card))
    await syncFolder(modelFolder)
    options.onLog?.({ level: 'info', text: `Checked by reading back: ${plan.items.length} tensors.` })
    signal?.throwIfAborted()
    await refuseExisting(outFolder)
    await rename(modelFolder, outFolder)
    await syncFolder(dirname(outFolder))
    options.onLog?.({ level: 'info', text: `Saved as ${outFolder}.` })
    await rm(partial, { recursive: true, force: true })
    return result
  } catch (error) {
    if (signal?.aborted === true && !(error instanceof LatheError && error.code !== 'job.cancelled')) {
      throw new LatheError('job.cancelled', 'The compression was cancelled.', 'Resume it to continue with the finished tensors.')
    }
    throw isSystemError(error) ? diskError(error, `writing ${outFolder}`) : error
  }
}

/** null without one, or with one that does not fit, after saying why. */
async function usableBase({ base, onLog }: CompressOptions, source: Checkpoint, making: Making): Promise<OpenedBase | null> {
  if (base === undefined) return null
  const opened = await openBase(base, source)
  const reason = typeof opened === 'string' ? opened : sameMaking(source, making, opened.making).nothing
  if (reason === null && typeof opened !== 'string') return opened
  if (typeof opened !== 'string') await opened[Symbol.asyncDispose]()
  onLog?.({ level: 'warn', text: `Nothing is taken over from ${base.name}: ${reason}.` })
  return null
}

function calibratedOn({ sha256, adapter, propagate }: CalibrationRecord): Making['calibration'] {
  return { sha256, adapter, propagate }
}

function tellTakenOver(takenOver: TakenOver, figures: readonly LayerFigures[], { onLog, onTakenOver }: CompressOptions): void {
  const { from, layers, ofLayers, tensors, ofTensors } = takenOver
  const text = `${layers.length} of ${ofLayers} layers taken over from ${from}: ${tensors} of ${ofTensors} tensors, byte for byte.`
  onLog?.({ level: 'info', text })
  onTakenOver?.(takenOver, figures)
}

function figuresOf(takenOver: TakenOver, base: OpenedBase | null): readonly LayerFigures[] {
  const known = new Map(base?.run.layers.map((layer) => [layer.layer, layer.output_error]))
  return takenOver.layers.map((layer) => ({ layer, outputError: known.get(layer) ?? null }))
}

/** A layer that was taken over says that pruning shares zeros out as it did for the base. */
function sparsitiesOf(takenOver: TakenOver, { run }: OpenedBase): ReadonlyMap<number, readonly number[]> | null {
  const known = Object.entries(run.sparsities).map(([step, shares]) => [Number(step), shares] as const)
  return takenOver.layers.length === 0 || known.length === 0 ? null : new Map(known)
}

function logTrial({ onLog }: CompressOptions, untried: string | null): void {
  const text = untried === null ? 'It runs: a few tokens were generated, all logits finite.' : `It was not run on this device: ${untried}`
  onLog?.({ level: untried === null ? 'info' : 'warn', text })
}

function assertOutside(source: string, out: string): void {
  const step = relative(source, out)
  const isInside = step === '' || (!step.startsWith('..') && resolve(source, step) === out)
  if (!isInside) return
  throw new LatheError(
    'request.invalid',
    `The output folder ${out} lies inside the source model.`,
    'Choose a folder outside of it: Lathe never writes to the source.',
  )
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

async function refuseExisting(outFolder: string): Promise<void> {
  if (!(await exists(outFolder))) return
  throw new LatheError('checkpoint.already-exists', `${outFolder} exists already.`, 'Open it, or choose another output folder.')
}

async function refuseFullDisk(
  partial: string,
  plan: CompressionPlan,
  previous: ReadJournal | null,
  sideBytes: number,
  tuning: CompressTuning,
): Promise<void> {
  const written = previous?.entries.flatMap((entry) => entry.outputs).reduce((sum, output) => sum + output.bytes, 0) ?? 0
  const needBytes = Math.max(0, plan.write.fileBytes - written) + sideBytes + SPARE_BYTES
  const freeBytes = await (tuning.freeBytes ?? freeBytesOf)(partial)
  if (freeBytes >= needBytes) return
  if (previous === null) await rm(partial, { recursive: true, force: true })
  throw new LatheError(
    'disk.full',
    `The result needs ${gigabytes(needBytes)}, and the disk of ${dirname(partial)} has ${gigabytes(freeBytes)} free.`,
    'Free some space, or choose an output folder on another disk.',
    { data: { needBytes, freeBytes } },
  )
}

async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder)
  return bavail * bsize
}

function gigabytes(bytes: number): string {
  return bytes >= 1e8 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(1)} MB`
}

function finishedOutputs(entries: ReadonlyMap<string, JournalEntry>): ReadonlySet<string> {
  return new Set([...entries.values()].flatMap((entry) => entry.outputs.map((output) => output.name)))
}

function tensorErrorOf(item: PlanItem, entry: JournalEntry, pruning: string): TensorError | null {
  if (item.action === 'keep' || entry.figures === null) return null
  const { sqnrDb, relativeError, maxError, cosine } = entry.figures
  return {
    name: item.module,
    ...placeOf(item.module),
    scheme: item.action === 'compress' ? schemeName(item.scheme) : pruning,
    sqnrDb,
    relativeError,
    maxError,
    cosine,
    bytes: entry.outputs.reduce((sum, output) => sum + output.bytes, 0),
  }
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && 'syscall' in error
}
