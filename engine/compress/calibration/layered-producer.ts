/**
 * Calibrated compression (DESIGN §6): layer by layer, run the calibration activations through it, let the recipe's steps work on it, store it,
 * and go on with the outputs of the layer as stored. Memory is one layer and the activations, whatever the size of the model. Tensors outside
 * the layers stream as they do without calibration.
 */
import type { Checkpoint } from '../../checkpoint/types.ts'
import { storedLinear } from '../../checkpoint/modules.ts'
import { openDequantizer } from '../../checkpoint/dequantize.ts'
import { isDenseDtype, widenToF32 } from '../../checkpoint/dtypes.ts'
import type { Backend } from '../../gpu/program.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { PlanItem } from '../plan.ts'
import type { Producer, ProducerContext } from '../producer.ts'
import { isStoringStep } from '../recipe.ts'
import type { PruningStep, Recipe } from '../recipe.ts'
import { layerOfTensor } from '../same-making.ts'
import type { LayerReport } from '../types.ts'
import type { WorkerPool } from '../worker-pool.ts'
import { createActivationStore } from './activations.ts'
import type { ActivationStore } from './activations.ts'
import { embedTokens } from './embed-samples.ts'
import { LayerRunner } from './layer-runner.ts'
import { LoadedLayer, layerPrefix } from './loaded-layer.ts'
import { withValues } from './memory-checkpoint.ts'
import { layerSparsities, outlierShare, pruneLayer } from './prune-layer.ts'
import type { CalibrationSamples } from './samples.ts'
import { storeLayer } from './store-layer.ts'
import { recoverLayer } from './recover-layer.ts'
import { applyTransform } from './transforms.ts'

export interface LayeredOptions {
  readonly pool: WorkerPool
  readonly signal: AbortSignal | undefined
  readonly backend: Backend
  readonly spec: ModelSpec
  readonly recipe: Recipe
  readonly samples: CalibrationSamples
  /** Modules of each pruning step, by its place in the recipe. */
  readonly pruned: ReadonlyMap<number, ReadonlySet<string>>
  /** What later layers see: outputs of the layer as stored, or of the original one. */
  readonly propagate: 'compressed' | 'original'
  readonly activationBytes: number
  /** Where GPTQ's arithmetic runs; null = by adapter and size. */
  readonly roundOn: 'device' | 'processor' | null
  /** A folder that may be made and removed. */
  readonly spillFolder: string
  /** The output as far as it is written, for layers that an interrupted run finished. */
  readonly written: Checkpoint
  /** Streams what lies outside the layers. */
  readonly outside: Producer
  /** What OWL gives each layer, where a base variant's record tells; null = it is found out. */
  readonly sparsities: ReadonlyMap<number, readonly number[]> | null
  readonly onSparsities: (sparsities: ReadonlyMap<number, readonly number[]>) => void
  readonly onLayer: (report: LayerReport) => void
  readonly onNote: (layer: number, text: string) => void
  readonly onWarning: (text: string) => void
  readonly onPeakBytes: (bytes: number) => void
}

/** Gram matrices held at once on the device; 14336² floats have 822 MB. */
const GRAM_BYTES = 1 << 30
export function layeredProducer(options: LayeredOptions): Producer {
  return async (context) => {
    const { spec, samples } = options
    const inLayers = new Map<number, PlanItem[]>()
    for (const item of context.plan.items) {
      const layer = layerOfTensor(item.source.name)
      // What is kept as it is (a buffer of integers) streams with what lies outside.
      if (item.action !== 'keep' && layer !== null && layer < spec.layers) inLayers.set(layer, [...(inLayers.get(layer) ?? []), item])
    }
    const layered = new Set([...inLayers.values()].flat())
    await options.outside({ ...context, remaining: context.remaining.filter((item) => !layered.has(item)) })
    const isOpen = (layer: number): boolean => inLayers.get(layer)?.some((item) => !context.finished.has(item.source.name)) ?? false
    // Nobody asks for what the layers behind the last open one make of the text.
    const lastOpen = Array.from({ length: spec.layers }, (_, layer) => layer).findLast(isOpen)
    if (lastOpen === undefined) return
    const lengths = samples.samples.map((ids) => ids.length)
    await using runner = await LayerRunner.create(spec, options.backend, lengths, context.throwIfCancelled)
    await using store = createActivationStore(
      runner.groups.map((group) => group.rows),
      spec.hiddenSize,
      { memoryBytes: options.activationBytes, folder: options.spillFolder },
    )
    const run: Run = { context, options, runner, store }
    const sparsities = options.sparsities ?? (await sparsitiesOf(run))
    options.onSparsities(sparsities)
    await embedAll(run)
    const measured: number[] = []
    for (let layer = 0; layer <= lastOpen; layer++) {
      const started = performance.now()
      const items = inLayers.get(layer) ?? []
      const isLast = layer === lastOpen
      if (!isOpen(layer)) {
        options.onNote(layer, 'Finished already: only its outputs are computed')
        await propagate(run, layer, options.propagate === 'original' ? context.source : await readStored(run, layer, items))
        continue
      }
      const report = await compressLayer(run, layer, items, sparsities, isLast)
      const seconds = (performance.now() - started) / 1000
      options.onPeakBytes(runner.peakBytes)
      measured.push(seconds)
      const left = Array.from({ length: lastOpen - layer }, (_, i) => layer + 1 + i).filter(isOpen).length
      options.onLayer({ ...report, layer, layers: spec.layers, seconds, secondsLeft: left * secondsPerLayer(measured) })
    }
  }
}

/** The first layer also pays for compiling kernels, so it counts only while it is all there is. */
function secondsPerLayer(measured: readonly number[]): number {
  const counted = measured.length > 1 ? measured.slice(1) : measured
  return counted.reduce((sum, seconds) => sum + seconds, 0) / counted.length
}

interface Run {
  readonly context: ProducerContext
  readonly options: LayeredOptions
  readonly runner: LayerRunner
  readonly store: ActivationStore
}

async function compressLayer(
  run: Run,
  layer: number,
  items: readonly PlanItem[],
  sparsities: ReadonlyMap<number, readonly number[]>,
  isLast: boolean,
): Promise<Pick<LayerReport, 'outputError'>> {
  const { context, options, runner, store } = run
  const { recipe, pool } = options
  using loaded = await load(run, layer, items)
  for (const item of items) if (!context.finished.has(item.source.name)) context.onBytes('read', item.source.byteLength, item.source.name)
  for (const [index, step] of recipe.steps.entries()) {
    context.throwIfCancelled()
    if (step.kind === 'pruning') {
      const sparsity = sparsities.get(index)?.[layer] ?? step.sparsity
      const { backend, roundOn, signal } = options
      await pruneLayer(loaded, { pool, step, sparsity, modules: options.pruned.get(index) ?? new Set(), backend, roundOn, signal })
    } else if (step.kind === 'recovery') await recoverLayer(loaded, step, options)
    else await applyTransform(step, loaded)
  }
  const storing = recipe.steps.find(isStoringStep)
  const stored = await storeLayer(loaded, {
    context,
    pool,
    backend: options.backend,
    signal: options.signal,
    roundOn: options.roundOn,
    items,
    gptq: storing?.kind === 'gptq' ? storing : null,
  })
  const reference = loaded.referenceOutput
  const before = reference === null ? null : await store.get(0)
  const compressed = withValues(context.source, stored)
  let outputError: number | null = null
  const compare = (output: Float32Array): void => {
    if (reference !== null && before !== null) outputError = relativeError(output, reference, before)
  }
  options.onNote(layer, 'Passing on its outputs')
  if (options.propagate === 'compressed') await propagate(run, layer, compressed, isLast, compare)
  else {
    await runner.outputs(compressed, layer, {
      at: 'layer',
      groups: [0],
      activations: (group) => store.get(group),
      take: (_, output) => {
        compare(output)
        return Promise.resolve()
      },
    })
    if (!isLast) await propagate(run, layer, context.source)
  }
  return { outputError }
}

async function load({ context, options, runner, store }: Run, layer: number, items: readonly PlanItem[]): Promise<LoadedLayer> {
  const storages = new Map(
    items.flatMap((item) => (item.action === 'compress' ? [[item.module, { scheme: item.scheme, observer: item.observer }] as const] : [])),
  )
  options.onNote(layer, 'Reading')
  return LoadedLayer.load({
    source: context.source,
    runner,
    store,
    layer,
    seed: context.seed,
    gramBytes: GRAM_BYTES,
    pool: options.pool,
    storage: (module) => storages.get(module) ?? null,
    note: (text) => options.onNote(layer, text),
    warn: options.onWarning,
    throwIfCancelled: context.throwIfCancelled,
  })
}

async function embedAll({ context, options, runner, store }: Run): Promise<void> {
  const { samples, spec } = options
  for (const [index, group] of runner.groups.entries()) {
    context.throwIfCancelled()
    const ids = samples.samples.slice(group.firstSample, group.firstSample + group.samples)
    const joined = new Uint32Array(group.rows)
    let at = 0
    for (const sample of ids) {
      joined.set(sample, at)
      at += sample.length
    }
    await store.set(index, await embedTokens(context.source, joined, spec.hiddenSize))
  }
}

/** Replaces the activations by the layer's outputs; of the last layer only what the report needs is computed. */
async function propagate(
  { runner, store }: Run,
  layer: number,
  checkpoint: Checkpoint,
  isLast = false,
  onFirst: (output: Float32Array) => void = () => {},
): Promise<void> {
  await runner.outputs(checkpoint, layer, {
    at: 'layer',
    groups: isLast ? [0] : [...runner.groups.keys()],
    activations: (group) => store.get(group),
    async take(group, output) {
      if (group === 0) onFirst(output)
      await store.set(group, output)
    },
  })
}

/** What the output already holds of a layer, decoded as any reader would. */
async function readStored({ context, options }: Run, layer: number, items: readonly PlanItem[]): Promise<Checkpoint> {
  const values = new Map<string, Float32Array>()
  for (const item of items) {
    context.throwIfCancelled()
    if (item.action === 'compress') {
      const linear = await storedLinear(options.written, item.module)
      if (linear === null) throw new Error(`${item.module} is not in the output`)
      const dequantizer = await openDequantizer(options.written, linear)
      values.set(item.source.name, await dequantizer.rows(0, item.rows))
    } else if (isDenseDtype(item.source.dtype)) {
      const bytes = await options.written.open(item.source.name).read(0, item.source.byteLength)
      values.set(item.source.name, widenToF32(bytes, item.source.dtype))
    }
  }
  return withValues(context.source, values)
}

/** OWL looks at every layer of the original model before the first is pruned. */
async function sparsitiesOf(run: Run): Promise<ReadonlyMap<number, readonly number[]>> {
  const { options, context } = run
  const { layers } = options.spec
  const pruning = options.recipe.steps.flatMap((step, index): readonly (readonly [number, PruningStep])[] =>
    step.kind === 'pruning' ? [[index, step]] : [],
  )
  const shares = new Map<number, number[]>(pruning.map(([index]) => [index, []]))
  if (pruning.some(([, step]) => step.owl !== null)) {
    await embedAll(run)
    for (let layer = 0; layer < layers; layer++) {
      context.throwIfCancelled()
      const items = context.plan.items.filter((item) => item.source.name.startsWith(layerPrefix(layer)))
      using loaded = await load(run, layer, items)
      options.onNote(layer, 'Counting outliers')
      for (const [index, step] of pruning) {
        if (step.owl !== null) shares.get(index)?.push(await outlierShare(loaded, options.pruned.get(index) ?? new Set(), step.owl.m))
      }
      if (layer < layers - 1) await propagate(run, layer, context.source)
    }
  }
  return new Map(pruning.map(([index, step]) => [index, layerSparsities(step, shares.get(index) ?? [], layers)]))
}

/** ‖output − reference‖ over what the layer adds to its input. */
function relativeError(output: Float32Array, reference: Float32Array, input: Float32Array): number {
  let error = 0
  let added = 0
  for (let i = 0; i < output.length; i++) {
    error += ((output[i] as number) - (reference[i] as number)) ** 2
    added += ((reference[i] as number) - (input[i] as number)) ** 2
  }
  return added > 0 ? Math.sqrt(error / added) : 0
}
