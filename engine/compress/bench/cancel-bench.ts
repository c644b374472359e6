/**
 * How long a cancel takes: the demo model is compressed on the default adapter, the signal aborts at random moments, and the time until the
 * run has let everything go is printed.
 *   node engine/compress/bench/cancel-bench.ts [cancels] [seed]
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LatheError } from '../../contract/errors.ts'
import { compress } from '../pipeline.ts'
import { CALIBRATED_RECIPES } from '../testing/calibrated-recipes.ts'
import type { CalibratedRecipe } from '../testing/calibrated-recipes.ts'
import { randomFrom } from '../testing/kill-drill.ts'

const [cancels = 10, seed = 20261123] = process.argv.slice(2).map(Number)
const FAMILIES: readonly CalibratedRecipe[] = ['gptq', 'awq', 'sparsegpt']
const assets = fileURLToPath(new URL('../../../assets', import.meta.url))
const scratch = mkdtempSync(join(tmpdir(), 'lathe-cancel-bench-'))
const random = randomFrom(seed)

/** Aborts at the given event; resolves to the events seen and the milliseconds from the abort to the end, or null when it ended before. */
async function cancelAt(
  recipe: CalibratedRecipe,
  moment: number,
  out: string,
): Promise<{ readonly events: number; readonly ms: number | null }> {
  const controller = new AbortController()
  let events = 0
  let abortedAt: number | null = null
  const onEvent = (): void => {
    if (events++ < moment || abortedAt !== null) return
    abortedAt = performance.now()
    controller.abort()
  }
  try {
    await compress({
      sourceFolder: join(assets, 'demo-model'),
      outFolder: out,
      recipe: { recipe: CALIBRATED_RECIPES[recipe] },
      seed: 7,
      resume: false,
      latheVersion: 'bench',
      calibration: { path: join(assets, 'demo-eval', 'calibration.jsonl'), samples: 32, sequenceLength: 256, seed: 3 },
      signal: controller.signal,
      onProgress: onEvent,
      onLayer: onEvent,
    })
  } catch (error) {
    if (!(error instanceof LatheError && error.code === 'job.cancelled')) throw error
  }
  return { events, ms: abortedAt === null ? null : performance.now() - abortedAt }
}

try {
  console.log('| recipe | cancels | median | longest |\n|---|---:|---:|---:|')
  for (const recipe of FAMILIES) {
    const { events } = await cancelAt(recipe, Infinity, join(scratch, `${recipe}-whole`))
    const times: number[] = []
    for (let i = 0; i < cancels; i++) {
      // The last events find it publishing.
      const { ms } = await cancelAt(recipe, Math.floor(random() * events * 0.95), join(scratch, `${recipe}-${i}`))
      if (ms !== null) times.push(ms)
    }
    times.sort((a, b) => a - b)
    console.log(`| ${recipe} | ${times.length} | ${times[times.length >> 1]?.toFixed(0)} ms | ${times.at(-1)?.toFixed(0)} ms |`)
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
