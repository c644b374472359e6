/**
 * From a finished layer to the disk: quantizes what the plan stores compressed, rounds the rest to its dtype, writes both, and keeps what a
 * reader will make of it, which is what the next layer's inputs come from.
 */
import { createHash } from 'node:crypto'
import { narrowFromF32, widenToF32 } from '../../checkpoint/dtypes.ts'
import type { Backend } from '../../gpu/program.ts'
import { hasSecondOrder } from '../../gpu/second-order.ts'
import type { GridElement, SecondOrderSolver } from '../../gpu/second-order.ts'
import { inputWidths } from '../../model/layer-program.ts'
import type { HessianFactor } from '../algorithms/hessian-factor.ts'
import { encodeConstant } from '../algorithms/encode.ts'
import { absmax } from '../algorithms/round-to-floats.ts'
import { addSums, errorBetween, noError } from '../algorithms/error-sums.ts'
import { fusedKey } from '../module-roles.ts'
import { columnsPerScale, isConstant, rowsPerScale, schemeNeeds } from '../scheme.ts'
import type { Scheme } from '../scheme.ts'
import type { CompressItem, PlanItem, RewriteItem } from '../plan.ts'
import type { ProducerContext } from '../producer.ts'
import type { GptqStep } from '../recipe.ts'
import type { PartRole, TensorResult } from '../tensor-work.ts'
import { sampledRows } from '../verify.ts'
import type { WorkerPool } from '../worker-pool.ts'
import { shared, sharedFloats } from './compute-job.ts'
import type { QuantizedPart, ScaledRows } from './compute-job.ts'
import type { LayerInput } from './layer-context.ts'
import type { LoadedLayer } from './loaded-layer.ts'

export interface StoreOptions {
  readonly context: ProducerContext
  readonly pool: WorkerPool
  readonly backend: Backend
  readonly signal: AbortSignal | undefined
  /** null = by adapter and size. */
  readonly roundOn: 'device' | 'processor' | null
  /** Items of this layer, all of them: those that an interrupted run finished are computed again and not written. */
  readonly items: readonly PlanItem[]
  /** null = round to nearest. */
  readonly gptq: GptqStep | null
}

/** Rows of a piece are a multiple of this: zero points of 32 rows share words, FP8 blocks have 128. */
const ROW_MULTIPLE = 128

/** Values as stored, by tensor name. */
export async function storeLayer(layer: LoadedLayer, options: StoreOptions): Promise<ReadonlyMap<string, Float32Array>> {
  const { items } = options
  const stored = new Map<string, Float32Array>()
  const inputOf = new Map(layer.linears.map((linear) => [linear.module, linear.input]))
  const compressed = items.filter((item) => item.action === 'compress')
  // Linears that share an input share its factor, and only one factor is held at a time.
  const inputs = [...new Set(compressed.map((item) => inputOf.get(item.module) ?? null))]
  for (const input of inputs) {
    using factors = await factorsFor(
      layer,
      input,
      compressed.filter((item) => (inputOf.get(item.module) ?? null) === input),
      options,
    )
    for (const item of compressed) {
      if ((inputOf.get(item.module) ?? null) !== input) continue
      layer.throwIfCancelled()
      layer.note(`Quantizing ${item.module.slice(item.module.lastIndexOf('.') + 1)}`)
      const facts = await factsOf(layer, item, input, compressed)
      stored.set(item.source.name, await storeCompressed(layer, item, factors, facts, options))
    }
    if (input !== null) layer.forget(input)
  }
  for (const item of items) if (item.action === 'rewrite') stored.set(item.source.name, await storeRewritten(layer, item, options))
  return stored
}

/** How the linears of one input are rounded: on the device, on the processor, or (both null) to nearest. */
interface Factors extends Disposable {
  readonly solver: SecondOrderSolver | null
  readonly factor: HessianFactor | null
}

/** Processors factor a matrix of this many columns in a second or so; beyond, even a software adapter is faster. */
const PROCESSOR_COLUMNS = 1024

/** Whether a device that can do second-order arithmetic is the place for it. */
export function solvesOnDevice({ software }: Backend, columns: number, wanted: 'device' | 'processor' | null): boolean {
  return wanted === 'device' || (wanted === null && (!software || columns > PROCESSOR_COLUMNS))
}

async function factorsFor(
  layer: LoadedLayer,
  input: LayerInput | null,
  items: readonly CompressItem[],
  { gptq, backend, pool, roundOn, signal }: StoreOptions,
): Promise<Factors> {
  const nothing: Factors = { solver: null, factor: null, [Symbol.dispose]() {} }
  if (input === null || gptq === null) return nothing
  const columns = inputWidths(layer.spec)[input]
  layer.note(`Factoring the Hessian of ${input}`)
  if (layer.tokens < columns && layer.layer === 0) {
    layer.warn(
      `${layer.tokens} calibration tokens are fewer than the ${columns} columns of ${input}: damping has to fill in. More text is better.`,
    )
  }
  const report = (used: number | null): void => {
    if (used === null) layer.warn(`Layer ${layer.layer}: the Hessian of ${input} can't be factored; its linears are rounded to nearest.`)
    else if (used > gptq.dampening) layer.warn(`Layer ${layer.layer}: the Hessian of ${input} needed a damping of ${used.toPrecision(2)}.`)
  }
  if (hasSecondOrder(backend) && (roundOn === 'device' || (roundOn === null && (!backend.software || columns > PROCESSOR_COLUMNS)))) {
    const source = await layer.hessian(input)
    const order = gptq.actorder === null ? null : 'importance'
    const solver = await backend.factorHessian({
      columns,
      source,
      dampening: gptq.dampening,
      order,
      ...(signal === undefined ? {} : { signal }),
    })
    report(solver?.dampeningUsed ?? null)
    return { solver, factor: null, [Symbol.dispose]: () => solver?.[Symbol.dispose]() }
  }
  const { gram } = await layer.statistics(input)
  const { factor } = await pool.compute({
    kind: 'factor',
    gram: shared(gram),
    size: columns,
    dampening: gptq.dampening,
    orderByImportance: gptq.actorder !== null,
  })
  report(factor?.dampeningUsed ?? null)
  return { ...nothing, factor }
}

/** Scales on threads, codes on the device, bytes on threads again. */
async function roundOnDevice(
  solver: SecondOrderSolver,
  all: Float32Array,
  mask: Uint8Array | null,
  jobs: readonly ScaledRows[],
  { pool, signal }: StoreOptions,
): Promise<readonly Omit<QuantizedPart, 'kind'>[]> {
  const [first] = jobs
  if (first === undefined) return []
  const { cols, scheme } = first
  const rows = jobs.reduce((sum, job) => sum + job.rows, 0)
  const found = await Promise.all(jobs.map((job) => pool.compute({ kind: 'scales', ...job })))
  const perScale = columnsPerScale(scheme, cols)
  const groups = Math.ceil(cols / perScale)
  const scales = new Float32Array(rows * groups)
  const zeroPoints = scheme.kind !== 'packed-int' || scheme.symmetric ? null : new Float32Array(rows * groups)
  let at = 0
  for (const [i, piece] of found.entries()) {
    const count = jobs[i]?.rows ?? 0
    const together = rowsPerScale(scheme, count)
    for (let r = 0; r < count; r++, at += groups) {
      // The device has a scale for every row, also where rows share one.
      const from = Math.floor(r / together) * groups
      for (let g = 0; g < groups; g++) scales[at + g] = (piece.scales[from + g] as number) / (piece.globalScale ?? 1)
      if (piece.zeroPoints !== null) zeroPoints?.set(piece.zeroPoints.subarray(from, from + groups), at)
    }
  }
  const grid = { element: gridElement(scheme), columnsPerScale: perScale, scales, zeroPoints, mask }
  const { codes } = await solver.round({ rows, weight: all, ...grid }, signal)
  let row = 0
  return Promise.all(
    jobs.map((job, i) => {
      const own = codes.subarray(row * cols, (row + job.rows) * cols)
      row += job.rows
      const piece = found[i]
      if (piece === undefined) throw new Error('a piece has no scales')
      return pool.compute({ ...job, ...piece, kind: 'encode', codes: own })
    }),
  )
}

function gridElement(scheme: Scheme): GridElement {
  if (scheme.kind !== 'packed-int') return { kind: scheme.kind === 'nvfp4' || scheme.kind === 'mxfp4' ? 'e2m1' : 'e4m3' }
  const minimum = -(2 ** (scheme.bits - 1))
  return { kind: 'integer', minimum, maximum: -minimum - 1 }
}

/** What a scheme or an observer wants to know of a matrix beyond its values. */
interface MatrixFacts {
  /** Mean square of each input. */
  readonly importance: Float32Array | null
  readonly weightMaximum: number | null
  readonly inputMaximum: number | null
  readonly cacheMaximum: number | null
}

async function factsOf(
  layer: LoadedLayer,
  item: CompressItem,
  input: LayerInput | null,
  items: readonly CompressItem[],
): Promise<MatrixFacts> {
  const needs = schemeNeeds(item.scheme)
  const wantsInputs = item.observer.kind === 'imatrix' || needs.inputMaximum
  const statistics = wantsInputs && input !== null ? await layer.columnStatistics(input) : null
  const key = fusedKey(item.module)
  const partners = needs.weightMaximum === 'fused' && key !== null ? items.filter(({ module }) => fusedKey(module) === key) : [item]
  return {
    importance: item.observer.kind === 'imatrix' ? (statistics?.meanSquare ?? null) : null,
    weightMaximum:
      needs.weightMaximum === null ? null : Math.max(...partners.map(({ source }) => absmax(layer.tensor(source.name).values))),
    cacheMaximum: await cacheMaximumOf(layer, item),
    inputMaximum: needs.inputMaximum && statistics !== null ? Math.max(absmax(statistics.maximum), absmax(statistics.minimum)) : null,
  }
}

async function cacheMaximumOf(layer: LoadedLayer, item: CompressItem): Promise<number | null> {
  if (!item.stored.some(({ role }) => role === 'cacheScale')) return null
  const { k, v } = await layer.keyValueMaxima()
  return item.module.endsWith('.k_proj') ? k : v
}

async function storeCompressed(
  layer: LoadedLayer,
  item: CompressItem,
  factors: Factors,
  facts: MatrixFacts,
  options: StoreOptions,
): Promise<Float32Array> {
  const { pool } = options
  const { rows, cols, scheme, observer, dtype } = item
  const { importance, weightMaximum, inputMaximum, cacheMaximum } = facts
  const { values, sha256 } = layer.tensor(item.source.name)
  const all = shared(values)
  const decoded = sharedFloats(values.length)
  const mask = layer.mask(item.module)
  const step = Math.max(ROW_MULTIPLE, Math.ceil(rows / pool.size / ROW_MULTIPLE) * ROW_MULTIPLE)
  const starts = Array.from({ length: Math.ceil(rows / step) }, (_, i) => i * step)
  const jobs = starts.map((start): ScaledRows => {
    const count = Math.min(step, rows - start)
    const own = all.subarray(start * cols, (start + count) * cols)
    const target = decoded.subarray(start * cols, (start + count) * cols)
    return { values: own, rows: count, cols, scheme, dtype, observer, importance, weightMaximum, decoded: target }
  })
  const { solver, factor } = factors
  const blockColumns = options.gptq?.blockSize ?? 128
  const pieces: readonly Omit<QuantizedPart, 'kind'>[] =
    solver !== null
      ? await roundOnDevice(solver, all, mask, jobs, options)
      : await Promise.all(
          jobs.map((job, i) => {
            const start = (starts[i] ?? 0) * cols
            const own = mask === null ? null : mask.slice(start, start + job.rows * cols)
            return pool.compute({ kind: 'quantize', ...job, factor, blockColumns, mask: own })
          }),
        )
  const error = noError()
  for (const piece of pieces) addSums(error, piece.error)
  const parts = new Map<PartRole, Uint8Array[]>()
  for (const piece of pieces) for (const part of piece.parts) parts.set(part.role, [...(parts.get(part.role) ?? []), part.bytes])
  const partSha256: Partial<Record<PartRole, string>> = {}
  // The one scale of a whole matrix comes with every piece and is stored once.
  const scales = parts.get('scale')
  if (scheme.kind === 'fp8' && scheme.strategy === 'tensor' && scales !== undefined) parts.set('scale', scales.slice(0, 1))
  for (const { role } of item.stored) {
    const maxima = { weight: weightMaximum, input: inputMaximum, cache: cacheMaximum }
    if (isConstant(role)) parts.set(role, [encodeConstant(role, scheme, rows, cols, dtype, maxima)])
  }
  for (const [role, bytes] of parts) {
    const hash = createHash('sha256')
    for (const piece of bytes) hash.update(piece)
    partSha256[role] = hash.digest('hex')
  }
  await write(options.context, item, {
    result: {
      sourceSha256: sha256,
      partSha256,
      error,
      epsilonScales: pieces.reduce((sum, piece) => sum + piece.epsilonScales, 0),
      scales: pieces.reduce((sum, piece) => sum + piece.scales, 0),
      decodedSha256: decodedDigest(decoded, rows, cols),
    },
    parts: item.stored.map(({ role, name }) => ({ name, pieces: parts.get(role) ?? [] })),
  })
  return decoded
}

async function storeRewritten(layer: LoadedLayer, item: RewriteItem, options: StoreOptions): Promise<Float32Array> {
  const { values, original, sha256, changed } = layer.tensor(item.source.name)
  const bytes = narrowFromF32(values, item.dtype)
  const rounded = changed ? widenToF32(bytes, item.dtype) : values
  const error = changed && item.source.shape.length === 2 ? errorBetween(original, rounded) : null
  const digest = createHash('sha256').update(bytes).digest('hex')
  await write(options.context, item, {
    result: { sourceSha256: sha256, partSha256: { copy: digest }, error, epsilonScales: 0, scales: 0 },
    parts: [{ name: item.source.name, pieces: [bytes] }],
  })
  return rounded
}

async function write(
  { finished, sink, onBytes }: ProducerContext,
  item: PlanItem,
  output: { readonly result: TensorResult; readonly parts: readonly { readonly name: string; readonly pieces: readonly Uint8Array[] }[] },
): Promise<void> {
  if (finished.has(item.source.name)) return
  const { byteLength, name } = item.source
  onBytes('quantize', byteLength, name)
  for (const part of output.parts) {
    for (const bytes of part.pieces) {
      await sink.write(part.name, bytes)
      onBytes('write', bytes.byteLength, name)
    }
  }
  await sink.finish(item, output.result)
}

/** Of the rows that verification decodes again. */
export function decodedDigest(decoded: Float32Array, rows: number, cols: number): string {
  const hash = createHash('sha256')
  for (const [from, to] of sampledRows(rows, cols)) {
    const part = decoded.subarray(from * cols, to * cols)
    hash.update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength))
  }
  return hash.digest('hex')
}
