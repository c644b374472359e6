/**
 * One compression and what belongs to it: compress, register the variant, record the per-tensor errors, then the chosen evaluation against the
 * source. The compression's own journal makes its part resumable; the phases of this job make the rest so.
 */
import { z } from 'zod'
import { EvaluationOptionsSchema } from '../../contract/index.ts'
import type { TensorError } from '../../contract/index.ts'
import type { CompressPhaseId, CompressProgress } from '../../compress/types.ts'
import type { Library } from '../library.ts'
import type { CompressPort } from '../ports.ts'
import type { Results } from '../results.ts'
import type { JobRecord } from '../store/job-store.ts'
import { readRunRecord } from '../run-record.ts'
import { refOf, writeCard } from './evaluate-job.ts'
import type { Evaluator } from './evaluator.ts'
import type { JobContext, JobWorker } from './worker.ts'

export const CompressRequestSchema = z.object({
  sourceFolder: z.string(),
  outFolder: z.string(),
  presetId: z.string(),
  variantName: z.string(),
  sourceName: z.string(),
  seed: z.number().int(),
  evaluate: EvaluationOptionsSchema,
})
export type CompressJobRequest = z.infer<typeof CompressRequestSchema>

const PHASES: readonly CompressPhaseId[] = ['read', 'quantize', 'write', 'verify']

export interface CompressJobParts {
  readonly compressor: CompressPort
  readonly library: Library
  readonly results: Results
  readonly evaluator: Evaluator
  readonly latheVersion: string
  readonly now?: () => Date
}

export class CompressWorker implements JobWorker {
  readonly #parts: CompressJobParts

  constructor(parts: CompressJobParts) {
    this.#parts = parts
  }

  async run(context: JobContext): Promise<void> {
    const request = CompressRequestSchema.parse(context.job.request)
    const source = await this.#parts.library.usable(context.job.modelId)
    const variantId = context.job.variantId ?? (await this.#compress(context, request, source.path))
    const variant = await this.#parts.library.usable(variantId)
    await this.#parts.evaluator.run(context, {
      subject: refOf(variant),
      baseline: refOf(source),
      isDemoFamily: source.isSample,
      parameters: source.facts.parameters,
      options: request.evaluate,
    })
    await writeCard(context, variant, this.#parts)
  }

  async discard(job: JobRecord): Promise<void> {
    // a registered variant is whole and the user's; only what never became one goes
    if (job.variantId !== null) return
    await this.#parts.compressor.discardPartial(CompressRequestSchema.parse(job.request).outFolder)
  }

  async #compress(context: JobContext, request: CompressJobRequest, sourceFolder: string): Promise<string> {
    const { library, results } = this.#parts
    const tensorErrors = (await this.#adopt(context, request)) ?? (await this.#produce(context, request, sourceFolder))
    for (const phase of PHASES) context.finish(phase)
    const variant = await library.registerVariant({
      folder: request.outFolder,
      parentId: context.job.modelId,
      presetId: request.presetId,
      name: request.variantName,
    })
    const measuredAt = (this.#parts.now?.() ?? new Date()).toISOString()
    results.record(
      { kind: 'compression', payload: tensorErrors },
      {
        modelId: variant.id,
        protocolKey: 'compression:weights',
        provenance: {
          adapter: 'CPU',
          adapterType: 'software',
          driver: `Node ${process.versions.node}`,
          latheVersion: this.#parts.latheVersion,
          platform: `${process.platform} ${process.arch}`,
          measuredAt,
        },
        jobId: context.job.id,
      },
    )
    context.setVariant(variant.id)
    return variant.id
  }

  /** A run that was killed between the last rename and its own record has left a whole folder: it is taken over, not made again. */
  async #adopt(context: JobContext, request: CompressJobRequest): Promise<readonly TensorError[] | null> {
    if (!context.resumed) return null
    const run = await readRunRecord(request.outFolder)
    if (run === null || run.presetId !== request.presetId || run.seed !== request.seed) return null
    context.log('info', `${request.outFolder} was finished before the interruption.`)
    return run.tensorErrors
  }

  async #produce(context: JobContext, request: CompressJobRequest, sourceFolder: string): Promise<readonly TensorError[]> {
    const report = await this.#parts.compressor.compress({
      sourceFolder,
      outFolder: request.outFolder,
      recipe: { presetId: request.presetId },
      seed: request.seed,
      resume: true,
      latheVersion: this.#parts.latheVersion,
      sourceName: request.sourceName,
      signal: context.signal,
      onProgress: (progress) => showProgress(context, progress),
      onLog: (line) => context.log(line.level, line.text),
    })
    const ratio = report.bytesIn === 0 ? 1 : report.bytesOut / report.bytesIn
    context.log(
      'info',
      `Wrote ${report.bytesOut} bytes, ${(ratio * 100).toFixed(1)} % of ${report.bytesIn}, in ${report.seconds.toFixed(1)} s.`,
    )
    return report.tensors
  }
}

function showProgress(context: JobContext, progress: CompressProgress): void {
  for (const phase of progress.phases) {
    if (phase.doneBytes > 0 || phase.id === progress.current) {
      context.advance(phase.id, phase.doneBytes, phase.totalBytes, progress.currentTensor)
    }
  }
}
