/** What a calibration is made with where nothing was chosen. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * Layer losses of small models stop improving well before this; large ones gain from more and longer samples, at a cost in time that grows
 * with both (LLM Compressor's examples take 512 of 2048).
 */
export const CALIBRATION_DEFAULTS = { samples: 256, sequenceLength: 512 } as const

/**
 * The bundled text that suits a model: the demo model (or one that shares its tokenizer) has text of its own kind; all others get prose, code
 * and dialogue. `assets` is the folder that holds them.
 */
export async function bundledCalibration(assets: string, sourceFolder: string): Promise<string> {
  const [own, demo] = await Promise.all([
    digestOf(join(sourceFolder, 'tokenizer.json')),
    digestOf(join(assets, 'demo-model', 'tokenizer.json')),
  ])
  return own !== null && own === demo ? join(assets, 'demo-eval', 'calibration.jsonl') : join(assets, 'calibration', 'general.jsonl')
}

/** null where there is no such file: the run itself will say what is missing. */
async function digestOf(path: string): Promise<string | null> {
  const bytes = await readFile(path).catch(() => null)
  return bytes === null ? null : createHash('sha256').update(bytes).digest('hex')
}
