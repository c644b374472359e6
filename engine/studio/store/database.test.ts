import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { LatheError } from '../../contract/index.ts'
import { useTemporaryFolders } from '../test/temporary-folder.ts'
import { openDatabase, transaction } from './database.ts'
import { MIGRATIONS } from './migrations.ts'

const temporaryFolder = useTemporaryFolders()
const silent = (): void => {}

function codeOf(work: () => unknown): string {
  try {
    work()
    return 'nothing thrown'
  } catch (error) {
    return error instanceof LatheError ? error.code : `not a LatheError: ${String(error)}`
  }
}

describe('migrations', () => {
  it('run once each, in order, and keep what is there', () => {
    const path = join(temporaryFolder(), 'lathe.db')
    const first = { version: 1, title: 'one', sql: 'CREATE TABLE a (x INTEGER) STRICT;' }
    const second = { version: 2, title: 'two', sql: 'ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 7;' }
    const before = openDatabase(path, silent, [first])
    before.exec('INSERT INTO a VALUES (1)')
    before.close()
    for (let again = 0; again < 2; again++) {
      const after = openDatabase(path, silent, [first, second])
      expect(after.prepare('SELECT * FROM a').all()).toEqual([{ x: 1, y: 7 }])
      expect(after.prepare('PRAGMA user_version').get()).toEqual({ user_version: 2 })
      after.close()
    }
  })

  it('leave the file as it was when one fails half way', () => {
    const path = join(temporaryFolder(), 'lathe.db')
    const good = { version: 1, title: 'one', sql: 'CREATE TABLE a (x INTEGER) STRICT;' }
    const bad = { version: 2, title: 'two', sql: 'CREATE TABLE b (x INTEGER) STRICT; CREATE TABLE a (x INTEGER);' }
    openDatabase(path, silent, [good]).close()
    expect(() => openDatabase(path, silent, [good, bad])).toThrow(/already exists/)
    const database = openDatabase(path, silent, [good])
    expect(database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").all()).toEqual([{ name: 'a' }])
    database.close()
  })

  it('refuse a file of a newer Lathe instead of guessing', () => {
    const path = join(temporaryFolder(), 'lathe.db')
    openDatabase(path, silent, [...MIGRATIONS, { version: 999, title: 'future', sql: 'CREATE TABLE future (x INTEGER);' }]).close()
    expect(codeOf(() => openDatabase(path, silent))).toBe('studio.data-too-new')
  })
})

describe('the file', () => {
  it('belongs to one process at a time, and is free again when that closes', () => {
    const path = join(temporaryFolder(), 'lathe.db')
    const owner = openDatabase(path, silent)
    expect(codeOf(() => openDatabase(path, silent))).toBe('studio.in-use')
    owner.close()
    openDatabase(path, silent).close()
  })

  it('keeps what was committed, and only that, when the process is killed', async () => {
    const path = join(temporaryFolder(), 'lathe.db')
    const program = `
      import { openDatabase, transaction } from ${JSON.stringify(import.meta.resolve('./database.ts'))}
      const database = openDatabase(${JSON.stringify(path)}, () => {})
      transaction(database, () => database.exec("INSERT INTO settings VALUES ('committed', '1')"))
      database.exec("BEGIN; INSERT INTO settings VALUES ('not committed', '1')")
      process.stdout.write('ready')
      setInterval(() => {}, 1000)`
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(child.stdout, 'data')
    child.kill('SIGKILL')
    await once(child, 'exit')
    const database = openDatabase(path, silent)
    expect(database.prepare('SELECT key FROM settings').all()).toEqual([{ key: 'committed' }])
    database.close()
  })

  it('is set aside when it is damaged, and the app starts with an empty one', () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'lathe.db'), 'this is not a database, but long enough to be read as one'.repeat(50))
    const lines: string[] = []
    openDatabase(join(folder, 'lathe.db'), (level, text) => lines.push(`${level} ${text}`)).close()
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatch(/^error .*damaged/)
    expect(readdirSync(folder).filter((name) => name.startsWith('lathe.db.damaged-'))).toHaveLength(1)
  })

  it('says so when its folder cannot be made', () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'file'), '')
    expect(codeOf(() => openDatabase(join(folder, 'file', 'lathe.db'), silent))).toBe('disk.permission')
  })
})

describe('transaction', () => {
  it('undoes everything when the work throws', () => {
    const database = openDatabase(join(temporaryFolder(), 'lathe.db'), silent)
    const work = (): void => {
      database.exec("INSERT INTO settings VALUES ('a', '1')")
      throw new Error('no')
    }
    expect(() => transaction(database, work)).toThrow('no')
    expect(database.prepare('SELECT * FROM settings').all()).toEqual([])
    database.close()
  })
})
