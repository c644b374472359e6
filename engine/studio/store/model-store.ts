/**
 * Rows of the library: which folders the user brought in, which variants Lathe wrote, and what their headers said when last read.
 * Rows are never deleted: results and jobs point at them. Whether a folder is still there is the library's business, not the store's.
 */
import type { DatabaseSync } from 'node:sqlite'
import { z } from 'zod'
import { ArchitectureSchema, ErrorSchema, InputElementSchema } from '../../contract/index.ts'
import { flag, json, jsonOrNull, text, textOrNull } from './rows.ts'
import type { Row } from './rows.ts'

/** What a summary needs of a folder's headers, remembered so that the list is instant and a missing folder still has its card. */
export const ModelFactsSchema = z.object({
  architecture: ArchitectureSchema,
  parameters: z.number(),
  weightBytes: z.number(),
  diskBytes: z.number(),
  scheme: z.string(),
  bitsPerWeight: z.number(),
  /** Younger than the first stored rows; filled in when the folder is next looked at. */
  inputElements: z.array(InputElementSchema).default([]),
  hasTokenizer: z.boolean(),
  hasChatTemplate: z.boolean(),
  license: z.string().nullable(),
  /** Why it can only be inspected, or why it can't be read any more; null when all is well. */
  trouble: z.object({ status: z.enum(['unsupported', 'invalid']), reason: ErrorSchema }).nullable(),
})
export type ModelFacts = z.infer<typeof ModelFactsSchema>

/** A server's model. The key itself is never here. */
export const EndpointSchema = z.object({ url: z.string(), model: z.string(), apiKeyVariable: z.string().nullable() })
export type Endpoint = z.infer<typeof EndpointSchema>

export interface ModelRecord {
  readonly id: string
  readonly path: string
  readonly parentId: string | null
  readonly name: string
  readonly createdAt: string
  readonly lastUsedAt: string | null
  readonly removedAt: string | null
  readonly deletedAt: string | null
  readonly writtenByLathe: boolean
  readonly isSample: boolean
  readonly presetId: string | null
  readonly fingerprint: string
  readonly facts: ModelFacts
  readonly origin: 'folder' | 'remote' | 'published'
  readonly endpoint: Endpoint | null
}

export class ModelStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  insert(record: ModelRecord): void {
    this.#database
      .prepare(
        `INSERT INTO models (id, path, parent_id, name, created_at, last_used_at, removed_at, deleted_at, written_by_lathe, is_sample, preset_id, fingerprint, facts, origin, endpoint)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(
        record.id,
        record.path,
        record.parentId,
        record.name,
        record.createdAt,
        record.lastUsedAt,
        record.removedAt,
        record.deletedAt,
        record.writtenByLathe ? 1 : 0,
        record.isSample ? 1 : 0,
        record.presetId,
        record.fingerprint,
        JSON.stringify(record.facts),
        record.origin,
        record.endpoint === null ? null : JSON.stringify(record.endpoint),
      )
  }

  update(record: ModelRecord): void {
    this.#database
      .prepare(
        `UPDATE models SET path = ?, parent_id = ?, name = ?, last_used_at = ?, removed_at = ?, deleted_at = ?, preset_id = ?, fingerprint = ?, facts = ?, endpoint = ? WHERE id = ?`,
      )
      .run(
        record.path,
        record.parentId,
        record.name,
        record.lastUsedAt,
        record.removedAt,
        record.deletedAt,
        record.presetId,
        record.fingerprint,
        JSON.stringify(record.facts),
        record.endpoint === null ? null : JSON.stringify(record.endpoint),
        record.id,
      )
  }

  /** Any row, removed ones included. */
  find(id: string): ModelRecord | null {
    const row = this.#database.prepare('SELECT * FROM models WHERE id = ?').get(id)
    return row === undefined ? null : toRecord(row)
  }

  /** In the library now, oldest first. */
  list(): ModelRecord[] {
    return this.#database
      .prepare('SELECT * FROM models WHERE removed_at IS NULL AND deleted_at IS NULL ORDER BY created_at, rowid')
      .all()
      .map(toRecord)
  }

  variantsOf(parentId: string): ModelRecord[] {
    return this.#database
      .prepare('SELECT * FROM models WHERE parent_id = ? AND removed_at IS NULL AND deleted_at IS NULL ORDER BY created_at, rowid')
      .all(parentId)
      .map(toRecord)
  }

  findByPath(path: string): ModelRecord | null {
    const row = this.#database.prepare('SELECT * FROM models WHERE path = ? AND removed_at IS NULL AND deleted_at IS NULL').get(path)
    return row === undefined ? null : toRecord(row)
  }

  /** The newest entry for this folder that was taken out of the library and can come back. */
  findRemovedByPath(path: string): ModelRecord | null {
    const row = this.#database
      .prepare('SELECT * FROM models WHERE path = ? AND removed_at IS NOT NULL AND deleted_at IS NULL ORDER BY removed_at DESC LIMIT 1')
      .get(path)
    return row === undefined ? null : toRecord(row)
  }
}

function originOf(value: string): ModelRecord['origin'] {
  return value === 'remote' || value === 'published' ? value : 'folder'
}

function toRecord(row: Row): ModelRecord {
  return {
    id: text(row, 'id'),
    path: text(row, 'path'),
    parentId: textOrNull(row, 'parent_id'),
    name: text(row, 'name'),
    createdAt: text(row, 'created_at'),
    lastUsedAt: textOrNull(row, 'last_used_at'),
    removedAt: textOrNull(row, 'removed_at'),
    deletedAt: textOrNull(row, 'deleted_at'),
    writtenByLathe: flag(row, 'written_by_lathe'),
    isSample: flag(row, 'is_sample'),
    presetId: textOrNull(row, 'preset_id'),
    fingerprint: text(row, 'fingerprint'),
    facts: json(row, 'facts', ModelFactsSchema),
    origin: originOf(text(row, 'origin')),
    endpoint: jsonOrNull(row, 'endpoint', EndpointSchema),
  }
}
