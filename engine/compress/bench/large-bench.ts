/**
 * A model larger than memory, compressed with calibration within a budget. Generates a random Llama, compresses it with GPTQ to W4A16 g128, and
 * prints peak host and device memory beside the budget, and seconds per layer, which must not grow with depth.
 *   node engine/compress/bench/large-bench.ts [--gigabytes 6] [--hidden 1536] [--intermediate 4096] [--budget 2] [--samples 32] [--seq 256]
 *        [--threads 4] [--adapter NAME] [--folder DIR] [--keep]
 * Host memory is the process's peak resident set, sampled ten times a second and at every event; device memory is what the ledger held at most.
 * On a software adapter device memory is host memory, too, and counts once.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { compress } from '../pipeline.ts'
import { writeRandomModel } from '../testing/random-model.ts'

const { values } = parseArgs({
  options: {
    gigabytes: { type: 'string', default: '6' },
    hidden: { type: 'string', default: '1536' },
    intermediate: { type: 'string', default: '4096' },
    budget: { type: 'string', default: '2' },
    samples: { type: 'string', default: '32' },
    seq: { type: 'string', default: '256' },
    adapter: { type: 'string' },
    folder: { type: 'string' },
    threads: { type: 'string', default: '4' },
    keep: { type: 'boolean', default: false },
  },
})
const [hidden, intermediate, samples, sequenceLength] = [values.hidden, values.intermediate, values.samples, values.seq].map(Number) as [
  number,
  number,
  number,
  number,
]
const headDim = Math.min(128, hidden / 4)
const heads = hidden / headDim
const kvHeads = Math.max(1, heads / 4)
const layerBytes = 2 * (hidden * hidden * 2 + 2 * hidden * kvHeads * headDim + 3 * hidden * intermediate)
const layers = Math.max(1, Math.ceil((Number(values.gigabytes) * 1e9 - 4096 * hidden) / layerBytes))
if (values.folder !== undefined) mkdirSync(values.folder, { recursive: true })
const scratch = mkdtempSync(join(values.folder ?? tmpdir(), 'lathe-large-'))

let peakRss = 0
let atPeak: NodeJS.MemoryUsage | null = null
const sample = (): void => {
  const rss = process.memoryUsage.rss()
  if (rss <= peakRss) return
  peakRss = rss
  atPeak = process.memoryUsage()
}
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`

function mean(list: readonly number[]): number {
  return list.reduce((sum, value) => sum + value, 0) / Math.max(1, list.length)
}

/** The kernel's own high-water mark, where there is one. */
function highWaterBytes(): number | null {
  try {
    const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))
    return line?.[1] === undefined ? null : Number(line[1]) * 1024
  } catch {
    return null
  }
}

try {
  const startedWriting = performance.now()
  const bytes = await writeRandomModel(join(scratch, 'model'), { layers, hidden, intermediate, heads, kvHeads, seed: 5 })
  console.log(
    `model: ${layers} layers of ${hidden} × ${intermediate}, ${(bytes / 1e9).toFixed(2)} GB, written in ${((performance.now() - startedWriting) / 1000).toFixed(1)} s`,
  )
  const timer = setInterval(sample, 100)
  const seconds: number[] = []
  let software = false
  const report = await compress(
    {
      sourceFolder: join(scratch, 'model'),
      outFolder: join(scratch, 'result'),
      recipe: {
        recipe: {
          steps: [
            {
              kind: 'gptq',
              groups: [
                {
                  name: 'group_0',
                  targets: ['Linear'],
                  scheme: { kind: 'packed-int', bits: 4, symmetric: true, strategy: 'group', groupSize: 128 },
                  observer: { kind: 'minmax' },
                },
              ],
              ignore: ['lm_head'],
              blockSize: 128,
              dampening: 0.01,
              actorder: 'static',
            },
          ],
        },
      },
      seed: 0,
      resume: false,
      latheVersion: 'bench',
      calibration: {
        path: fileURLToPath(new URL('../../../assets/demo-eval/calibration.jsonl', import.meta.url)),
        samples,
        sequenceLength,
        seed: 0,
        activationBytes: 256 << 20,
      },
      openBackend: async () => {
        const backend = await openBackend(values.adapter ?? null)
        software = backend.software
        return backend
      },
      onProgress: sample,
      onLayer: (layer) => {
        seconds.push(layer.seconds)
        process.stderr.write(`layer ${layer.layer + 1} of ${layer.layers}: ${layer.seconds.toFixed(1)} s\n`)
      },
    },
    { threads: Number(values.threads) },
  )
  clearInterval(timer)
  const host = highWaterBytes() ?? Math.max(peakRss, report.peakRssBytes)
  const gpu = report.peakGpuBytes ?? 0
  const total = software ? host : host + gpu
  const budget = Number(values.budget) * 1e9
  const later = seconds.slice(1)
  const half = Math.floor(later.length / 2)
  console.log(
    `calibration: ${report.calibration?.samples} samples, ${report.calibration?.tokens} tokens, on ${report.calibration?.adapter}`,
  )
  console.log(
    `seconds: ${report.seconds.toFixed(1)}; per layer ${mean(later.slice(0, half)).toFixed(2)} in the first half, ${mean(later.slice(half)).toFixed(2)} in the second`,
  )
  console.log(`peak: host ${(host / 1e9).toFixed(2)} GB, device ${(gpu / 1e9).toFixed(2)} GB${software ? ' (the same memory)' : ''}`)
  if (atPeak !== null) {
    const { arrayBuffers, heapUsed } = atPeak as NodeJS.MemoryUsage
    console.log(`at the highest sample: ${megabytes(arrayBuffers)} of array buffers, ${megabytes(heapUsed)} of heap in the main thread`)
  }
  console.log(`${total <= budget ? 'within' : 'BEYOND'} the budget of ${values.budget} GB: ${(total / 1e9).toFixed(2)} GB`)
  process.exitCode = total <= budget ? 0 : 1
} finally {
  if (values.keep === true) console.log(`kept in ${scratch}`)
  else rmSync(scratch, { recursive: true, force: true })
}
