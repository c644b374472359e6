/**
 * What a kind of job has to bring to the queue, and what the queue gives it. A worker does the work and reports units; it knows nothing of
 * states, ranks or estimates, and it may be killed at any moment: `run` is called again with the phases that are already done.
 */
import type { JobLayers } from '../../contract/index.ts'
import type { JobRecord } from '../store/job-store.ts'

export interface JobContext {
  readonly job: JobRecord
  /** Aborts on cancel and on shutdown. The worker stops soon, keeps what is finished, and throws. */
  readonly signal: AbortSignal
  /** True when an earlier run did part of it. */
  readonly resumed: boolean
  isDone(phaseId: string): boolean
  start(phaseId: string, total?: number): void
  advance(phaseId: string, done: number, total: number, item: string | null): void
  /** Says what is going on where no units pass, such as loading a model; counts as a sign of life. */
  working(item: string): void
  finish(phaseId: string): void
  skip(phaseId: string): void
  /** Where a compression stands among the layers; kept with the job. */
  setLayers(layers: JobLayers): void
  /** The model that the job made. */
  setVariant(modelId: string): void
  log(level: 'info' | 'warn' | 'error', text: string): void
}

export interface JobWorker {
  run(context: JobContext): Promise<void>
  /** Deletes what unfinished phases left behind; called on cancel and on removal. Must not fail if there is nothing. */
  discard(job: JobRecord): Promise<void>
}
