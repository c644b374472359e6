/**
 * The questions of capacity planning answered for one model on one kind of device: does it fit, at what context and concurrency, in which scheme,
 * how fast, within which SLO, for how many people, at what cost (specs/benchmark.md §7). Pure: everything it knows is handed in.
 */
import type {
  CapacityPlan,
  CapacityRequest,
  Estimate,
  HardwareBenchmark,
  InputElement,
  KvElement,
  SchemeOption,
  StorageScheme,
} from '../contract/index.ts'
import { latheBytesPerPosition, latheStepMemory, reserveBytes, stagingBytesOf, vllmStepMemory } from './budget.ts'
import type { Device } from './devices.ts'
import { DEFAULT_KV_DTYPE, kvRowBytes } from '../gpu/kv-format.ts'
import type { StepParts } from '../gpu/step-costs.ts'
import { fitOf, marginBytes } from './fit.ts'
import { kvRoom, latheKvBytes, latheSequences, roundToBlocks, vllmKvBytes } from './kv-room.ts'
import { kvBytesPerToken, kvElementBytes } from './kv-memory.ts'
import { limitsOfCalibration, limitsOfDevice } from './machine.ts'
import type { LimitsRange } from './machine.ts'
import type { ModelShape } from './model-shape.ts'
import { decodeTokensPerSecond, prefillSeconds } from './roofline.ts'
import type { Placement } from './roofline.ts'
import { type MeasuredOverhead, withOverhead } from './overhead.ts'
import { planService } from './service.ts'
import { STORAGE_SCHEMES, type StorageSchemeSpec, type WeightParts, cautionOn, totalBytes, weightPartsOf } from './storage-schemes.ts'
import { PARALLEL_COUNTS, parallelObstacle } from './tensor-parallel.ts'

interface StoredModel {
  readonly title: string
  readonly scheme: StorageSchemeSpec
  readonly weights: WeightParts
  /** Of the program that runs it, each matrix by its own format; absent or null where there is none. */
  readonly parts?: StepParts | null
  /** What inputs of its products are rounded to; absent = nothing. */
  readonly inputs?: readonly InputElement[]
}

/** The model as it is, before any "what if". */
export interface PlanSubject {
  readonly title: string
  readonly shape: ModelShape
  readonly parameters: number
  /** How the files are stored; the nearest scheme stands for its kernels. */
  readonly stored: StoredModel
  readonly measured: CapacityPlan['measured']
  /** The type of cache that the checkpoint names; absent or null = none. */
  readonly kvElement?: KvElement | null
}

/** The device, by table or by calibration. */
export interface PlanMachine {
  readonly title: string
  readonly device: Device | null
  readonly calibration: HardwareBenchmark | null
  readonly memoryBytes: number | null
  /** Who says so. */
  readonly memorySource?: string
  /** Of it, free at the moment. */
  readonly freeBytes?: number | null
  /** What other models hold that are in use here, and stay. */
  readonly residentBytes?: number
  /** What loads of Lathe took here beyond their prediction; absent or null = nothing was measured. */
  readonly overhead?: MeasuredOverhead | null
  readonly software: boolean
}

/** A request with its cache decided. */
type PlanRequest = CapacityRequest & { readonly kvElement: KvElement }

export function planCapacity(asked: CapacityRequest, subject: PlanSubject, machine: PlanMachine): CapacityPlan {
  const { kvElement: named = null } = subject
  const request: PlanRequest = {
    ...asked,
    kvElement: asked.kvElement === 'auto' ? (named ?? DEFAULT_KV_DTYPE) : asked.kvElement,
    ...(asked.kvElement === 'auto' && { kvValueElement: undefined }),
  }
  const chosen = STORAGE_SCHEMES.find((candidate) => candidate.id === request.schemeId)
  const current: StoredModel =
    chosen === undefined
      ? subject.stored
      : { title: chosen.title, scheme: chosen, weights: weightPartsOf(subject.shape, chosen), inputs: inputsOf(chosen) }
  const { shape } = subject
  const choices = parallelChoices(request, shape, current, machine)
  const count = chooseParallel(request, choices)
  const layout = layoutOf(request, shape, current, machine, count)
  const limits = limitsFor(machine, current.scheme, request)
  const placement = { ...placementOf(request, shape, current.weights, count), parts: current.parts }
  const { fit, parts, room } = layout
  const speed = limits === null ? null : speedOf(placement, limits, request)
  const service =
    limits === null
      ? null
      : planService({ request, placement, limits, kvTokens: room.tokens, gpus: count, fits: fit.verdict !== 'weights' })
  const schemes = STORAGE_SCHEMES.map((scheme) => schemeOption(request, subject, machine, scheme, count))
  return {
    request,
    subject: {
      title: subject.title,
      parameters: subject.parameters,
      scheme: current.title,
      ...(named !== null && { kvElement: named }),
      contextLimit: shape.contextLimit,
      caches: countCaches(shape),
    },
    gpu: {
      title: machine.title,
      memoryBytes: machine.memoryBytes,
      memorySource: machine.memorySource ?? '',
      freeBytes: machine.freeBytes ?? null,
      software: machine.software,
      confidence: machine.device?.confidence ?? null,
      source: sourceOf(machine),
    },
    tensorParallel: { count, choices },
    parts,
    ...(request.engine === 'lathe' && machine.overhead !== null && machine.overhead !== undefined && { overhead: machine.overhead }),
    fit,
    kv: { bytesPerToken: room.idealBytesPerToken, reservedBytesPerToken: room.bytesPerToken, tokens: room.tokens },
    limits: {
      context: room.largestContext(request.concurrency),
      concurrency: room.sequences(request.contextTokens),
      usualConcurrency: room.sequences(request.promptTokens + request.outputTokens / 2),
    },
    schemes,
    bestSchemeId: bestScheme(schemes),
    speed: speed ?? { decode: null, decodeTogether: null, prefill: null, firstTokenMs: null },
    measured: request.schemeId === null && request.engine === 'lathe' && request.deviceId === null ? subject.measured : null,
    service,
    notes: notesOf(request, shape, machine, { count, scheme: current.scheme, room }),
  }
}

function sourceOf({ calibration, device }: PlanMachine): string {
  if (calibration !== null) return `calibrated on this machine on ${calibration.measuredAt.slice(0, 10)}`
  if (device !== null) return `published limits (${device.source})`
  return 'nothing is known of its speed: run the benchmark on the Hardware screen'
}

function limitsFor(machine: PlanMachine, scheme: StorageSchemeSpec, request: PlanRequest): LimitsRange | null {
  if (machine.calibration !== null && request.engine === 'lathe') return limitsOfCalibration(machine.calibration, scheme)
  return machine.device === null ? null : limitsOfDevice(machine.device, scheme, request.engine)
}

function placementOf(request: PlanRequest, shape: ModelShape, weights: WeightParts, tensorParallel: number): Placement {
  return { shape, weights, kvBytesPerElement: bytesPerElementOf(request, shape), tensorParallel }
}

/** Of keys and values on average. Lathe's own formats exactly, those of vLLM as it documents them. */
function bytesPerElementOf({ engine, kvElement: key, kvValueElement: value = key }: PlanRequest, { headDim }: ModelShape): number {
  const each = (element: KvElement): number =>
    engine === 'lathe' ? kvRowBytes(element, headDim) / headDim : kvElementBytes(element, headDim)
  return (each(key) + each(value)) / 2
}

/** What inputs are rounded to under a scheme whose products are of that type. */
function inputsOf({ computes }: StorageSchemeSpec): readonly InputElement[] {
  if (computes === 'fp8') return ['e4m3']
  return computes === 'int8' ? ['int8'] : []
}

type Stored = Pick<StoredModel, 'weights' | 'inputs'>

function layoutOf(request: PlanRequest, shape: ModelShape, { weights, inputs = [] }: Stored, machine: PlanMachine, count: number) {
  const { engine, contextTokens, concurrency, exactConcurrency: exact } = request
  const { memoryBytes, software } = machine
  const residentBytes = engine === 'lathe' ? (machine.residentBytes ?? 0) : 0
  const kv = { bytesPerElement: bytesPerElementOf(request, shape), tensorParallel: count }
  const bytesPerToken = kvBytesPerToken(shape, kv)
  const weightBytes = Math.ceil(totalBytes(weights) / count)
  const sequences = latheSequences(concurrency, exact)
  const step =
    engine === 'lathe'
      ? latheStepMemory(shape, { contextTokens, sequences, keyDtype: request.kvElement, software, inputs })
      : vllmStepMemory(shape, { memoryBytes, tensorParallel: count })
  const overhead = engine === 'lathe' ? (machine.overhead ?? null) : null
  const { activationBytes, overheadBytes } = withOverhead(step.activationBytes + step.logitBytes, overhead)
  const reserve = reserveBytes(engine, { tensorParallel: count, software })
  const budgetBytes = memoryBytes === null ? null : engine === 'vllm' ? Math.floor(memoryBytes * request.memoryShare) : memoryBytes
  const kvBytes =
    engine === 'lathe'
      ? latheKvBytes(bytesPerToken, contextTokens, concurrency, sequences)
      : vllmKvBytes(bytesPerToken, contextTokens, concurrency)
  const fit = fitOf({ weightBytes, kvBytes, activationBytes, overhead, reserveBytes: reserve, residentBytes, budgetBytes, contextTokens })
  const exactBytes = bytesPerToken * contextTokens * concurrency
  return {
    fit,
    parts: {
      weightBytes,
      kvBytes,
      activationBytes,
      logitBytes: Math.min(step.logitBytes, activationBytes),
      overheadBytes,
      reserveBytes: reserve,
      stagingBytes: stagingBytesOf(engine, reserve),
      residentBytes,
      marginBytes: budgetBytes === null ? null : marginBytes(budgetBytes),
      fragmentationBytes: Math.max(0, kvBytes - exactBytes),
      budgetBytes,
    },
    room: {
      ...kvRoom(engine, {
        bytesPerToken,
        freeBytes: budgetBytes === null ? null : budgetBytes - weightBytes - activationBytes - overheadBytes - reserve - residentBytes,
        contextTokens,
        contextLimit: shape.contextLimit,
        bytesPerPosition: engine === 'lathe' ? latheBytesPerPosition(shape, sequences) : 0,
        exact,
      }),
      bytesPerToken,
      idealBytesPerToken: idealPerToken(shape, contextTokens, kv),
    },
  }
}

/** Mean over a sequence of the asked length, windows respected. */
function idealPerToken(
  shape: ModelShape,
  contextTokens: number,
  kv: { readonly bytesPerElement: number; readonly tensorParallel: number },
): number {
  return shape.caches.reduce((sum, cache) => {
    const one = kvBytesPerToken({ ...shape, caches: [cache] }, kv)
    return sum + (cache.kind === 'window' ? (one * Math.min(contextTokens, cache.window)) / contextTokens : one)
  }, 0)
}

type Choice = CapacityPlan['tensorParallel']['choices'][number]

function parallelChoices(request: PlanRequest, shape: ModelShape, current: StoredModel, machine: PlanMachine): Choice[] {
  if (request.engine === 'lathe') return [{ count: 1, allowed: true, reason: null, fits: null }]
  const counts = new Set<number>([...PARALLEL_COUNTS, ...(request.tensorParallel === null ? [] : [request.tensorParallel])])
  return [...counts]
    .toSorted((one, other) => one - other)
    .map((count) => {
      const reason = parallelObstacle(shape, current.scheme, count)
      const { verdict } = layoutOf(request, shape, current, machine, count).fit
      return { count, allowed: reason === null, reason, fits: verdict === 'unknown' ? null : verdict === 'fits' || verdict === 'tight' }
    })
}

/** As asked; else the least that fits; else the most that is allowed. */
function chooseParallel(request: PlanRequest, choices: readonly Choice[]): number {
  if (request.engine === 'lathe') return 1
  if (request.tensorParallel !== null) return request.tensorParallel
  const allowed = choices.filter((choice) => choice.allowed)
  return (allowed.find((choice) => choice.fits === true) ?? allowed.at(-1))?.count ?? 1
}

function speedOf(placement: Placement, limits: LimitsRange, request: PlanRequest): CapacityPlan['speed'] {
  const { promptTokens, outputTokens, concurrency, contextTokens } = request
  const prompt = Math.min(promptTokens, contextTokens)
  const mean = Math.min(contextTokens, prompt + outputTokens / 2)
  const range = (of: (limits: LimitsRange['low']) => number): Estimate => ({ low: of(limits.low), high: of(limits.high) })
  const firstToken = range((end) => prefillSeconds(placement, prompt, end) * 1000)
  return {
    decode: range((end) => decodeTokensPerSecond(placement, 1, mean, end)),
    decodeTogether: range((end) => decodeTokensPerSecond(placement, concurrency, mean, end)),
    prefill: range((end) => prompt / prefillSeconds(placement, prompt, end)),
    firstTokenMs: { low: firstToken.high, high: firstToken.low },
  }
}

export function schemeFacts(scheme: StorageSchemeSpec, shape: ModelShape | null): StorageScheme {
  const weights = shape === null ? null : weightPartsOf(shape, scheme)
  const linear = shape?.linearParameters ?? 0
  return {
    id: scheme.id,
    title: scheme.title,
    bitsPerWeight: weights === null || linear === 0 ? scheme.bits : ((weights.dense + weights.routed) * 8) / linear,
  }
}

function schemeOption(
  request: PlanRequest,
  { shape }: PlanSubject,
  machine: PlanMachine,
  scheme: StorageSchemeSpec,
  count: number,
): SchemeOption {
  const weights = weightPartsOf(shape, scheme)
  const { fit, room } = layoutOf(request, shape, { weights, inputs: inputsOf(scheme) }, machine, count)
  const limits = limitsFor(machine, scheme, request)
  return {
    scheme: schemeFacts(scheme, shape),
    weightBytes: totalBytes(weights),
    verdict: fit.verdict,
    largestContext: room.largestContext(request.concurrency),
    largestConcurrency: room.sequences(request.contextTokens),
    decode: limits === null ? null : (speedOf(placementOf(request, shape, weights, count), limits, request).decode ?? null),
    caution: request.engine === 'vllm' && machine.device !== null ? cautionOn(machine.device, scheme) : null,
  }
}

/** Most bits that fit with nothing against them. */
function bestScheme(schemes: readonly SchemeOption[]): string | null {
  const fitting = schemes.filter((option) => option.caution === null && (option.verdict === 'fits' || option.verdict === 'tight'))
  return fitting.toSorted((one, other) => other.weightBytes - one.weightBytes)[0]?.scheme.id ?? null
}

function countCaches(shape: ModelShape): CapacityPlan['subject']['caches'] {
  const count = (kind: string): number => shape.caches.filter((cache) => cache.kind === kind).length
  return { full: count('full'), window: count('window'), latent: count('latent'), constant: count('constant') }
}

function notesOf(
  request: PlanRequest,
  shape: ModelShape,
  machine: PlanMachine,
  facts: {
    readonly count: number
    readonly scheme: StorageSchemeSpec
    readonly room: { readonly bytesPerToken: number; readonly idealBytesPerToken: number }
  },
): string[] {
  const notes: string[] = []
  const { count, scheme, room } = facts
  const obstacle = parallelObstacle(shape, scheme, count)
  if (obstacle !== null) notes.push(`vLLM refuses ${count} GPUs: ${obstacle}.`)
  if (request.contextTokens > (shape.contextLimit ?? Infinity))
    notes.push(`The model was made for ${shape.contextLimit} tokens; longer contexts need its own scaling to be switched on.`)
  if (room.idealBytesPerToken < room.bytesPerToken * 0.99) {
    const share = Math.round((room.idealBytesPerToken / room.bytesPerToken) * 100)
    notes.push(
      `Window layers need ${share} % of the cache that is counted here: ${request.engine === 'vllm' ? 'vLLM may give' : 'Lathe gives'} every layer the same pages.`,
    )
  }
  if (shape.caches.some((cache) => cache.kind === 'latent') && count > 1)
    notes.push('A latent cache is whole on every GPU: more GPUs hold more weights, not more context, unless attention runs data-parallel.')
  if (request.engine === 'vllm' && machine.device !== null) {
    const caution = cautionOn(machine.device, scheme)
    if (caution !== null) notes.push(caution)
  }
  if (roundToBlocks(request.engine, request.promptTokens + request.outputTokens) > request.contextTokens)
    notes.push('The usual request is longer than the context and would be cut.')
  return notes
}
