/**
 * The compression port over engine/compress. A calibrated run opens a device of its own on the studio's adapter with memory taken from what models may
 * take: it is returned whole at the end, and a lost device takes no chat with it.
 */
import { basename } from 'node:path'
import { openCheckpoint } from '../../checkpoint/open.ts'
import { takenOverBy } from '../../compress/base-variant.ts'
import { planRecipe } from '../../compress/authoring/recipe-plan.ts'
import { calibrationNeeds } from '../../compress/calibration/needs.ts'
import { activationBudget } from '../../compress/calibration/prepare.ts'
import { chooseSchemes, measureLosses, schemeUnits } from '../../compress/mixed-precision/scheme-map.ts'
import type { LossTable } from '../../compress/mixed-precision/scheme-map.ts'
import { proxyLoss } from '../../compress/mixed-precision/sensitivity.ts'
import { updateModelCard } from '../../compress/model-card.ts'
import { compress } from '../../compress/pipeline.ts'
import { predict } from '../../compress/plan.ts'
import { listPresets, presetById, recipeOfChoice } from '../../compress/presets.ts'
import { isLayered } from '../../compress/recipe.ts'
import type { Observer } from '../../compress/recipe.ts'
import { discardPartial } from '../../compress/resume.ts'
import type { CompressOptions } from '../../compress/types.ts'
import type { Backend } from '../../gpu/program.ts'
import { createReferenceBackend } from '../../gpu/reference/backend.ts'
import type { MemoryReservation, ReserveOptions } from '../../runtime/types.ts'
import { benchLoss } from '../layer-divergence.ts'
import { HELD_OUT_DOCUMENTS, openBench, splitText } from '../outcomes/held-out-bench.ts'
import { discardCandidates } from '../outcomes/outcome-state.ts'
import { compressForOutcome } from '../outcomes/run-outcome.ts'
import type { WantedOutcome } from '../outcomes/run-outcome.ts'
import { describeModel } from '../../model/spec.ts'
import type { CompressPort, DeviceListener, LossRequest } from '../ports.ts'

export interface DevicePorts {
  /** A device of the caller's own on the current adapter. */
  open(): Promise<Backend>
  /** Whether that is a GPU rather than a driver on the processor; false where there is none. */
  isHardware(): Promise<boolean>
  /** Unloads models that nobody is using; says which one stays because it is in use. */
  makeRoom(): Promise<string | null>
  /** What models may take of the current adapter; null where nobody knows. */
  budgetBytes(): Promise<number | null>
  /** Memory of the device, from what models may take. */
  reserve(options: ReserveOptions): Promise<MemoryReservation>
}

/** The reference backend generates a few tokens of such a model in a second or two. */
const REFERENCE_TRIAL_BYTES = 16 << 20
/** Beyond this, ten candidates per scale take minutes; the order of layers is the same without the search. */
const SEARCHED_PARAMETERS = 1e9

/** What needs no device: also what fakes are made of. */
export const headersOnly: Pick<
  CompressPort,
  'listPresets' | 'presetRecipe' | 'plan' | 'needs' | 'takesOver' | 'choose' | 'predict' | 'discardPartial' | 'updateModelCard'
> = {
  listPresets,
  presetRecipe: (presetId) => presetById(presetId).recipe,
  discardPartial: async (outFolder) => {
    await discardPartial(outFolder)
    await discardCandidates(outFolder)
  },
  updateModelCard,
  predict: async (folder, presetId) => {
    await using checkpoint = await openCheckpoint(folder)
    return predict(checkpoint, presetId)
  },
  plan: async (folder, recipe) => {
    await using checkpoint = await openCheckpoint(folder)
    return planRecipe(checkpoint, recipe)
  },
  needs: async (folder, { samples, sequenceLength }, software) => {
    await using checkpoint = await openCheckpoint(folder)
    // Every sample at its full length: more than the text will have.
    const size = { tokens: samples * sequenceLength, longest: sequenceLength, activationBytes: activationBudget(), software }
    return calibrationNeeds(describeModel(checkpoint.config, checkpoint.generationConfig), size)
  },
  takesOver: async (folder, recipe, base) => {
    await using checkpoint = await openCheckpoint(folder)
    return takenOverBy(checkpoint, recipe, base)
  },
  choose: async (folder, table, target) => {
    await using checkpoint = await openCheckpoint(folder)
    return chooseSchemes(checkpoint, table, target)
  },
}

export function bindCompress(device: DevicePorts): CompressPort {
  return {
    ...headersOnly,
    compress: async (options, listener) => {
      const { recipe } = recipeOfChoice(options.recipe)
      const wanted = wantedOutcome(options)
      if (wanted === null && !isLayered(recipe)) return compress({ openTrial: () => openTrial(device, options.sourceFolder), ...options })
      await using share = deviceShare(device, options, listener)
      const shared = { ...options, ...share.options }
      return await (wanted === null
        ? compress(shared)
        : compressForOutcome(shared, wanted, { compress, openBackend: () => device.open(), openBench }))
    },
    losses: async (folder, request) => {
      if (request.measure === 'output') return measuredLosses(folder, request, device)
      return weightLosses(folder, request)
    },
  }
}

/** What is measured before a result is kept: the preset's own promise, or that of a recipe. */
function wantedOutcome({ recipe: choice, holdsWithin = null }: CompressOptions): WantedOutcome | null {
  if ('recipe' in choice) return holdsWithin === null ? null : { kind: 'check', recipe: choice.recipe, bound: holdsWithin }
  return presetById(choice.presetId).outcome
}

/** The GPU, or for a small model the processor; a software adapter would only compile for longer than it runs. */
async function openTrial(device: DevicePorts, sourceFolder: string): Promise<Backend | null> {
  if (await device.isHardware()) return device.open()
  await using source = await openCheckpoint(sourceFolder)
  const bytes = [...source.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0)
  return bytes <= REFERENCE_TRIAL_BYTES ? createReferenceBackend() : null
}

interface DeviceShare extends AsyncDisposable {
  readonly options: Pick<CompressOptions, 'openBackend' | 'reserveDevice' | 'onProgress'>
}

/** A device and memory for one calibrated run. Whoever brings a device of its own answers for its memory. */
function deviceShare(device: DevicePorts, options: CompressOptions, listener: DeviceListener | undefined): DeviceShare {
  const { signal } = options
  const name = `Compression of ${options.sourceName ?? basename(options.sourceFolder)}`
  const open = { backend: null as Backend | null, held: null as MemoryReservation | null }
  return {
    options: {
      openBackend: async () => (open.backend = await (options.openBackend ?? (() => device.open()))()),
      async reserveDevice(bytes) {
        if (options.openBackend !== undefined) return true
        if (open.held !== null) return open.held.resize(bytes)
        const budget = await device.budgetBytes()
        if (budget !== null && bytes > budget) options.onLog?.({ level: 'warn', text: tooLarge(bytes, budget) })
        open.held = await device.reserve({ name, bytes, signal, onWait: (message) => listener?.onWait(message) })
        return true
      },
      onProgress(progress) {
        if (open.backend !== null && progress.layer) listener?.onBytes(bytesHeld(open.backend))
        options.onProgress?.(progress)
      },
    },
    [Symbol.asyncDispose]() {
      // The run has disposed of its device, so what was held is free.
      open.held?.[Symbol.dispose]()
      return Promise.resolve()
    },
  }
}

/** Said, not refused: it is an estimate, and the run itself will find out. */
function tooLarge(bytes: number, budget: number): string {
  const [need, has] = [bytes, budget].map((value) => `${(value / 1e9).toPrecision(3)} GB`)
  return `One layer takes about ${need} of the device, which has ${has}: it may not fit. Shorter calibration samples need less.`
}

function bytesHeld(backend: Backend): number {
  return [...backend.usage().values()].reduce((sum, { bytes }) => sum + bytes, 0)
}

/** What rounding loses of each unit's weights. */
export async function weightLosses(folder: string, { schemes, signal, onProgress }: LossRequest): Promise<LossTable> {
  await using checkpoint = await openCheckpoint(folder)
  const units = schemeUnits(checkpoint, schemes)
  return await measureLosses(
    units,
    proxyLoss(checkpoint, observerFor(units), async () => null),
    { signal, onProgress },
  )
}

async function measuredLosses(folder: string, request: LossRequest, device: DevicePorts): Promise<LossTable> {
  const { schemes, signal, onProgress } = request
  await using checkpoint = await openCheckpoint(folder)
  const units = schemeUnits(checkpoint, schemes)
  // What a later check is made on has no say in what is chosen.
  const { choosing } = await splitText(folder, { ...request.text, holdOut: HELD_OUT_DOCUMENTS }, signal)
  await device.makeRoom()
  await using backend = await device.open()
  await using bench = await openBench(folder, choosing, backend, signal)
  return await measureLosses(units, benchLoss(bench, checkpoint, observerFor(units)), { signal, onProgress })
}

function observerFor(units: ReturnType<typeof schemeUnits>): Observer {
  const parameters = units.reduce((sum, unit) => sum + unit.parameters, 0)
  return parameters > SEARCHED_PARAMETERS ? { kind: 'minmax' } : { kind: 'mse', maxShrink: 0.25, grid: 40, norm: 2 }
}
