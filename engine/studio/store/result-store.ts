/**
 * Measurements as rows that are never changed: a newer one of the same kind supersedes the older, which stays with its protocol and provenance.
 * The payload is the contract's shape; this file only files it.
 */
import type { DatabaseSync } from 'node:sqlite'
import { z } from 'zod'
import {
  DriftResultSchema,
  PerplexityResultSchema,
  ProvenanceSchema,
  SampleRowSchema,
  ServedBenchmarkSchema,
  TaskResultSchema,
  TensorErrorSchema,
  ThroughputResultSchema,
} from '../../contract/index.ts'
import type {
  DriftResult,
  PerplexityResult,
  Provenance,
  SampleRow,
  ServedBenchmark,
  TaskResult,
  TensorError,
  ThroughputResult,
} from '../../contract/index.ts'
import type { DriftTokens } from '../../evaluate/perplexity.ts'
import { transaction } from './database.ts'
import { integer, json, text, textOrNull } from './rows.ts'
import type { Row } from './rows.ts'

/** Per-item answers of a task, in the order of its items. */
export const AnswerDetailsSchema = z.object({
  chosen: z.array(z.number()),
  right: z.array(z.boolean()),
  margins: z.array(z.number().nullable()),
})
export type AnswerDetails = z.infer<typeof AnswerDetailsSchema>

const PAYLOADS = {
  perplexity: PerplexityResultSchema,
  drift: DriftResultSchema,
  task: TaskResultSchema,
  throughput: ThroughputResultSchema,
  served: ServedBenchmarkSchema,
  compression: z.array(TensorErrorSchema),
} as const

export type Measured =
  | { readonly kind: 'perplexity'; readonly payload: PerplexityResult }
  | { readonly kind: 'drift'; readonly payload: DriftResult; readonly tokens?: DriftTokens }
  | { readonly kind: 'task'; readonly payload: TaskResult; readonly details: AnswerDetails; readonly samples?: readonly SampleRow[] }
  | { readonly kind: 'throughput'; readonly payload: ThroughputResult }
  | { readonly kind: 'served'; readonly payload: ServedBenchmark }
  | { readonly kind: 'compression'; readonly payload: readonly TensorError[] }

export interface ResultContext {
  readonly modelId: string
  readonly protocolKey: string
  readonly provenance: Provenance
  readonly jobId: string | null
}

export type StoredResult = Measured & ResultContext & { readonly id: number; readonly createdAt: string }

export class ResultStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  insert(measured: Measured, context: ResultContext, createdAt: string): void {
    // a figure that JSON can't hold (NaN, infinity) must stop the job that made it, not every later look at the board
    PAYLOADS[measured.kind].parse(measured.payload)
    const details = measured.kind === 'task' ? JSON.stringify(measured.details) : null
    transaction(this.#database, () => {
      const inserted = this.#database
        .prepare(
          `INSERT INTO results (model_id, kind, subject, protocol_key, payload, provenance, details, job_id, created_at)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        )
        .run(
          context.modelId,
          measured.kind,
          subjectOf(measured),
          context.protocolKey,
          JSON.stringify(measured.payload),
          JSON.stringify(context.provenance),
          details,
          context.jobId,
          createdAt,
        )
      this.#database
        .prepare(
          'UPDATE results SET superseded_by = ? WHERE model_id = ? AND kind = ? AND subject = ? AND superseded_by IS NULL AND id <> ?',
        )
        .run(inserted.lastInsertRowid, context.modelId, measured.kind, subjectOf(measured), inserted.lastInsertRowid)
      const id = Number(inserted.lastInsertRowid)
      if (measured.kind === 'task') this.#insertSamples(id, measured.samples ?? [])
      if (measured.kind === 'drift' && measured.tokens !== undefined) this.#insertTokens(id, measured.tokens)
    })
  }

  #insertSamples(resultId: number, samples: readonly SampleRow[]): void {
    const statement = this.#database.prepare('INSERT INTO result_samples (result_id, ordinal, payload) VALUES (?, ?, ?)')
    for (const [ordinal, sample] of samples.entries()) statement.run(resultId, ordinal, JSON.stringify(SampleRowSchema.parse(sample)))
  }

  #insertTokens(resultId: number, tokens: DriftTokens): void {
    const { ids, kld, baselineLogprobs, candidateLogprobs, baselineTop, candidateTop } = tokens
    const columns = [ids, kld, baselineLogprobs, candidateLogprobs, baselineTop, candidateTop].map(bytesOf)
    this.#database
      .prepare(
        'INSERT INTO result_tokens (result_id, ids, kld, baseline_logprobs, candidate_logprobs, baseline_top, candidate_top) VALUES (?, ?, ?, ?, ?, ?, ?)',
      )
      .run(resultId, ...columns)
  }

  /** The items of a task's result in their order; empty where they were not kept. */
  samples(resultId: number): SampleRow[] {
    return this.#database
      .prepare('SELECT payload FROM result_samples WHERE result_id = ? ORDER BY ordinal')
      .all(resultId)
      .map((row) => json(row, 'payload', SampleRowSchema))
  }

  /** The positions of a drift result; null where they were not kept. */
  tokens(resultId: number): DriftTokens | null {
    const row = this.#database.prepare('SELECT * FROM result_tokens WHERE result_id = ?').get(resultId)
    if (row === undefined) return null
    return {
      ids: new Uint32Array(buffer(row, 'ids')),
      kld: new Float32Array(buffer(row, 'kld')),
      baselineLogprobs: new Float32Array(buffer(row, 'baseline_logprobs')),
      candidateLogprobs: new Float32Array(buffer(row, 'candidate_logprobs')),
      baselineTop: new Uint32Array(buffer(row, 'baseline_top')),
      candidateTop: new Uint32Array(buffer(row, 'candidate_top')),
    }
  }

  /** The newest of each kind and subject, oldest first. */
  current(modelId: string): StoredResult[] {
    return this.#database
      .prepare('SELECT * FROM results WHERE model_id = ? AND superseded_by IS NULL ORDER BY id')
      .all(modelId)
      .map(toResult)
  }

  /** Every measurement of one kind under one protocol, superseded ones included, oldest first. */
  history(modelId: string, kind: Measured['kind'], protocolKey: string): StoredResult[] {
    return this.#database
      .prepare('SELECT * FROM results WHERE model_id = ? AND kind = ? AND protocol_key = ? ORDER BY id')
      .all(modelId, kind, protocolKey)
      .map(toResult)
  }

  /** How often this was measured, superseded ones included. */
  count(modelId: string, kind: Measured['kind']): number {
    const row = this.#database.prepare('SELECT count(*) AS n FROM results WHERE model_id = ? AND kind = ?').get(modelId, kind)
    return row === undefined ? 0 : integer(row, 'n')
  }
}

function bytesOf(values: Uint32Array | Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** A copy, so that its start is aligned. */
function buffer(row: Row, column: string): ArrayBuffer {
  const value = row[column]
  if (!(value instanceof Uint8Array) || value.byteLength % 4 !== 0)
    throw new Error(`The library file holds no array of numbers in "${column}".`)
  return Uint8Array.from(value).buffer
}

/** What distinguishes measurements of one kind of one model that may stand side by side. */
function subjectOf(measured: Measured): string {
  if (measured.kind === 'task') return measured.payload.name
  if (measured.kind === 'drift') return measured.payload.baselineId
  return ''
}

function toResult(row: Row): StoredResult {
  const context = {
    id: integer(row, 'id'),
    modelId: text(row, 'model_id'),
    protocolKey: text(row, 'protocol_key'),
    provenance: json(row, 'provenance', ProvenanceSchema),
    jobId: textOrNull(row, 'job_id'),
    createdAt: text(row, 'created_at'),
  }
  const kind = text(row, 'kind')
  switch (kind) {
    case 'perplexity':
      return { ...context, kind, payload: json(row, 'payload', PerplexityResultSchema) }
    case 'drift':
      return { ...context, kind, payload: json(row, 'payload', DriftResultSchema) }
    case 'task':
      return { ...context, kind, payload: json(row, 'payload', TaskResultSchema), details: json(row, 'details', AnswerDetailsSchema) }
    case 'throughput':
      return { ...context, kind, payload: json(row, 'payload', ThroughputResultSchema) }
    case 'served':
      return { ...context, kind, payload: json(row, 'payload', ServedBenchmarkSchema) }
    case 'compression':
      return { ...context, kind, payload: json(row, 'payload', PAYLOADS.compression) }
    default:
      throw new Error(`The library file holds a result of unknown kind "${kind}".`)
  }
}
