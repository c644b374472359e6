/** The user's settings, one row per key: an unknown or damaged value falls back to that key's default and leaves the others alone. */
import type { DatabaseSync } from 'node:sqlite'
import { DEFAULT_SETTINGS, SettingsSchema } from '../../contract/index.ts'
import type { Settings, SettingsPatch } from '../../contract/index.ts'
import { transaction } from './database.ts'
import { text } from './rows.ts'

export class SettingsStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  get(): Settings {
    const stored: Record<string, unknown> = { ...DEFAULT_SETTINGS }
    for (const row of this.#database.prepare('SELECT key, value FROM settings').all()) {
      const key = text(row, 'key')
      const candidate = { ...stored, [key]: JSON.parse(text(row, 'value')) as unknown }
      if (key in stored && SettingsSchema.safeParse(candidate).success) stored[key] = candidate[key]
    }
    return SettingsSchema.parse(stored)
  }

  update(change: SettingsPatch): Settings {
    const upsert = this.#database.prepare(
      'INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
    )
    transaction(this.#database, () => {
      for (const [key, value] of Object.entries(change)) {
        if (value !== undefined) upsert.run(key, JSON.stringify(value))
      }
    })
    return this.get()
  }
}
