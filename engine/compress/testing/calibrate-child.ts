/**
 * A process that compresses with calibration and stops at each event until its parent sends a byte, so that a test can end it at a chosen
 * moment. Arguments: source, out, recipe, calibration text, and a base to take layers over from. Prints "event" for each event and "done" at the end.
 */
import { readSync, writeSync } from 'node:fs'
import { createReferenceBackend } from '../../gpu/reference/backend.ts'
import { compress } from '../pipeline.ts'
import { CALIBRATED_RECIPES } from './calibrated-recipes.ts'
import type { CalibratedRecipe } from './calibrated-recipes.ts'

const [sourceFolder = '', outFolder = '', recipe = 'gptq', path = '', base] = process.argv.slice(2)
const byte = new Uint8Array(1)

function pause(): void {
  writeSync(1, 'event\n')
  readSync(0, byte)
}

await compress(
  {
    sourceFolder,
    outFolder,
    ...(base === undefined ? {} : { base: { folder: base, name: 'base' } }),
    recipe: { recipe: CALIBRATED_RECIPES[recipe as CalibratedRecipe] },
    seed: 7,
    resume: true,
    latheVersion: 'test',
    calibration: { path, samples: 6, sequenceLength: 24, seed: 3 },
    openBackend: () => Promise.resolve(createReferenceBackend()),
    onProgress: pause,
    onLayer: pause,
  },
  { threads: 1, journalBatchBytes: 0 },
)
writeSync(1, 'done\n')
