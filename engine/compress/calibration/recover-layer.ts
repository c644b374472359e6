/** Recovery after pruning on one layer: every linear that an earlier step pruned, towards the weights that it had before. */
import type { Backend } from '../../gpu/program.ts'
import { hasSecondOrder } from '../../gpu/second-order.ts'
import { RECOVERY_DEFAULTS } from '../algorithms/recovery.ts'
import type { RecoveryStep } from '../recipe.ts'
import type { WorkerPool } from '../worker-pool.ts'
import { shared } from './compute-job.ts'
import type { LayerLinear } from './layer-context.ts'
import { solvesOnDevice } from './store-layer.ts'
import type { LoadedLayer } from './loaded-layer.ts'

/** Rows of a job: enough that handing them over costs nothing, few enough that a cancel is quick. */
const ROWS_PER_JOB = 128

export interface RecoverOptions {
  readonly pool: WorkerPool
  readonly backend: Backend
  /** null = by adapter and size. */
  readonly roundOn: 'device' | 'processor' | null
  readonly signal: AbortSignal | undefined
}

export async function recoverLayer(layer: LoadedLayer, step: RecoveryStep, options: RecoverOptions): Promise<void> {
  const pruned = layer.linears.filter(({ module }) => layer.mask(module) !== null)
  for (const input of new Set(pruned.map((linear) => linear.input))) {
    const own = pruned.filter((linear) => linear.input === input)
    const { backend, roundOn } = options
    if (hasSecondOrder(backend) && solvesOnDevice(backend, own[0]?.cols ?? 0, roundOn)) await recoverOnDevice(layer, own, step, options)
    else await recoverOnThreads(layer, own, step, options.pool)
  }
}

async function recoverOnDevice(
  layer: LoadedLayer,
  linears: readonly LayerLinear[],
  { dampening }: RecoveryStep,
  { backend, signal }: RecoverOptions,
): Promise<void> {
  const [first] = linears
  if (first === undefined || !hasSecondOrder(backend)) return
  using solver = await backend.recovery(first.cols, (await layer.statistics(first.input)).gram)
  for (const { module, role, rows, weight } of linears) {
    layer.throwIfCancelled()
    layer.note(`Recovery of ${role}`)
    const mask = layer.mask(module)
    if (mask === null) continue
    const matrices = { rows, target: layer.original(module), pruned: weight, mask }
    const { values } = await solver.recover({ ...matrices, ...RECOVERY_DEFAULTS, dampening }, signal)
    layer.replace({ weights: new Map([[module, values]]) })
  }
}

/** Rows are independent, so the result does not depend on how they are split. */
async function recoverOnThreads(layer: LoadedLayer, linears: readonly LayerLinear[], step: RecoveryStep, pool: WorkerPool): Promise<void> {
  for (const { module, role, input, rows, cols, weight } of linears) {
    const mask = layer.mask(module)
    if (mask === null) continue
    const gram = shared((await layer.statistics(input)).gram)
    const target = layer.original(module)
    const values = new Float32Array(rows * cols)
    const starts = Array.from({ length: Math.ceil(rows / ROWS_PER_JOB) }, (_, i) => i * ROWS_PER_JOB)
    let done = 0
    const next = async (): Promise<void> => {
      for (let start = starts.shift(); start !== undefined; start = starts.shift()) {
        layer.throwIfCancelled()
        const count = Math.min(ROWS_PER_JOB, rows - start)
        const range = [start * cols, (start + count) * cols] as const
        const result = await pool.compute({
          kind: 'recover',
          target: target.slice(...range),
          pruned: weight.slice(...range),
          mask: mask.slice(...range),
          gram,
          rows: count,
          cols,
          dampening: step.dampening,
        })
        values.set(result.values, range[0])
        done += count
        layer.note(`Recovery of ${role}: ${done} of ${rows} rows`)
      }
    }
    // One job in work and none waiting per thread: a cancel has little to wait for.
    await Promise.all(Array.from({ length: pool.size }, next))
    layer.replace({ weights: new Map([[module, values]]) })
  }
}
