/** Runs a child that stops at every event, kills it at a chosen one, and hashes what is there: for tests and scripts. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** Of every file but run.json, which holds times. */
export function hashesOf(folder: string): Record<string, string> {
  const names = readdirSync(folder).filter((name) => name !== 'run.json')
  return Object.fromEntries(
    names.sort().map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex'),
    ]),
  )
}

/** Lets the child pass `events` events and kills it at the next. Resolves to how many it passed; fewer when it finished first. */
export async function runUntil(
  script: string,
  args: readonly string[],
  events: number,
): Promise<{ passed: number; signal: string | null }> {
  const running = spawn(process.execPath, [script, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
  // Writing to a child that was just killed fails; that is the point.
  running.stdin.on('error', () => {})
  const exit = once(running, 'exit') as Promise<[number | null, string | null]>
  let passed = 0
  for await (const line of createInterface({ input: running.stdout })) {
    if (line !== 'event') continue
    if (passed >= events) {
      running.kill('SIGKILL')
      break
    }
    passed++
    running.stdin.write('.')
  }
  const [, signal] = await exit
  return { passed, signal }
}

/** mulberry32: small, seeded, good enough to pick moments. */
export function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
