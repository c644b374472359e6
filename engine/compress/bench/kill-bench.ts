/**
 * Ten kills at random moments for each family of calibrated algorithms: a child process is ended with SIGKILL, a second one continues, and the
 * folder must be that of an uninterrupted run, byte for byte. Prints a table; exits 1 if any differs.
 *   node engine/compress/bench/kill-bench.ts [kills] [seed]
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CALIBRATED_RECIPES } from '../testing/calibrated-recipes.ts'
import { hashesOf, randomFrom, runUntil } from '../testing/kill-drill.ts'
import { writeRandomModel } from '../testing/random-model.ts'

const [kills = 10, seed = 20261123] = process.argv.slice(2).map(Number)
const child = fileURLToPath(new URL('../testing/calibrate-child.ts', import.meta.url))
const scratch = mkdtempSync(join(tmpdir(), 'lathe-kill-bench-'))
const model = join(scratch, 'model')
const text = join(scratch, 'text.jsonl')
const random = randomFrom(seed)
let failures = 0
try {
  await writeRandomModel(model, { layers: 3, hidden: 64, intermediate: 96, heads: 2, kvHeads: 1, seed: 11 })
  const lines = Array.from({ length: 8 }, (_, i) =>
    JSON.stringify({ text: `Document ${i} about boats, tides, markets and letters, ${'and more '.repeat(i)}.` }),
  )
  writeFileSync(text, lines.join('\n'))
  console.log(`| family | kills | continued to the same bytes | moments of ${'all events'} (seed ${seed}) |\n|---|---:|---:|---|`)
  for (const recipe of Object.keys(CALIBRATED_RECIPES)) {
    const whole = await runUntil(child, [model, join(scratch, recipe, 'whole', 'result'), recipe, text], Infinity)
    const expected = JSON.stringify(hashesOf(join(scratch, recipe, 'whole', 'result')))
    const moments: number[] = []
    let same = 0
    for (let i = 0; i < kills; i++) {
      const moment = Math.floor(random() * whole.passed)
      moments.push(moment)
      const out = join(scratch, recipe, `kill-${i}`, 'result')
      await runUntil(child, [model, out, recipe, text], moment)
      await runUntil(child, [model, out, recipe, text], Infinity).catch(() => null)
      if (JSON.stringify(hashesOf(out)) === expected) same++
    }
    if (same < kills) failures++
    console.log(`| ${recipe} | ${kills} | ${same} | ${moments.sort((a, b) => a - b).join(' ')} of ${whole.passed} |`)
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
process.exitCode = failures > 0 ? 1 : 0
