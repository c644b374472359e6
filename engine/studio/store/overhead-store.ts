/** By how much each adapter's newest loads missed their prediction. Another driver is another machine: what was measured under the last one goes. */
import type { DatabaseSync } from 'node:sqlite'
import { z } from 'zod'
import { measuredOverhead, REMEMBERED_LOADS } from '../../capacity/overhead.ts'
import type { LoadError, MeasuredOverhead } from '../../capacity/overhead.ts'
import type { Adapter } from '../../contract/index.ts'

type AdapterKey = Pick<Adapter, 'id' | 'driver'>

const RowSchema = z.object({ bytes: z.number(), measured_at: z.string() })

export class OverheadStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  add({ id, driver }: AdapterKey, { bytes, measuredAt }: LoadError): void {
    this.#database.prepare('DELETE FROM load_errors WHERE adapter_id = ? AND driver <> ?').run(id, driver)
    this.#database
      .prepare('INSERT INTO load_errors (adapter_id, driver, bytes, measured_at) VALUES (?, ?, ?, ?)')
      .run(id, driver, Math.round(bytes), measuredAt)
    this.#database
      .prepare(
        `DELETE FROM load_errors WHERE adapter_id = ?
         AND id NOT IN (SELECT id FROM load_errors WHERE adapter_id = ? ORDER BY id DESC LIMIT ${REMEMBERED_LOADS})`,
      )
      .run(id, id)
  }

  /** null where nothing was loaded under this driver. */
  get({ id, driver }: AdapterKey): MeasuredOverhead | null {
    const rows = this.#database
      .prepare('SELECT bytes, measured_at FROM load_errors WHERE adapter_id = ? AND driver = ? ORDER BY id')
      .all(id, driver)
    const errors = rows.map((row) => RowSchema.parse(row))
    return measuredOverhead(errors.map(({ bytes, measured_at: measuredAt }) => ({ bytes, measuredAt })))
  }
}
