/**
 * Opens the studio's SQLite file: one owner at a time, write-ahead log, migrations, and a way out when the file is damaged.
 * The lock is SQLite's own, so that it vanishes with the process however that ends. Knows no table.
 */
import { chmodSync, closeSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { LatheError } from '../../contract/index.ts'
import type { Log } from '../ports.ts'
import { MIGRATIONS } from './migrations.ts'
import type { Migration } from './migrations.ts'

/** SQLite result codes (low byte), https://sqlite.org/rescode.html */
const SQLITE_BUSY = 5
const SQLITE_CORRUPT = 11
const SQLITE_NOTADB = 26
const SQLITE_FULL = 13
const SQLITE_CANTOPEN = 14
const SQLITE_READONLY = 8

/** Another owner that is closing needs a moment for its last checkpoint; longer than that and it is really in use. */
const BUSY_TIMEOUT_MS = 1500

/**
 * Opens or creates the database at `path` and brings it to the newest schema.
 * Throws `studio.in-use` when another process holds it, `studio.data-too-new` when a newer Lathe wrote it, `disk.*` when it can't be written.
 * A damaged file is set aside beside the new one (`….damaged-<time>`), with a warning in the log: the app must start.
 */
export function openDatabase(path: string, log: Log, migrations: readonly Migration[] = MIGRATIONS): DatabaseSync {
  try {
    // Conversations and paths are nobody else's business on a machine with several users. A folder that exists keeps the mode it was given.
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new LatheError(
      'disk.permission',
      `The data folder ${dirname(path)} can't be created.`,
      'Choose a data folder that you may write to.',
      {
        cause: error,
      },
    )
  }
  try {
    return openAndMigrate(path, migrations)
  } catch (error) {
    const code = sqliteCode(error)
    if (code !== SQLITE_CORRUPT && code !== SQLITE_NOTADB) throw explain(error, path)
    const aside = `${path}.damaged-${new Date().toISOString().replaceAll(/[:.]/g, '-')}`
    renameSync(path, aside)
    for (const suffix of ['-wal', '-shm']) rmSync(path + suffix, { force: true })
    log(
      'error',
      `The library file was damaged and has been set aside as ${aside}. Lathe starts with an empty library; model folders are untouched.`,
    )
    return openAndMigrate(path, migrations)
  }
}

/** Runs `work` in one transaction; everything or nothing. Not reentrant. */
export function transaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec('BEGIN IMMEDIATE')
  try {
    const value = work()
    database.exec('COMMIT')
    return value
  } catch (error) {
    database.exec('ROLLBACK')
    throw error
  }
}

function openAndMigrate(path: string, migrations: readonly Migration[]): DatabaseSync {
  // SQLite gives the log and the index beside it the mode of this file.
  closeSync(openSync(path, 'a', 0o600))
  chmodSync(path, 0o600)
  const database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS })
  try {
    // exclusive: the lock is taken with the first read below and held until close or death
    database.exec(
      'PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;',
    )
    database.exec('BEGIN EXCLUSIVE; COMMIT;')
    migrate(database, migrations)
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

function migrate(database: DatabaseSync, migrations: readonly Migration[]): void {
  const newest = migrations.at(-1)?.version ?? 0
  const current = userVersion(database)
  if (current > newest) {
    throw new LatheError(
      'studio.data-too-new',
      `This data folder was written by a newer Lathe (schema ${current}; this one knows ${newest}).`,
      'Update Lathe, or start with another data folder.',
    )
  }
  for (const migration of migrations) {
    if (migration.version <= current) continue
    transaction(database, () => {
      database.exec(migration.sql)
      database.exec(`PRAGMA user_version = ${migration.version}`)
    })
  }
}

function userVersion(database: DatabaseSync): number {
  return Number(database.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0)
}

function sqliteCode(error: unknown): number | null {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return null
  return error.errcode & 0xff
}

function explain(error: unknown, path: string): unknown {
  const code = sqliteCode(error)
  if (code === SQLITE_BUSY) {
    return new LatheError(
      'studio.in-use',
      `Another Lathe is using the data folder ${dirname(path)}.`,
      'Use the window that is already open, or close it first.',
      { cause: error },
    )
  }
  if (code === SQLITE_FULL) {
    return new LatheError('disk.full', `No space is left for ${path}.`, 'Free some disk space and start again.', { cause: error })
  }
  if (code === SQLITE_CANTOPEN || code === SQLITE_READONLY) {
    return new LatheError('disk.permission', `${path} can't be written.`, 'Choose a data folder that you may write to.', { cause: error })
  }
  return error
}
