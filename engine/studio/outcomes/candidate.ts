/**
 * One candidate of a preset that promises an outcome: compressed into a folder beside the output, measured against the original on held-out
 * text, both recorded so that an interrupted run continues. Chooses nothing.
 */
import { access, rm } from 'node:fs/promises'
import type { Recipe } from '../../compress/recipe.ts'
import type { CalibrationOptions, CompressOptions, CompressReport, CompressStage } from '../../compress/types.ts'
import { LatheError } from '../../contract/index.ts'
import type { Backend } from '../../gpu/program.ts'
import type { DivergenceBench, OpenBench, TextSplit } from './held-out-bench.ts'
import { candidateFolder } from './outcome-state.ts'
import type { StateStore } from './outcome-state.ts'
import type { SampleDivergence } from './sample-divergence.ts'

export interface OutcomeParts {
  /** The compressor of plain recipes. */
  readonly compress: (options: CompressOptions) => Promise<CompressReport>
  readonly openBackend: () => Promise<Backend>
  readonly openBench: OpenBench
}

/** What the search for a map and the choice among candidates share. */
export interface OutcomeRun {
  readonly options: CompressOptions
  readonly parts: OutcomeParts
  readonly store: StateStore
  readonly text: TextSplit
  readonly calibration: CalibrationOptions
  readonly backend: Backend
  readonly resumed: boolean
  /** Tells where it is; `of` 0 where only a candidate's own progress counts. */
  stage(stage: CompressStage): void
}

export interface CandidatePlan {
  readonly id: string
  readonly title: string
  readonly recipe: Recipe
  readonly predictedLoss: number | null
}

export interface TriedCandidate {
  readonly plan: CandidatePlan
  readonly folder: string
  readonly report: CompressReport
  readonly measured: SampleDivergence
}

/** Compresses and measures one candidate, or takes over what an interrupted run had of it. */
export async function tryCandidate(run: OutcomeRun, plan: CandidatePlan, index: number, total: number): Promise<TriedCandidate> {
  const { options, store, parts, backend, text } = run
  const folder = candidateFolder(options.outFolder, plan.id)
  const known = store.state.candidates.find(({ id }) => id === plan.id)
  const others = store.state.candidates.filter(({ id }) => id !== plan.id)
  const stage = { title: total === 1 ? plan.title : `${plan.title}, ${index + 1} of ${total}`, finished: index, total }
  const { presetId } = options.recipe
  let report = known?.report ?? null
  if (report === null || !(await exists(folder))) {
    // Finished, but killed before it was recorded: without its report it is made again.
    await rm(folder, { recursive: true, force: true })
    report = await parts.compress({
      ...options,
      outFolder: folder,
      recipe: { recipe: plan.recipe, ...(presetId === undefined ? {} : { presetId }) },
      calibration: run.calibration,
      openBackend: async () => lent(backend),
      onProgress: (progress) => options.onProgress?.({ ...progress, stage: { id: 'candidate', ...stage, done: 0, of: 0 } }),
      onLog: (line) => options.onLog?.({ ...line, text: `${plan.title}: ${line.text}` }),
    })
    await store.update({ candidates: [...others, { id: plan.id, report, measured: null }] })
  } else options.onLog?.({ level: 'info', text: `${plan.title} was finished before the interruption.` })
  let measured: SampleDivergence
  if (known?.measured !== undefined && known.measured !== null) {
    measured = { ...known.measured, kldMean: known.measured.kldMean ?? Number.POSITIVE_INFINITY }
  } else {
    await using bench = await openMeasuring(run, text.heldOut, report.bytesIn, report.bytesOut)
    measured = await bench.measure(folder, {
      onProgress: (done, of) => run.stage({ id: 'measure', ...stage, done, of }),
    })
    const kldMean = Number.isFinite(measured.kldMean) ? measured.kldMean : null
    await store.update({ candidates: [...others, { id: plan.id, report, measured: { ...measured, kldMean } }] })
  }
  options.onLog?.({ level: 'info', text: `${plan.title}: ${describeDivergence(measured)} on held-out text.` })
  return { plan, folder, report, measured }
}

/** Caches, activations and logits of two models on short samples. */
const MEASURING_BYTES = 256 << 20

/** The original on the device, and room for a candidate beside it. Throws `gpu.out-of-memory`. */
export async function openMeasuring(
  { options, parts, backend }: OutcomeRun,
  samples: readonly Uint32Array[],
  originalBytes: number,
  candidateBytes: number,
): Promise<DivergenceBench> {
  const bytes = originalBytes + candidateBytes + MEASURING_BYTES
  if (options.reserveDevice !== undefined && !(await options.reserveDevice(bytes))) {
    throw new LatheError(
      'gpu.out-of-memory',
      `Measuring takes the original and the result on the device at once, ${(bytes / 1e9).toFixed(1)} GB, and there is not that much.`,
      'Unload models, or run a plain recipe, which measures nothing. What is finished is kept for a resume.',
    )
  }
  return await parts.openBench(options.sourceFolder, samples, backend, options.signal)
}

export function describeDivergence({ kldMean, kldStandardError }: Pick<SampleDivergence, 'kldMean' | 'kldStandardError'>): string {
  const error = kldStandardError === null ? '' : ` ± ${kldStandardError.toPrecision(1)}`
  return `a divergence of ${kldMean.toPrecision(3)}${error} nats per token`
}

/** The same device without the right to close it. */
function lent(backend: Backend): Backend {
  return new Proxy(backend, {
    get(target, key) {
      if (key === Symbol.asyncDispose) return () => Promise.resolve()
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
