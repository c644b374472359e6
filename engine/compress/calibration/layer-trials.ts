/**
 * Trial rounding for searches (AWQ): what candidates leave of a linear, and what that costs its output. Rounding runs on threads, row by row; the
 * cost, d·G·dᵀ for every row, on the device where it can, next to the Gram matrix. Knows neither recipes nor how candidates are chosen.
 */
import type { ClipOptions } from '../algorithms/awq.ts'
import type { Backend } from '../../gpu/program.ts'
import { hasSecondOrder } from '../../gpu/second-order.ts'
import type { HessianSource, QuadraticForms } from '../../gpu/second-order.ts'
import { rowsPerScale } from '../scheme.ts'
import type { WorkerPool } from '../worker-pool.ts'
import { shared } from './compute-job.ts'
import type { TrialRows } from './compute-job.ts'
import type { LayerLinear, LinearStorage, OutputErrors } from './layer-context.ts'

/** Rows of a job: FP8 blocks have 128. */
const ROW_MULTIPLE = 128
/** Weights of a linear that a candidate is judged by: about a thousand rows of 4096 columns tell neighbouring ratios apart. */
const SAMPLED_WEIGHTS = 2 ** 22
/** Multiplications per linear and candidate where a processor does them: about a second on one core. */
const PROCESSOR_MULTIPLICATIONS = 2 ** 30
/** Differences held at once, on the host and again on the device. */
const BATCH_BYTES = 64 * 2 ** 20

export interface TrialMatter {
  readonly pool: WorkerPool
  readonly storage: (module: string) => LinearStorage | null
  /** Mean square of each input of the linears at hand. */
  readonly meanSquare: Float32Array
  readonly throwIfCancelled: () => void
}

function trialOf({ module, rows, cols, weight, dtype }: LayerLinear, { storage, meanSquare }: TrialMatter): Omit<TrialRows, 'factors'> {
  const whole = { firstRow: 0, lastRow: rows, rowStride: 1, want: 'rounded' } as const
  return { values: shared(weight), rows, cols, storage: storage(module), dtype, meanSquare, ...whole }
}

/** [rows, cols]. */
export async function roundedLinear(linear: LayerLinear, factors: Float64Array | null, matter: TrialMatter): Promise<Float32Array> {
  const { rows, cols } = linear
  const trial = { ...trialOf(linear, matter), factors }
  const scheme = trial.storage?.scheme
  const step = scheme !== undefined && rowsPerScale(scheme, rows) > ROW_MULTIPLE ? rows : pieceRows(rows, matter.pool.size)
  const values = new Float32Array(rows * cols)
  await Promise.all(
    startsOf(rows, step).map(async (firstRow) => {
      const job = { ...trial, firstRow, lastRow: Math.min(rows, firstRow + step) }
      values.set((await matter.pool.compute({ kind: 'trial', ...job })).values, firstRow * cols)
    }),
  )
  return values
}

/** [rows, cols]; `gram` is the mean of the inputs' products. */
export async function clippedLinear(
  linear: LayerLinear,
  gram: Float32Array,
  options: ClipOptions,
  { pool, storage, meanSquare, throwIfCancelled }: TrialMatter,
): Promise<Float32Array> {
  const { module, rows, cols, weight, dtype } = linear
  const { scheme, observer } = storage(module) ?? {}
  if (scheme === undefined || observer === undefined) throw new Error(`${module} stays as it is`)
  const all = shared(weight)
  const lent = shared(gram)
  const values = new Float32Array(rows * cols)
  const step = pieceRows(rows, pool.size)
  await Promise.all(
    startsOf(rows, step).map(async (firstRow) => {
      throwIfCancelled()
      const count = Math.min(step, rows - firstRow)
      const own = all.subarray(firstRow * cols, (firstRow + count) * cols)
      const job = { values: own, rows: count, cols, scheme, observer, dtype, meanSquare, gram: lent, options }
      values.set((await pool.compute({ kind: 'clip', ...job })).values, firstRow * cols)
    }),
  )
  return values
}

/** For `linears`, which share an input; `hessian` gives its Gram matrix, on the device or the host. */
export async function openOutputErrors(
  linears: readonly LayerLinear[],
  backend: Backend,
  sources: { readonly hessian: () => Promise<HessianSource>; readonly gram: () => Promise<Float32Array> },
  matter: TrialMatter,
): Promise<OutputErrors> {
  const { pool, throwIfCancelled } = matter
  const columns = linears[0]?.cols ?? 0
  const forms: QuadraticForms | null = hasSecondOrder(backend) ? await backend.quadraticForms(columns, await sources.hessian()) : null
  const gram = forms === null ? shared(await sources.gram()) : null
  const slow = forms === null || backend.software
  const trials = linears.flatMap((linear) => {
    const trial = { ...trialOf(linear, matter), want: 'difference' } as const
    const { rows, cols, storage } = trial
    if (storage === null) return []
    // A scale that rows share is that of all of them.
    if (rowsPerScale(storage.scheme, rows) > 1) return [trial]
    const multiplications = (rows * cols * cols) / 2
    const rowStride = Math.ceil(Math.max((rows * cols) / SAMPLED_WEIGHTS, slow ? multiplications / PROCESSOR_MULTIPLICATIONS : 1))
    return [{ ...trial, rowStride }]
  })
  const rowsPerCandidate = trials.reduce((sum, trial) => sum + rowsOfTrial(trial), 0)
  const perBatch = Math.max(1, Math.floor(BATCH_BYTES / (rowsPerCandidate * columns * Float32Array.BYTES_PER_ELEMENT)))

  /** Σ over rows, each sampled row standing for its neighbours; rows of a candidate lie in the order of `trials`. */
  const sums = async (pieces: readonly Float32Array[]): Promise<readonly number[]> => {
    if (forms === null) {
      const lent = gram ?? new Float32Array(0)
      const errors = pieces.map((differences) => pool.compute({ kind: 'output-error', differences, cols: columns, gram: lent }))
      return (await Promise.all(errors)).map(({ error }) => error)
    }
    const rows = await forms.ofRows(pieces)
    let at = 0
    return pieces.map(({ length }) => {
      const end = at + length / columns
      let sum = 0
      for (; at < end; at++) sum += rows[at] as number
      return sum
    })
  }

  return {
    async of(candidates) {
      const totals: number[] = []
      for (let first = 0; first < candidates.length; first += perBatch) {
        throwIfCancelled()
        const batch = candidates.slice(first, first + perBatch)
        const pieces = await Promise.all(
          batch.flatMap((factors) => trials.map((trial) => pool.compute({ kind: 'trial', ...trial, factors }))),
        )
        const errors = await sums(pieces.map(({ values }) => values))
        for (let c = 0; c < batch.length; c++) {
          totals.push(
            trials.reduce((sum, trial, i) => sum + ((errors[c * trials.length + i] as number) * trial.rows) / rowsOfTrial(trial), 0),
          )
        }
      }
      return totals
    },
    [Symbol.dispose]() {
      forms?.[Symbol.dispose]()
    },
  }
}

function rowsOfTrial({ rows, rowStride }: Pick<TrialRows, 'rows' | 'rowStride'>): number {
  return Math.ceil(rows / rowStride)
}

function pieceRows(rows: number, threads: number): number {
  return Math.max(ROW_MULTIPLE, Math.ceil(rows / threads / ROW_MULTIPLE) * ROW_MULTIPLE)
}

function startsOf(rows: number, step: number): readonly number[] {
  return Array.from({ length: Math.ceil(rows / step) }, (_, i) => i * step)
}
