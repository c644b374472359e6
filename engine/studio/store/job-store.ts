/** Rows of jobs, their logs, and the speeds that earlier jobs had on this machine. Which state may follow which is the queue's business. */
import type { DatabaseSync } from 'node:sqlite'
import { z } from 'zod'
import { ErrorSchema, JobKindSchema, JobLayersSchema, JobLogLineSchema, JobPhaseSchema, JobStateSchema } from '../../contract/index.ts'
import type { ErrorShape, JobKind, JobLayers, JobLogLine, JobPhase, JobState } from '../../contract/index.ts'
import { integer, integerOrNull, json, jsonOrNull, real, text, textOrNull } from './rows.ts'
import type { Row } from './rows.ts'

/** A phase as it is kept: what the screen shows, and what the estimate needs. */
export const StoredPhaseSchema = JobPhaseSchema.extend({
  /** Under which the phase's speed is remembered on this machine; null = not worth remembering. */
  rateKey: z.string().nullable(),
  /** Units per second to assume while nothing is known. */
  priorRate: z.number().positive(),
  /** Phases of one group run at the same time, so the longest counts. */
  group: z.string(),
})
export type StoredPhase = z.infer<typeof StoredPhaseSchema>

export interface JobRecord {
  readonly id: string
  readonly kind: JobKind
  readonly title: string
  readonly state: JobState
  readonly modelId: string
  readonly variantId: string | null
  readonly presetId: string | null
  /** What the worker was asked for, in the worker's own shape. */
  readonly request: unknown
  readonly phases: readonly StoredPhase[]
  readonly error: ErrorShape | null
  readonly peakRssBytes: number | null
  readonly layers: JobLayers | null
  readonly createdAt: string
  readonly startedAt: string | null
  readonly endedAt: string | null
  readonly rank: number
}

/** A screen shows the newest so many lines; more says nothing to a person. */
const MAX_LOG_LINES = 5000

export class JobStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  insert(record: JobRecord): void {
    this.#database
      .prepare(
        `INSERT INTO jobs (id, kind, title, state, model_id, variant_id, preset_id, request, phases, error, peak_rss_bytes, layers, created_at, started_at, ended_at, rank)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(
        record.id,
        record.kind,
        record.title,
        record.state,
        record.modelId,
        record.variantId,
        record.presetId,
        JSON.stringify(record.request),
        JSON.stringify(record.phases),
        record.error === null ? null : JSON.stringify(record.error),
        record.peakRssBytes,
        record.layers === null ? null : JSON.stringify(record.layers),
        record.createdAt,
        record.startedAt,
        record.endedAt,
        record.rank,
      )
  }

  update(record: JobRecord): void {
    this.#database
      .prepare(
        `UPDATE jobs SET title = ?, state = ?, variant_id = ?, phases = ?, error = ?, peak_rss_bytes = ?, layers = ?, started_at = ?, ended_at = ?, rank = ? WHERE id = ?`,
      )
      .run(
        record.title,
        record.state,
        record.variantId,
        JSON.stringify(record.phases),
        record.error === null ? null : JSON.stringify(record.error),
        record.peakRssBytes,
        record.layers === null ? null : JSON.stringify(record.layers),
        record.startedAt,
        record.endedAt,
        record.rank,
        record.id,
      )
  }

  find(id: string): JobRecord | null {
    const row = this.#database.prepare('SELECT * FROM jobs WHERE id = ?').get(id)
    return row === undefined ? null : toRecord(row)
  }

  /** In queue order. */
  list(): JobRecord[] {
    return this.#database.prepare('SELECT * FROM jobs ORDER BY rank').all().map(toRecord)
  }

  nextRank(): number {
    const row = this.#database.prepare('SELECT coalesce(max(rank), 0) + 1 AS next FROM jobs').get()
    return row === undefined ? 1 : integer(row, 'next')
  }

  remove(id: string): void {
    this.#database.prepare('DELETE FROM jobs WHERE id = ?').run(id)
  }

  appendLog(jobId: string, line: JobLogLine): void {
    this.#database.prepare('INSERT INTO job_log (job_id, at, level, text) VALUES (?, ?, ?, ?)').run(jobId, line.at, line.level, line.text)
  }

  log(jobId: string): JobLogLine[] {
    return this.#database
      .prepare('SELECT at, level, text FROM (SELECT * FROM job_log WHERE job_id = ? ORDER BY id DESC LIMIT ?) ORDER BY id')
      .all(jobId, MAX_LOG_LINES)
      .map((row) => JobLogLineSchema.parse({ at: row['at'], level: row['level'], text: row['text'] }))
  }

  /** Units per second that this kind of work had here before; null if never. */
  rate(key: string): number | null {
    const row = this.#database.prepare('SELECT units_per_second FROM rates WHERE key = ?').get(key)
    return row === undefined ? null : real(row, 'units_per_second')
  }

  /** Half the old memory, half the new measurement: follows a machine that changed, forgives one bad run. */
  rememberRate(key: string, unitsPerSecond: number, at: string): void {
    this.#database
      .prepare(
        `INSERT INTO rates (key, units_per_second, samples, updated_at) VALUES (?, ?, 1, ?)
         ON CONFLICT (key) DO UPDATE SET units_per_second = (units_per_second + excluded.units_per_second) / 2,
           samples = samples + 1, updated_at = excluded.updated_at`,
      )
      .run(key, unitsPerSecond, at)
  }
}

/** The screen's view of a phase. */
export function publicPhase(phase: StoredPhase): JobPhase {
  return { id: phase.id, title: phase.title, state: phase.state, done: phase.done, total: phase.total, unit: phase.unit }
}

function toRecord(row: Row): JobRecord {
  return {
    id: text(row, 'id'),
    kind: JobKindSchema.parse(text(row, 'kind')),
    title: text(row, 'title'),
    state: JobStateSchema.parse(text(row, 'state')),
    modelId: text(row, 'model_id'),
    variantId: textOrNull(row, 'variant_id'),
    presetId: textOrNull(row, 'preset_id'),
    request: JSON.parse(text(row, 'request')),
    phases: json(row, 'phases', z.array(StoredPhaseSchema)),
    error: jsonOrNull(row, 'error', ErrorSchema) as ErrorShape | null,
    peakRssBytes: integerOrNull(row, 'peak_rss_bytes'),
    layers: jsonOrNull(row, 'layers', JobLayersSchema),
    createdAt: text(row, 'created_at'),
    startedAt: textOrNull(row, 'started_at'),
    endedAt: textOrNull(row, 'ended_at'),
    rank: integer(row, 'rank'),
  }
}
