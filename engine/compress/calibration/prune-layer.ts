/** A pruning step on one layer: which linears, which scores, and the masks that later steps must keep. */
import { LatheError } from '../../contract/errors.ts'
import type { Backend } from '../../gpu/program.ts'
import { hasSecondOrder, prunesGroupsOf } from '../../gpu/second-order.ts'
import { owlSparsities } from '../algorithms/pruning.ts'
import type { SparsityPattern } from '../algorithms/pruning.ts'
import type { HessianFactor } from '../algorithms/hessian-factor.ts'
import type { PruningStep } from '../recipe.ts'
import type { WorkerPool } from '../worker-pool.ts'
import { shared } from './compute-job.ts'
import { solvesOnDevice } from './store-layer.ts'
import type { LayerInput, LayerLinear } from './layer-context.ts'
import type { LoadedLayer } from './loaded-layer.ts'

export interface PruneOptions {
  readonly pool: WorkerPool
  readonly step: PruningStep
  /** Modules that the step's targets and ignore list leave. */
  readonly modules: ReadonlySet<string>
  /** The step's own, or OWL's for this layer. */
  readonly sparsity: number
  readonly backend: Backend
  /** Where SparseGPT's arithmetic runs; null = by adapter and size. */
  readonly roundOn: 'device' | 'processor' | null
  readonly signal: AbortSignal | undefined
}

export async function pruneLayer(layer: LoadedLayer, options: PruneOptions): Promise<void> {
  const { pool, step, modules } = options
  const linears = layer.linears.filter((linear) => modules.has(linear.module))
  const pattern: SparsityPattern =
    step.maskStructure === null ? { kind: 'unstructured', sparsity: options.sparsity } : { kind: 'n-of-m', ...step.maskStructure }
  // One factor at a time; the linears that share it go side by side.
  for (const input of new Set(linears.map((linear) => linear.input))) {
    layer.throwIfCancelled()
    if (step.method === 'sparsegpt' && (await pruneOnDevice(layer, input, linears, options))) continue
    const factor = step.method === 'sparsegpt' ? await factorOf(layer, input, step, pool) : null
    const bySize = step.method === 'magnitude' || (step.method === 'sparsegpt' && factor === null)
    const columnNorms = bySize || factor !== null ? null : Float64Array.from((await layer.columnStatistics(input)).meanSquare, Math.sqrt)
    const own = linears.filter((linear) => linear.input === input)
    layer.note(`Pruning ${own.map((linear) => linear.role).join(', ')}`)
    await Promise.all(own.map((linear) => pruneLinear(layer, linear, { pool, pattern, factor, columnNorms })))
  }
}

/** SparseGPT's N:M where the adapter can do it and is faster; false: the processor's turn. */
async function pruneOnDevice(
  layer: LoadedLayer,
  input: LayerInput,
  linears: readonly LayerLinear[],
  { step, backend, roundOn, signal }: PruneOptions,
): Promise<boolean> {
  const { maskStructure } = step
  if (maskStructure === null || !prunesGroupsOf(maskStructure.of) || !hasSecondOrder(backend)) return false
  const own = linears.filter((linear) => linear.input === input)
  const columns = own[0]?.cols ?? 0
  if (!solvesOnDevice(backend, columns, roundOn)) return false
  layer.note(`Factoring the Hessian of ${input}`)
  const source = await layer.hessian(input)
  const request = { columns, source, dampening: step.dampening, order: null, ...(signal === undefined ? {} : { signal }) }
  using solver = await backend.factorHessian(request)
  if (solver === null) return false
  for (const { module, role, rows, weight } of own) {
    layer.throwIfCancelled()
    layer.note(`Pruning ${role}`)
    const values = await solver.prune({ rows, weight, ...maskStructure }, signal)
    layer.replace({ weights: new Map([[module, values]]) })
    layer.setMask(
      module,
      Uint8Array.from(values, (value) => (value === 0 ? 1 : 0)),
    )
  }
  return true
}

/** Rows that a thread takes at a time. */
const PIECE_ROWS = 256

async function pruneLinear(
  layer: LoadedLayer,
  { module, rows, cols, weight }: LayerLinear,
  how: {
    readonly pool: WorkerPool
    readonly pattern: SparsityPattern
    readonly factor: HessianFactor | null
    readonly columnNorms: Float64Array | null
  },
): Promise<void> {
  const { pool, pattern, factor, columnNorms } = how
  const all = shared(weight)
  // Only unstructured SparseGPT compares entries of different rows.
  const step = factor !== null && pattern.kind === 'unstructured' ? rows : PIECE_ROWS
  const starts = Array.from({ length: Math.ceil(rows / step) }, (_, i) => i * step)
  const pieces = await Promise.all(
    starts.map((start) => {
      const count = Math.min(step, rows - start)
      const values = all.subarray(start * cols, (start + count) * cols)
      return pool.compute({ kind: 'prune', values, rows: count, cols, pattern, factor, columnNorms })
    }),
  )
  const values = new Float32Array(weight.length)
  const mask = new Uint8Array(weight.length)
  for (const [i, piece] of pieces.entries()) {
    values.set(piece.values, (starts[i] ?? 0) * cols)
    mask.set(piece.mask, (starts[i] ?? 0) * cols)
  }
  layer.replace({ weights: new Map([[module, values]]) })
  layer.setMask(module, mask)
}

async function factorOf(layer: LoadedLayer, input: LayerInput, step: PruningStep, pool: WorkerPool): Promise<HessianFactor | null> {
  const { gram, columns } = await layer.statistics(input)
  const { factor } = await pool.compute({
    kind: 'factor',
    gram: shared(gram),
    size: columns,
    dampening: step.dampening,
    orderByImportance: false,
  })
  if (factor === null) layer.warn(`Layer ${layer.layer}: the inputs of ${input} say nothing; its linears are pruned by magnitude.`)
  return factor
}

/** Share of scores |w|·‖x‖ above m times their mean, over the given linears together (OWL). */
export async function outlierShare(layer: LoadedLayer, modules: ReadonlySet<string>, m: number): Promise<number> {
  const scored: { readonly linear: LayerLinear; readonly norms: Float64Array }[] = []
  for (const linear of layer.linears) {
    if (!modules.has(linear.module)) continue
    scored.push({ linear, norms: Float64Array.from((await layer.columnStatistics(linear.input)).meanSquare, Math.sqrt) })
  }
  let sum = 0
  let count = 0
  for (const { linear, norms } of scored) {
    const { weight, cols } = linear
    for (let i = 0; i < weight.length; i++) sum += Math.abs(weight[i] as number) * (norms[i % cols] as number)
    count += weight.length
  }
  if (count === 0) return 0
  const threshold = (m * sum) / count
  let above = 0
  for (const { linear, norms } of scored) {
    const { weight, cols } = linear
    for (let i = 0; i < weight.length; i++) if (Math.abs(weight[i] as number) * (norms[i % cols] as number) > threshold) above++
  }
  return above / count
}

/** Sparsity of each layer; the same everywhere without OWL. */
export function layerSparsities(step: PruningStep, shares: readonly number[], layers: number): readonly number[] {
  if (step.owl === null) return Array.from({ length: layers }, () => step.sparsity)
  return owlSparsities(shares, step.sparsity, step.owl.lambda)
}

/** Throws `compress.invalid-recipe` for settings that no layer could follow. */
export function checkPruning(step: PruningStep): void {
  if (!(step.sparsity >= 0 && step.sparsity < 1)) throw invalid(`asks for a sparsity of ${step.sparsity}; 0 to below 1 is possible`)
  const { maskStructure, owl } = step
  if (maskStructure === null) return
  const { prune, of } = maskStructure
  if (!(Number.isInteger(prune) && Number.isInteger(of) && prune > 0 && prune < of)) throw invalid(`has the mask structure ${prune}:${of}`)
  if (owl !== null) throw invalid(`combines OWL, which varies the share of zeros, with the fixed share of ${prune}:${of}`)
}

function invalid(what: string): LatheError {
  return new LatheError('compress.invalid-recipe', `The pruning step ${what}.`, 'Correct the recipe, or choose a preset.')
}
