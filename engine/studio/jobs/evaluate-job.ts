/**
 * Measures one model of the library again: against its source if it is a variant, by itself if it is the source; its text against another model where
 * one is named. Where a side is a server, the text is remote-text.ts's business.
 */
import { z } from 'zod'
import { EvaluationOptionsSchema, toErrorShape } from '../../contract/index.ts'
import type { EvaluationOptions } from '../../contract/index.ts'
import { evaluationForCard } from '../card-evaluation.ts'
import type { Library } from '../library.ts'
import type { CompressPort, ModelRef } from '../ports.ts'
import type { Results } from '../results.ts'
import type { JobRecord } from '../store/job-store.ts'
import type { ModelRecord } from '../store/model-store.ts'
import type { Evaluator } from './evaluator.ts'
import { measurable } from './measuring.ts'
import type { RemoteTexts } from './remote-text.ts'
import { TaskRunRequestSchema } from './task-run.ts'
import type { TaskRuns } from './task-run.ts'
import type { JobContext, JobWorker } from './worker.ts'

export const EvaluateRequestSchema = z.object({ evaluate: EvaluationOptionsSchema, baselineId: z.string().nullable().default(null) })

export interface EvaluateJobParts {
  readonly library: Library
  readonly evaluator: Evaluator
  readonly results: Results
  readonly compressor: Pick<CompressPort, 'updateModelCard'>
  readonly taskRuns: TaskRuns
  readonly remoteTexts: RemoteTexts
}

export class EvaluateWorker implements JobWorker {
  readonly #parts: EvaluateJobParts

  constructor(parts: EvaluateJobParts) {
    this.#parts = parts
  }

  async run(context: JobContext): Promise<void> {
    if (TaskRunRequestSchema.safeParse(context.job.request).success) return this.#parts.taskRuns.run(context)
    const { evaluate, baselineId } = EvaluateRequestSchema.parse(context.job.request)
    const { library, evaluator, remoteTexts } = this.#parts
    const subject = await measurable(library, context.job.modelId)
    const root = library.familyRoot(subject.id)
    const source = root.id === subject.id || root.origin === 'published' ? null : root
    const named = baselineId === null || baselineId === subject.id || baselineId === root.id ? null : library.record(baselineId)
    const beside = named ?? source
    const onServer = subject.origin === 'remote' || beside?.origin === 'remote'
    if (evaluate.perplexity && onServer) await remoteTexts.run(context, subject, beside)
    if (subject.origin === 'remote') return
    const measure = async (baseline: ModelRecord | null, options: EvaluationOptions): Promise<void> =>
      evaluator.run(context, {
        subject: refOf(subject),
        baseline: baseline === null ? null : refOf(await library.runnable(baseline.id)),
        isDemoFamily: root.isSample,
        parameters: root.facts.parameters,
        options,
      })
    const others = { ...evaluate, perplexity: false }
    if (onServer) await measure(source?.origin === 'folder' ? source : null, others)
    else if (beside === source) await measure(source, evaluate)
    else {
      // Only drift is from the model that was named: tasks and speeds are of one original on the whole board.
      await measure(beside, { ...evaluate, tasks: false, throughput: false })
      await measure(source, others)
    }
    await writeCard(context, subject, this.#parts)
  }

  /** Measurements that are recorded stay. */
  async discard(job: JobRecord): Promise<void> {
    await this.#parts.remoteTexts.discard(job)
  }
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
