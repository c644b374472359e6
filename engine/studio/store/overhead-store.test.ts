/** What loads took is kept per adapter, only the newest, and only under the present driver. */
import { DatabaseSync } from 'node:sqlite'
import { expect, test } from 'vitest'
import { MIGRATIONS } from './migrations.ts'
import { OverheadStore } from './overhead-store.ts'

test('the newest loads of each adapter under its present driver', () => {
  using database = new DatabaseSync(':memory:')
  for (const { sql } of MIGRATIONS) database.exec(sql)
  const store = new OverheadStore(database)
  const [old, one, other] = [
    { id: 'one', driver: '1.0' },
    { id: 'one', driver: '1.1' },
    { id: 'other', driver: '1.0' },
  ]
  const add = (adapter: { id: string; driver: string }, ...bytes: readonly number[]) => {
    for (const each of bytes) store.add(adapter, { bytes: each, measuredAt: `at ${each}` })
  }
  expect(store.get(one)).toBeNull()
  add(old, 1000, 1000.4)
  add(other, -3)
  expect(store.get(one)).toBeNull()
  expect(store.get(old)).toEqual({ bytes: 1000, loads: 2, newestAt: 'at 1000.4' })
  add(one, 900, 800, 1, 2, 3, 4, 5, 6, 7)
  expect([store.get(old), store.get(one), store.get(other)]).toEqual([
    null,
    { bytes: 4, loads: 7, newestAt: 'at 7' },
    { bytes: -3, loads: 1, newestAt: 'at -3' },
  ])
  expect(database.prepare('SELECT count(*) AS n FROM load_errors').get()).toEqual({ n: 8 })
})
