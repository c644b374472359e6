/** Measures one model of the library again: against its source if it is a variant, by itself if it is the source. */
import { z } from 'zod'
import { EvaluationOptionsSchema } from '../../contract/index.ts'
import type { Library } from '../library.ts'
import type { ModelRef } from '../ports.ts'
import type { ModelRecord } from '../store/model-store.ts'
import type { Evaluator } from './evaluator.ts'
import type { JobContext, JobWorker } from './worker.ts'

export const EvaluateRequestSchema = z.object({ evaluate: EvaluationOptionsSchema })

export class EvaluateWorker implements JobWorker {
  readonly #library: Library
  readonly #evaluator: Evaluator

  constructor(library: Library, evaluator: Evaluator) {
    this.#library = library
    this.#evaluator = evaluator
  }

  async run(context: JobContext): Promise<void> {
    const { evaluate } = EvaluateRequestSchema.parse(context.job.request)
    const subject = await this.#library.runnable(context.job.modelId)
    const root = this.#library.familyRoot(subject.id)
    const baseline = root.id === subject.id ? null : await this.#library.runnable(root.id)
    await this.#evaluator.run(context, {
      subject: refOf(subject),
      baseline: baseline === null ? null : refOf(baseline),
      isDemoFamily: root.isSample,
      options: evaluate,
    })
  }

  /** Measurements that are recorded stay; there is nothing half done on disk. */
  async discard(): Promise<void> {}
}

export function refOf(record: ModelRecord): ModelRef {
  return { modelId: record.id, name: record.name, folder: record.path }
}
