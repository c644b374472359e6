/** Measures one model of the library again: against its source if it is a variant, by itself if it is the source. */
import { z } from 'zod'
import { EvaluationOptionsSchema, toErrorShape } from '../../contract/index.ts'
import { evaluationForCard } from '../card-evaluation.ts'
import type { Library } from '../library.ts'
import type { CompressPort, ModelRef } from '../ports.ts'
import type { Results } from '../results.ts'
import type { ModelRecord } from '../store/model-store.ts'
import type { Evaluator } from './evaluator.ts'
import { TaskRunRequestSchema } from './task-run.ts'
import type { TaskRuns } from './task-run.ts'
import type { JobContext, JobWorker } from './worker.ts'

export const EvaluateRequestSchema = z.object({ evaluate: EvaluationOptionsSchema })

export interface EvaluateJobParts {
  readonly library: Library
  readonly evaluator: Evaluator
  readonly results: Results
  readonly compressor: Pick<CompressPort, 'updateModelCard'>
  readonly taskRuns: TaskRuns
}

export class EvaluateWorker implements JobWorker {
  readonly #parts: EvaluateJobParts

  constructor(parts: EvaluateJobParts) {
    this.#parts = parts
  }

  async run(context: JobContext): Promise<void> {
    if (TaskRunRequestSchema.safeParse(context.job.request).success) return this.#parts.taskRuns.run(context)
    const { evaluate } = EvaluateRequestSchema.parse(context.job.request)
    const { library, evaluator } = this.#parts
    const subject = await library.runnable(context.job.modelId)
    const root = library.familyRoot(subject.id)
    const baseline = root.id === subject.id ? null : await library.runnable(root.id)
    await evaluator.run(context, {
      subject: refOf(subject),
      baseline: baseline === null ? null : refOf(baseline),
      isDemoFamily: root.isSample,
      parameters: root.facts.parameters,
      options: evaluate,
    })
    await writeCard(context, subject, this.#parts)
  }

  /** Measurements that are recorded stay; there is nothing half done on disk. */
  async discard(): Promise<void> {}
}

export function refOf(record: ModelRecord): ModelRef {
  return { modelId: record.id, name: record.name, folder: record.path }
}

/** Puts what was measured into the variant's own README.md. Only into folders that Lathe wrote, and never at the cost of the job. */
export async function writeCard(
  context: JobContext,
  variant: ModelRecord,
  parts: Pick<EvaluateJobParts, 'library' | 'results' | 'compressor'>,
): Promise<void> {
  if (!variant.writtenByLathe) return
  const { results } = parts.results.board(variant.id)
  const [source] = results
  const own = results.find((set) => set.modelId === variant.id)
  const evaluation = source === undefined || own === undefined ? null : evaluationForCard(source, own)
  if (evaluation === null) return
  try {
    await parts.compressor.updateModelCard(variant.path, evaluation)
  } catch (error) {
    // the figures are in the store; a card that can't be written (read-only folder, edited away) is worth a line, not a failure
    context.log('warn', `The model card was not updated: ${toErrorShape(error).message}`)
  }
}
