/**
 * Ten kills at random moments for each family of algorithms: a child process is ended with SIGKILL, a second run continues, and the folder must
 * be that of an uninterrupted one, byte for byte. "raised layer" takes over from the result of GPTQ what does not depend on the layer. Prints
 * a table; exits 1 if any differs.
 *   node engine/compress/bench/kill-bench.ts [kills] [seed] [family …]
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createReferenceBackend } from '../../gpu/reference/backend.ts'
import { compress } from '../pipeline.ts'
import { CALIBRATED_RECIPES } from '../testing/calibrated-recipes.ts'
import type { CalibratedRecipe } from '../testing/calibrated-recipes.ts'
import { hashesOf, randomFrom, runUntil } from '../testing/kill-drill.ts'
import { writeRandomModel } from '../testing/random-model.ts'

const [kills = 10, seed = 20261123] = process.argv.slice(2, 4).map(Number)
const chosen = process.argv.slice(4)
const child = fileURLToPath(new URL('../testing/calibrate-child.ts', import.meta.url))
const scratch = mkdtempSync(join(tmpdir(), 'lathe-kill-bench-'))
const model = join(scratch, 'model')
const text = join(scratch, 'text.jsonl')
const random = randomFrom(seed)

interface Family {
  readonly name: string
  readonly recipe: CalibratedRecipe
  readonly base: string | null
}

/** The rest of a run that was killed, here: a process of its own would only take longer to start. */
async function finish({ recipe, base }: Family, out: string): Promise<boolean> {
  const { resumed } = await compress(
    {
      sourceFolder: model,
      outFolder: out,
      ...(base === null ? {} : { base: { folder: base, name: 'base' } }),
      recipe: { recipe: CALIBRATED_RECIPES[recipe] },
      seed: 7,
      resume: true,
      latheVersion: 'test',
      calibration: { path: text, samples: 6, sequenceLength: 24, seed: 3 },
      openBackend: () => Promise.resolve(createReferenceBackend()),
    },
    { threads: 1, journalBatchBytes: 0 },
  )
  return resumed
}

let failures = 0
try {
  await writeRandomModel(model, { layers: 3, hidden: 64, intermediate: 96, heads: 2, kvHeads: 1, seed: 11 })
  const lines = Array.from({ length: 8 }, (_, i) =>
    JSON.stringify({ text: `Document ${i} about boats, tides, markets and letters, ${'and more '.repeat(i)}.` }),
  )
  writeFileSync(text, lines.join('\n'))
  const base: Family = { name: 'base', recipe: 'gptq', base: null }
  const baseFolder = join(scratch, 'base', 'result')
  await finish(base, baseFolder)
  const families: readonly Family[] = [
    ...(Object.keys(CALIBRATED_RECIPES) as CalibratedRecipe[]).map((recipe) => ({ name: recipe, recipe, base: null })),
    { name: 'raised layer', recipe: 'mixed precision', base: baseFolder },
  ]
  console.log('| family | kills | same bytes after it | of them continued from a journal | killed after event |\n|---|---:|---:|---:|---|')
  for (const family of families.filter(({ name }) => chosen.length === 0 || chosen.includes(name))) {
    const { name, recipe } = family
    const folder = join(scratch, name.replaceAll(' ', '-'))
    const args = (out: string): string[] => [model, out, recipe, text, ...(family.base === null ? [] : [family.base])]
    mkdirSync(folder)
    const whole = await runUntil(child, args(join(folder, 'whole', 'result')), Infinity)
    const expected = JSON.stringify(hashesOf(join(folder, 'whole', 'result')))
    const moments: number[] = []
    let same = 0
    let continued = 0
    for (let i = 0; i < kills; i++) {
      const moment = Math.floor(random() * whole.passed)
      moments.push(moment)
      const out = join(folder, `kill-${i}`, 'result')
      const { signal } = await runUntil(child, args(out), moment)
      if (signal !== 'SIGKILL') throw new Error(`${name} ended by itself before event ${moment} of ${whole.passed}`)
      if (await finish(family, out)) continued++
      if (JSON.stringify(hashesOf(out)) === expected) same++
      rmSync(join(folder, `kill-${i}`), { recursive: true, force: true })
    }
    if (same < kills) failures++
    const when = moments.sort((a, b) => a - b).join(', ')
    console.log(`| ${name} | ${kills} | ${same} | ${continued} | ${when} of ${whole.passed} |`)
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
process.exitCode = failures > 0 ? 1 : 0
