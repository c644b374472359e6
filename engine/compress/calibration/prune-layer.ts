/** A pruning step on one layer: which linears, which scores, and the masks that later steps must keep. */
import { LatheError } from '../../contract/errors.ts'
import { owlSparsities } from '../algorithms/pruning.ts'
import type { SparsityPattern } from '../algorithms/pruning.ts'
import type { HessianFactor } from '../algorithms/hessian-factor.ts'
import type { PruningStep } from '../recipe.ts'
import type { WorkerPool } from '../worker-pool.ts'
import { shared } from './compute-job.ts'
import type { LayerInput, LayerLinear } from './layer-context.ts'
import type { LoadedLayer } from './loaded-layer.ts'

export interface PruneOptions {
  readonly pool: WorkerPool
  readonly step: PruningStep
  /** Modules that the step's targets and ignore list leave. */
  readonly modules: ReadonlySet<string>
  /** The step's own, or OWL's for this layer. */
  readonly sparsity: number
}

export async function pruneLayer(layer: LoadedLayer, options: PruneOptions): Promise<void> {
  const { pool, step, modules } = options
  const linears = layer.linears.filter((linear) => modules.has(linear.module))
  const pattern: SparsityPattern =
    step.maskStructure === null ? { kind: 'unstructured', sparsity: options.sparsity } : { kind: 'n-of-m', ...step.maskStructure }
  const factors = new Map<LayerInput, HessianFactor | null>()
  for (const linear of linears) {
    layer.throwIfCancelled()
    layer.note(`Pruning ${linear.role}`)
    const { module, input, rows, cols, weight } = linear
    if (!factors.has(input)) {
      factors.clear()
      factors.set(input, step.method === 'sparsegpt' ? await factorOf(layer, input, step, pool) : null)
    }
    const factor = factors.get(input) ?? null
    const bySize = step.method === 'magnitude' || (step.method === 'sparsegpt' && factor === null)
    const columnNorms = bySize ? null : Float64Array.from((await layer.columnStatistics(input)).meanSquare, Math.sqrt)
    const result = await pool.compute({
      kind: 'prune',
      values: shared(weight),
      rows,
      cols,
      pattern,
      factor,
      columnNorms: factor === null ? columnNorms : null,
    })
    layer.replace({ weights: new Map([[module, result.values]]) })
    layer.setMask(module, result.mask)
  }
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
  let sum = 0
  let count = 0
  const scored: { readonly linear: LayerLinear; readonly norms: Float64Array }[] = []
  for (const linear of layer.linears) {
    if (!modules.has(linear.module)) continue
    const norms = Float64Array.from((await layer.columnStatistics(linear.input)).meanSquare, Math.sqrt)
    scored.push({ linear, norms })
    for (const [i, w] of linear.weight.entries()) sum += Math.abs(w) * (norms[i % linear.cols] as number)
    count += linear.weight.length
  }
  if (count === 0) return 0
  const threshold = (m * sum) / count
  let above = 0
  for (const { linear, norms } of scored) {
    for (const [i, w] of linear.weight.entries()) if (Math.abs(w) * (norms[i % linear.cols] as number) > threshold) above++
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
