import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { openCacheIn, openEvaluationCache } from './cache.ts'

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})
function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'lathe-cache-'))
  folders.push(folder)
  return folder
}

/** A line of 100 bytes. */
const value = (key: string) => ({ text: 'x'.repeat(100 - `["${key}",{"text":""}]\n`.length) })
const MAX_BYTES = 1000

describe('a full cache', () => {
  test('forgets what was not used for longest, and its file stays within twice the limit', async () => {
    const path = join(temporaryFolder(), 'cache.jsonl')
    const cache = await openEvaluationCache(path, MAX_BYTES)
    for (let i = 0; i < 10; i++) cache.put(`k${i}`, value(`k${i}`))
    // Used again, so that k1 is the oldest.
    expect(cache.get('k0')).toEqual(value('k0'))
    cache.put('kA', value('kA'))
    expect(['k0', 'k1', 'k2', 'kA'].map((key) => cache.get(key) !== undefined)).toEqual([true, false, true, true])
    for (let i = 0; i < 200; i++) {
      cache.put(`z${i % 90}`, value(`z${i % 90}`))
      await cache.flush()
      expect(statSync(path).size).toBeLessThanOrEqual(2 * MAX_BYTES)
    }
    const again = await openEvaluationCache(path, MAX_BYTES)
    const known = Array.from({ length: 90 }, (_, i) => `z${i}`).filter((key) => again.get(key) !== undefined)
    // The ten newest: 200 puts end at z19.
    expect(known).toEqual(Array.from({ length: 10 }, (_, i) => `z${i + 10}`))
  })

  test('a key put twice counts once, and what is larger than the whole is not kept', async () => {
    const cache = await openEvaluationCache(join(temporaryFolder(), 'cache.jsonl'), MAX_BYTES)
    for (let i = 0; i < 30; i++) cache.put('same', value('same'))
    cache.put('other', value('other'))
    expect([cache.get('same'), cache.get('other')]).toEqual([value('same'), value('other')])
    cache.put('large', { text: 'x'.repeat(2 * MAX_BYTES) })
    expect([cache.get('large'), cache.get('other')]).toEqual([undefined, value('other')])
    await cache.flush()
  })
})

test('a folder keeps the files used last, and always the one that is opened', async () => {
  const folder = temporaryFolder()
  for (const [age, name] of ['new.jsonl', 'older.jsonl', 'oldest.jsonl'].entries()) {
    writeFileSync(join(folder, name), `["k",${'1'.repeat(400)}]\n`)
    const usedAt = new Date(Date.UTC(2026, 10, 20 - age))
    utimesSync(join(folder, name), usedAt, usedAt)
  }
  const cache = await openCacheIn(folder, 'oldest.jsonl', 900)
  expect(readdirSync(folder).toSorted()).toEqual(['new.jsonl', 'oldest.jsonl'])
  cache.put('own', { text: 'a' })
  await cache.flush()
  expect(readFileSync(join(folder, 'oldest.jsonl'), 'utf8')).toContain('"own"')
})
