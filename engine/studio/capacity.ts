/**
 * Capacity planning for the library: who the subject and the device are, what was measured of them, and the planner's answer. Calibrations are
 * kept per adapter and driver, so that an estimate made tomorrow is of the same machine. No arithmetic lives here.
 */
import { DEVICES } from '../capacity/devices.ts'
import { limitsOfCalibration } from '../capacity/machine.ts'
import { modelShapeOf, parametersOf } from '../capacity/model-shape.ts'
import { planCapacity, schemeFacts } from '../capacity/planner.ts'
import type { PlanSubject } from '../capacity/planner.ts'
import { PUBLISHED_MODELS } from '../capacity/published-models.ts'
import { decodeTokensPerSecond, prefillSeconds } from '../capacity/roofline.ts'
import { STORAGE_SCHEMES } from '../capacity/storage-schemes.ts'
import { LatheError } from '../contract/index.ts'
import type { CapacityCatalog, CapacityPlan, CapacityRequest, HardwareBenchmark, PredictionCheck } from '../contract/index.ts'
import { machineHere, machineOfDevice } from './capacity-machine.ts'
import { subjectOfFolder, subjectOfPublished } from './capacity-subject.ts'
import type { Library } from './library.ts'
import type { CheckpointPort, CurrentAdapter, EnginePorts, GpuPort, ModelRef, ModelsPort } from './ports.ts'
import type { Results } from './results.ts'
import type { CalibrationStore } from './store/calibration-store.ts'
import type { OverheadStore } from './store/overhead-store.ts'
import type { StoredResult } from './store/result-store.ts'

export interface CapacityParts {
  readonly library: Library
  readonly checkpoint: CheckpointPort
  readonly gpu: GpuPort
  readonly models: Pick<ModelsPort, 'loaded'>
  readonly results: Results
  readonly calibrations: CalibrationStore
  readonly overheads: Pick<OverheadStore, 'get'>
}

export class Capacity {
  readonly #parts: CapacityParts

  constructor(parts: CapacityParts) {
    this.#parts = parts
  }

  catalog(): CapacityCatalog {
    return {
      devices: DEVICES.map(({ id, name, vendor, memoryBytes, gigabytesPerSecond, watts, confidence, source }) => ({
        id,
        name,
        vendor,
        memoryBytes,
        gigabytesPerSecond,
        watts,
        confidence,
        source,
      })),
      models: PUBLISHED_MODELS.map(({ id, name, config }) => {
        const shape = modelShapeOf(config)
        return { id, name, parameters: parametersOf(shape), contextLimit: shape.contextLimit }
      }),
      schemes: STORAGE_SCHEMES.map((scheme) => schemeFacts(scheme, null)),
    }
  }

  async plan(request: CapacityRequest): Promise<CapacityPlan> {
    requireScheme(request.schemeId)
    const { gpu, models, calibrations, overheads } = this.#parts
    const { subject, deviceId } = request
    const planned = subject.kind === 'published' ? subjectOfPublished(subject.id) : await this.#subjectOf(subject.modelId)
    const own = subject.kind === 'model' ? subject.modelId : null
    const here = {
      gpu,
      models,
      calibrationOf: (adapter: CurrentAdapter) => calibrations.get(adapter),
      overheadOf: (adapter: CurrentAdapter) => overheads.get(adapter),
    }
    return planCapacity(request, planned, deviceId === null ? await machineHere(here, own) : machineOfDevice(deviceId))
  }

  /** Runs the calibration and keeps it. */
  async calibrate(signal: AbortSignal): Promise<HardwareBenchmark> {
    const { gpu, calibrations } = this.#parts
    const adapter = await gpu.current()
    const calibration = await gpu.benchmark(signal)
    calibrations.put(adapter, calibration)
    return calibration
  }

  /** Speeds measured on the current adapter beside what the calibration predicts for the same load; empty without a calibration. */
  async checks(): Promise<PredictionCheck[]> {
    const { library, gpu, calibrations } = this.#parts
    const adapter = await gpu.current().catch(() => null)
    const calibration = adapter === null ? null : calibrations.get(adapter)
    if (adapter === null || calibration === null) return []
    const checks: PredictionCheck[] = []
    for (const model of await library.list()) {
      const measured = this.#throughput(model.id, adapter.name)
      if (model.status !== 'ready' || measured === null) continue
      const subject = await this.#subjectOf(model.id)
      checks.push(...predictionsFor({ modelId: model.id, subject, calibration, measured, adapter: adapter.name }))
    }
    return checks
  }

  async #subjectOf(modelId: string): Promise<PlanSubject> {
    const { library, checkpoint, gpu } = this.#parts
    const record = await library.usable(modelId)
    const adapter = await gpu.current().catch(() => null)
    const stored = adapter === null ? null : this.#throughput(modelId, adapter.name)
    return subjectOfFolder(record.name, await checkpoint.inspect(record.path), stored === null ? null : measuredOf(stored))
  }

  #throughput(modelId: string, adapterName: string): ThroughputRecord | null {
    const found = this.#parts.results
      .current(modelId)
      .findLast((result) => result.kind === 'throughput' && result.provenance.adapter === adapterName)
    return found?.kind === 'throughput' ? found : null
  }
}

type ThroughputRecord = Extract<StoredResult, { readonly kind: 'throughput' }>

/**
 * The same plan for a folder that is in no library and on an adapter that was never calibrated. `readers`: runtimes on the same device that only read
 * prompts, each with the weights and one context of its own.
 */
export async function planForFolder(
  { gpu, models, checkpoint }: Pick<EnginePorts, 'gpu' | 'models' | 'checkpoint'>,
  { modelId, name, folder }: ModelRef,
  request: CapacityRequest,
  readers = 0,
): Promise<CapacityPlan> {
  requireScheme(request.schemeId)
  const { deviceId } = request
  const subject = subjectOfFolder(name, await checkpoint.inspect(folder))
  const here = { gpu, models, calibrationOf: () => null, overheadOf: () => null }
  const machine = deviceId === null ? await machineHere(here, modelId) : machineOfDevice(deviceId)
  if (readers === 0) return planCapacity(request, subject, machine)
  const { weightBytes, kvBytes, activationBytes } = planCapacity({ ...request, concurrency: 1 }, subject, machine).parts
  const residentBytes = (machine.residentBytes ?? 0) + readers * (weightBytes + kvBytes + activationBytes)
  return planCapacity(request, subject, { ...machine, residentBytes })
}

/** Throws `request.invalid` for a scheme that the catalog has not; null is none. */
function requireScheme(schemeId: string | null): void {
  if (schemeId === null || STORAGE_SCHEMES.some((scheme) => scheme.id === schemeId)) return
  throw new LatheError(
    'request.invalid',
    `There is no storage scheme "${schemeId}".`,
    `Choose one of ${STORAGE_SCHEMES.map((scheme) => scheme.id).join(', ')}.`,
    { data: { param: 'scheme' } },
  )
}

function measuredOf({ payload, provenance }: ThroughputRecord): CapacityPlan['measured'] {
  return {
    decodeTokensPerSecond: payload.decodeTokensPerSecond.median,
    prefillTokensPerSecond: payload.prefillTokensPerSecond.median,
    firstTokenMs: payload.timeToFirstTokenMs.median,
    promptTokens: payload.promptTokens,
    peakGpuBytes: payload.peakGpuBytes,
    provenance,
  }
}

const F16_BYTES = 2

function predictionsFor(input: {
  readonly modelId: string
  readonly subject: PlanSubject
  readonly calibration: HardwareBenchmark
  readonly measured: ThroughputRecord
  readonly adapter: string
}): PredictionCheck[] {
  const { modelId, subject, calibration, measured, adapter } = input
  const limits = limitsOfCalibration(calibration, subject.stored.scheme)
  if (limits === null) return []
  const { promptTokens, generatedTokens, decodeTokensPerSecond: decode, prefillTokensPerSecond: prefill } = measured.payload
  const placement = {
    shape: subject.shape,
    weights: subject.stored.weights,
    kvBytesPerElement: F16_BYTES,
    tensorParallel: 1,
    parts: subject.stored.parts,
  }
  const context = promptTokens + generatedTokens / 2
  const common = { modelId, name: subject.title, adapter }
  return [
    {
      ...common,
      quantity: 'decode',
      predicted: {
        low: decodeTokensPerSecond(placement, 1, context, limits.low),
        high: decodeTokensPerSecond(placement, 1, context, limits.high),
      },
      measured: decode.median,
    },
    {
      ...common,
      quantity: 'prefill',
      predicted: {
        low: promptTokens / prefillSeconds(placement, promptTokens, limits.low),
        high: promptTokens / prefillSeconds(placement, promptTokens, limits.high),
      },
      measured: prefill.median,
    },
  ]
}
