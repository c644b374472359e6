/**
 * Ten processes that compress are killed (SIGKILL) at ten random moments: the source stays as it was, nothing has the final name, and a
 * second run continues to the bytes of an uninterrupted one. The child stops at every event, so each moment is hit exactly.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, it } from 'vitest'
import { compress } from './pipeline.ts'
import { hashesOf, randomFrom, runUntil } from './testing/kill-drill.ts'

const KILLS = 10
const SEED = Number(process.env['LATHE_TEST_SEED'] ?? 20261123)
const demo = fileURLToPath(new URL('../../assets/demo-model', import.meta.url))
const child = fileURLToPath(new URL('./testing/compress-child.ts', import.meta.url))
const scratch = mkdtempSync(join(tmpdir(), 'lathe-kill-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

/** Lets a child that compresses pass `events` events and kills it at the next. */
function killedAfter(outFolder: string, events: number): Promise<{ passed: number; signal: string | null }> {
  return runUntil(child, [demo, outFolder, 'quick-4bit'], events)
}

it(`survives ${KILLS} kills at random moments (seed ${SEED}; set LATHE_TEST_SEED for others)`, { timeout: 240_000 }, async () => {
  const sourceBefore = hashesOf(demo)
  mkdirSync(join(scratch, 'uninterrupted'))
  const whole = await killedAfter(join(scratch, 'uninterrupted', 'result'), Infinity)
  expect(whole.signal).toBeNull()
  const expected = hashesOf(join(scratch, 'uninterrupted', 'result'))
  const random = randomFrom(SEED)
  // The last two moments: checked but not yet named, and named but not yet tidied up.
  const moments = [
    ...Array.from({ length: KILLS - 2 }, () => Math.floor(random() * (whole.passed - 2))),
    whole.passed - 2,
    whole.passed - 1,
  ]
  const outcomes: unknown[] = []
  for (const [i, moment] of moments.entries()) {
    const parent = join(scratch, `kill-${i}`)
    mkdirSync(parent)
    const outFolder = join(parent, 'result')
    const { passed, signal } = await killedAfter(outFolder, moment)
    const named = existsSync(outFolder)
    // The order of events on several threads varies a little, so the very last moments may find the folder named; then it must be whole.
    if (!named) {
      await compress(
        { sourceFolder: demo, outFolder, recipe: { presetId: 'quick-4bit' }, seed: 7, resume: true, latheVersion: 'test' },
        { threads: 2 },
      )
    }
    outcomes.push({ signal, early: named && moment < whole.passed - 4, passed: passed === moment, files: hashesOf(outFolder) })
  }
  expect(outcomes).toEqual(moments.map(() => ({ signal: 'SIGKILL', early: false, passed: true, files: expected })))
  expect(hashesOf(demo)).toEqual(sourceBefore)
})
