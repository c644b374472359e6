/**
 * What a calibrated run needs before its first layer (everything that can be refused is refused here: text, tokens, architecture, mappings,
 * device), and the producer made of it.
 */
import { join } from 'node:path'
import { openFolder, openRanged } from '../../checkpoint/files.ts'
import type { RangedFile } from '../../checkpoint/files.ts'
import type { ByteSource, Checkpoint } from '../../checkpoint/types.ts'
import { LatheError } from '../../contract/errors.ts'
import type { Backend } from '../../gpu/program.ts'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { describeModel } from '../../model/spec.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import { outputNames, prunedModules } from '../plan.ts'
import type { CompressionPlan } from '../plan.ts'
import type { Producer } from '../producer.ts'
import type { ProgressMeter } from '../progress.ts'
import type { Recipe } from '../recipe.ts'
import { MODEL_FOLDER } from '../resume.ts'
import { sha256 } from '../sha256.ts'
import type { CalibrationRecord, CompressOptions, LayerReport } from '../types.ts'
import type { WorkerPool } from '../worker-pool.ts'
import { layeredProducer } from './layered-producer.ts'
import { calibrationNeeds } from './needs.ts'
import type { CalibrationNeeds } from './needs.ts'
import { checkPruning } from './prune-layer.ts'
import { readSamples } from './samples.ts'
import type { CalibrationSamples } from './samples.ts'
import { checkTransforms } from './transforms.ts'

/** Beyond this, activations go to the disk: 128 samples of 2048 tokens of an 8B model have 4.3 GB. */
const ACTIVATION_BYTES = 2 * 2 ** 30
/** …and beyond this part of what is free: a layer, its Hessians and the files' cache want the rest. */
const FREE_SHARE = 0.25
/** In the partial folder; removed at the end of every run. */
const SPILL_FOLDER = 'activations'

export interface PreparedCalibration extends AsyncDisposable {
  readonly spec: ModelSpec
  readonly backend: Backend
  readonly samples: CalibrationSamples
  readonly pruned: ReadonlyMap<number, ReadonlySet<string>>
  readonly record: CalibrationRecord
  readonly needs: CalibrationNeeds
  readonly activationBytes: number
  /** Of everything that bytes depend on beside source, recipe and seed. */
  readonly sha256: string
  readonly log: readonly { readonly level: 'info' | 'warn'; readonly text: string }[]
  peakGpuBytes(): number
  noteGpuBytes(bytes: number): void
}

/** Throws `compress.invalid-recipe`, `compress.invalid-calibration`, `model.unsupported-architecture`, `tokenizer.*`, `gpu.*`. */
export async function prepareCalibration(options: CompressOptions, source: Checkpoint, recipe: Recipe): Promise<PreparedCalibration> {
  const { calibration, signal } = options
  if (calibration === undefined) {
    throw new LatheError(
      'compress.invalid-recipe',
      'This recipe fits the weights to calibration text, and none was given.',
      'Choose calibration text (--calibration), or a data-free preset.',
    )
  }
  const spec = describeModel(source.config, source.generationConfig)
  checkTransforms(recipe, spec)
  const pruned = new Map<number, ReadonlySet<string>>()
  for (const [index, step] of recipe.steps.entries()) {
    if (step.kind === 'pruning') {
      checkPruning(step)
      pruned.set(index, prunedModules(source, step))
    }
    if (step.kind === 'gptq' && step.actorder === 'group') {
      throw new LatheError(
        'compress.invalid-recipe',
        'The recipe asks for actorder "group", which stores a group index for every column.',
        'Use "static": the same order without the index, and any server reads it at full speed.',
      )
    }
  }
  const tokenizer = await loadTokenizer(options.sourceFolder)
  const samples = await readSamples(calibration, tokenizer, spec.contextLimit, () => signal?.throwIfAborted())
  const backend = await (options.openBackend ?? (() => openBackend(null)))()
  const record: CalibrationRecord = {
    source: samples.source,
    samples: samples.samples.length,
    tokens: samples.tokens,
    sequenceLength: samples.sequenceLength,
    seed: samples.seed,
    sha256: samples.sha256,
    adapter: backend.id,
    propagate: calibration.propagate ?? 'compressed',
  }
  const activationBytes = calibration.activationBytes ?? activationBudget()
  const longest = Math.max(...samples.samples.map((ids) => ids.length))
  const software = backend.kind !== 'webgpu' || backend.software
  const needs = calibrationNeeds(spec, { tokens: samples.tokens, longest, activationBytes, software })
  // Nothing is on the device yet; it says only now what kind it is.
  await options.reserveDevice?.(needs.deviceBytes).catch(async (error: unknown) => {
    await backend[Symbol.asyncDispose]()
    throw error
  })
  let peak = 0
  return {
    spec,
    backend,
    samples,
    pruned,
    record,
    needs,
    activationBytes,
    sha256: sha256(JSON.stringify([samples.sha256, backend.id, record.propagate])),
    log: [
      {
        level: 'info',
        text: `Calibration: ${samples.samples.length} samples, ${samples.tokens} tokens of ${samples.source} (seed ${samples.seed}), on ${backend.id}.`,
      },
      { level: 'info', text: describeNeeds(needs) },
      ...memoryWarnings(needs),
      ...samples.warnings.map((text) => ({ level: 'warn', text }) as const),
    ],
    peakGpuBytes: () => peak,
    noteGpuBytes(bytes) {
      peak = Math.max(peak, bytes)
    },
    async [Symbol.asyncDispose]() {
      await backend[Symbol.asyncDispose]()
    },
  }
}

/** Activations held in memory where nothing else is asked for; the result is the same whatever goes to the disk. */
export function activationBudget(): number {
  return Math.min(ACTIVATION_BYTES, Math.floor(process.availableMemory() * FREE_SHARE))
}

function formatBytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.ceil(bytes / 1e6)} MB`
}

function describeNeeds({ hostBytes, deviceBytes, spilledBytes }: CalibrationNeeds): string {
  const disk = spilledBytes === 0 ? '' : `, ${formatBytes(spilledBytes)} of disk meanwhile`
  return `One layer at a time takes about ${formatBytes(hostBytes)} of memory and ${formatBytes(deviceBytes)} on the device${disk}.`
}

/** A machine that swaps takes hours; said, not refused, since the estimate is one. */
function memoryWarnings({ hostBytes }: CalibrationNeeds): PreparedCalibration['log'] {
  const available = process.availableMemory()
  if (hostBytes <= available) return []
  const text = `Only ${formatBytes(available)} of memory are free: close other programs, or give less calibration text.`
  return [{ level: 'warn', text }]
}

export interface ProducerParts {
  readonly calibration: PreparedCalibration
  readonly options: CompressOptions
  readonly recipe: Recipe
  readonly plan: CompressionPlan
  readonly source: Checkpoint
  readonly pool: WorkerPool
  readonly streaming: Producer
  readonly partial: string
  /** config.json as it will be written. */
  readonly config: Uint8Array
  readonly meter: ProgressMeter
  /** Gets what the run warns of. */
  readonly warnings: string[]
  readonly roundOn: 'device' | 'processor' | null
  /** See LayeredOptions. */
  readonly sparsities: ReadonlyMap<number, readonly number[]> | null
  readonly onSparsities: (sparsities: ReadonlyMap<number, readonly number[]>) => void
  readonly onLayer: (report: LayerReport) => void
}

export function calibratedProducer(parts: ProducerParts): Producer {
  const { calibration, options, recipe, plan, meter, pool, partial } = parts
  const { spec, backend, samples, pruned } = calibration
  let secondsLeft: number | null = null
  return async (context) => {
    await using written = await openWritten(join(partial, MODEL_FOLDER), plan, parts.source, parts.config)
    const produce = layeredProducer({
      pool,
      signal: options.signal,
      backend,
      spec,
      recipe,
      samples,
      pruned,
      propagate: options.calibration?.propagate ?? 'compressed',
      activationBytes: calibration.activationBytes,
      spillFolder: join(partial, SPILL_FOLDER),
      roundOn: parts.roundOn,
      written,
      outside: parts.streaming,
      sparsities: parts.sparsities,
      onSparsities: parts.onSparsities,
      onNote: (layer, note) => meter.setLayer({ layer, layers: spec.layers, note, secondsLeft }),
      onWarning(text) {
        parts.warnings.push(text)
        options.onLog?.({ level: 'warn', text })
      },
      onLayer(report) {
        secondsLeft = report.secondsLeft
        parts.onLayer(report)
        const error = report.outputError === null ? '' : ` output error ${(report.outputError * 100).toPrecision(2)} %,`
        const left = report.secondsLeft > 0 ? `, about ${Math.ceil(report.secondsLeft)} s left` : ''
        const text = `Layer ${report.layer} (${report.layer + 1} of ${report.layers}):${error} ${report.seconds.toFixed(1)} s${left}.`
        options.onLog?.({ level: 'info', text })
      },
      onPeakBytes: (bytes) => calibration.noteGpuBytes(bytes),
    })
    await produce(context)
    meter.setLayer(null)
  }
}

/** The output while it is being written, as a reader sees it: only tensors that the journal knows may be opened. */
async function openWritten(folder: string, plan: CompressionPlan, source: Checkpoint, config: Uint8Array): Promise<Checkpoint> {
  const places = new Map(plan.write.files.flatMap((file) => file.tensors).map((tensor) => [tensor.name, tensor]))
  const names = new Set(plan.items.flatMap((item) => outputNames(item)))
  const tensors = new Map(
    [...places.values()]
      .filter(({ name }) => names.has(name))
      .map(({ name, dtype, shape, byteLength, file }) => [name, { name, dtype, shape, byteLength, file }]),
  )
  const listed = await openFolder(folder)
  const files = new Map<string, Promise<RangedFile>>()
  const fileOf = (name: string): Promise<RangedFile> => {
    const file = files.get(name) ?? openRanged(listed, name)
    files.set(name, file)
    return file
  }
  return {
    folder,
    config: JSON.parse(new TextDecoder().decode(config)) as Record<string, unknown>,
    generationConfig: source.generationConfig,
    quantization: plan.quantization,
    metadata: new Map(),
    files: [],
    tensors,
    open(name): ByteSource {
      const place = places.get(name)
      if (place === undefined) throw new Error(`the output has no tensor ${name}`)
      return {
        byteLength: place.byteLength,
        read: async (offset, length, into) => (await fileOf(place.file)).read(place.offset + offset, length, into),
      }
    },
    async [Symbol.asyncDispose]() {
      for (const file of files.values()) await (await file)[Symbol.asyncDispose]()
    },
  }
}
