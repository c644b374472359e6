/** The newest calibration of each adapter. Another driver is another machine: its calibration is not found. */
import type { DatabaseSync } from 'node:sqlite'
import { HardwareBenchmarkSchema } from '../../contract/index.ts'
import type { Adapter, HardwareBenchmark } from '../../contract/index.ts'
import { json } from './rows.ts'

type AdapterKey = Pick<Adapter, 'id' | 'driver'>

export class CalibrationStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  put(adapter: AdapterKey, calibration: HardwareBenchmark): void {
    this.#database
      .prepare(
        `INSERT INTO calibrations (adapter_id, driver, payload, measured_at) VALUES (?, ?, ?, ?)
         ON CONFLICT (adapter_id, driver) DO UPDATE SET payload = excluded.payload, measured_at = excluded.measured_at`,
      )
      .run(adapter.id, adapter.driver, JSON.stringify(HardwareBenchmarkSchema.parse(calibration)), calibration.measuredAt)
  }

  get(adapter: AdapterKey): HardwareBenchmark | null {
    const row = this.#database
      .prepare('SELECT payload FROM calibrations WHERE adapter_id = ? AND driver = ?')
      .get(adapter.id, adapter.driver)
    return row === undefined ? null : json(row, 'payload', HardwareBenchmarkSchema)
  }
}
