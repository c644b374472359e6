/**
 * A process that compresses and stops at each event until its parent sends a byte, so that a test can end it at a chosen moment.
 * Arguments: source, out, preset id. Prints "event" for each event and "done" at the end.
 */
import { readSync, writeSync } from 'node:fs'
import { compress } from '../pipeline.ts'

const [sourceFolder = '', outFolder = '', presetId = ''] = process.argv.slice(2)
const byte = new Uint8Array(1)

function pause(): void {
  writeSync(1, 'event\n')
  readSync(0, byte)
}

await compress(
  {
    sourceFolder,
    outFolder,
    recipe: { presetId },
    seed: 7,
    resume: true,
    latheVersion: 'test',
    onProgress: pause,
    onTensor: pause,
    onLog: pause,
  },
  { threads: 2, blockBytes: 64 * 1024, journalBatchBytes: 0 },
)
writeSync(1, 'done\n')
