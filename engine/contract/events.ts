/** The one event stream of a window: deltas of what the queries return as snapshots. `seq` grows by one; a client resumes after the last it saw. */
import { z } from 'zod'
import { JobLogLineSchema, JobSchema } from './job.ts'
import { ModelSummarySchema } from './model.ts'

export const StudioEventSchema = z.discriminatedUnion('kind', [
  /**
   * First event of every stream: snapshots older than this must be refetched when `resumed` is false. It comes again in the middle of a stream,
   * with `resumed: false`, when the reader was too slow and events were dropped.
   */
  z.object({ seq: z.number().int(), kind: z.literal('hello'), resumed: z.boolean(), runId: z.string() }),
  z.object({ seq: z.number().int(), kind: z.literal('model.changed'), model: ModelSummarySchema }),
  z.object({ seq: z.number().int(), kind: z.literal('model.removed'), modelId: z.string() }),
  z.object({ seq: z.number().int(), kind: z.literal('job.changed'), job: JobSchema }),
  z.object({ seq: z.number().int(), kind: z.literal('job.removed'), jobId: z.string() }),
  z.object({ seq: z.number().int(), kind: z.literal('job.log'), jobId: z.string(), line: JobLogLineSchema }),
  z.object({ seq: z.number().int(), kind: z.literal('results.changed'), modelId: z.string() }),
  z.object({ seq: z.number().int(), kind: z.literal('threads.changed'), threadId: z.string() }),
  z.object({ seq: z.number().int(), kind: z.literal('hardware.changed') }),
  z.object({ seq: z.number().int(), kind: z.literal('settings.changed') }),
  z.object({ seq: z.number().int(), kind: z.literal('server.changed') }),
])
export type StudioEvent = z.infer<typeof StudioEventSchema>
