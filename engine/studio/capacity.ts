/**
 * Capacity planning for the library: who the subject and the device are, what was measured of them, and the planner's answer. Calibrations are
 * kept per adapter and driver, so that an estimate made tomorrow is of the same machine. No arithmetic lives here.
 */
import { DEVICES, findDevice } from '../capacity/devices.ts'
import { limitsOfCalibration } from '../capacity/machine.ts'
import { modelShapeOf, parametersOf } from '../capacity/model-shape.ts'
import { planCapacity, schemeFacts } from '../capacity/planner.ts'
import type { PlanMachine, PlanSubject } from '../capacity/planner.ts'
import { PUBLISHED_MODELS } from '../capacity/published-models.ts'
import { decodeTokensPerSecond, prefillSeconds } from '../capacity/roofline.ts'
import { STORAGE_SCHEMES } from '../capacity/storage-schemes.ts'
import { LatheError } from '../contract/index.ts'
import type { CapacityCatalog, CapacityPlan, CapacityRequest, HardwareBenchmark, PredictionCheck } from '../contract/index.ts'
import { subjectOfFolder, subjectOfPublished } from './capacity-subject.ts'
import type { Library } from './library.ts'
import type { CheckpointPort, GpuPort } from './ports.ts'
import type { Results } from './results.ts'
import type { CalibrationStore } from './store/calibration-store.ts'
import type { StoredResult } from './store/result-store.ts'

export interface CapacityParts {
  readonly library: Library
  readonly checkpoint: CheckpointPort
  readonly gpu: GpuPort
  readonly results: Results
  readonly calibrations: CalibrationStore
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
    if (request.schemeId !== null && !STORAGE_SCHEMES.some((scheme) => scheme.id === request.schemeId)) {
      throw new LatheError(
        'request.invalid',
        `There is no storage scheme "${request.schemeId}".`,
        `Choose one of ${STORAGE_SCHEMES.map((scheme) => scheme.id).join(', ')}.`,
      )
    }
    const subject =
      request.subject.kind === 'published' ? subjectOfPublished(request.subject.id) : await this.#subjectOf(request.subject.modelId)
    return planCapacity(request, subject, await this.#machine(request.deviceId))
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

  async #machine(deviceId: string | null): Promise<PlanMachine> {
    if (deviceId !== null) return machineOfDevice(deviceId)
    const { gpu, calibrations } = this.#parts
    const { adapters } = await gpu.state()
    const adapter = adapters.find((candidate) => candidate.selected)
    if (adapter === undefined)
      throw new LatheError('gpu.no-adapter', 'This machine has no usable adapter to plan for.', 'Choose a GPU by name.')
    const software = adapter.type === 'software' || adapter.type === 'reference'
    return {
      title: adapter.name,
      device: software ? null : findDevice(adapter.name),
      calibration: calibrations.get(adapter),
      memoryBytes: adapter.memory.totalBytes,
      software,
    }
  }
}

type ThroughputRecord = Extract<StoredResult, { readonly kind: 'throughput' }>

/** Throws `request.invalid` where the table has no such device. */
export function machineOfDevice(name: string): PlanMachine {
  const device = DEVICES.find((candidate) => candidate.id === name) ?? findDevice(name)
  if (device === null) {
    throw new LatheError(
      'request.invalid',
      `The table of GPUs has no "${name}".`,
      `It has ${DEVICES.map((candidate) => candidate.name).join(', ')}.`,
    )
  }
  return { title: device.name, device, calibration: null, memoryBytes: device.memoryBytes, software: false }
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
