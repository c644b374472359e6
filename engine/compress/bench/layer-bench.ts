/**
 * `node engine/compress/bench/layer-bench.ts [--adapter ID] [--shape llama-8b|medium|tiny] [--only awq,gptq,…] [--processor]`: seconds per decoder layer of
 * each calibrated algorithm, from folder to folder, on a generated model of two layers; the second is what counts, since the first also compiles
 * kernels. With --processor the same recipes once more with GPTQ's and SparseGPT's arithmetic in f64 on threads, and the ratio.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { compress } from '../pipeline.ts'
import type { RecipeStep } from '../recipe.ts'
import type { Scheme } from '../scheme.ts'
import { PRUNING } from '../testing/calibrated-recipes.ts'
import { writeRandomModel } from '../testing/random-model.ts'

const SHAPES = {
  'llama-8b': { hidden: 4096, intermediate: 14336, heads: 32, kvHeads: 8 },
  medium: { hidden: 1024, intermediate: 2816, heads: 16, kvHeads: 8 },
  tiny: { hidden: 128, intermediate: 384, heads: 2, kvHeads: 1 },
} as const
const W4: Scheme = { kind: 'packed-int', bits: 4, symmetric: true, strategy: 'group', groupSize: 128 }

function storing(kind: 'quantization' | 'gptq', scheme: Scheme): RecipeStep {
  const groups = [{ name: 'group_0', targets: ['Linear'], scheme, observer: { kind: 'minmax' } as const }]
  const common = { groups, ignore: ['lm_head'] }
  return kind === 'gptq' ? { kind, ...common, blockSize: 128, dampening: 0.01, actorder: 'static' } : { kind, ...common }
}

const RECIPES: Readonly<Record<string, readonly RecipeStep[]>> = {
  gptq: [storing('gptq', W4)],
  'gptq-nvfp4': [storing('gptq', { kind: 'nvfp4' })],
  awq: [{ kind: 'awq', mappings: null, duoScaling: true, nGrid: 20, clip: null }, storing('quantization', W4)],
  sparsegpt: [PRUNING],
  'sparsegpt-recovery': [PRUNING, { kind: 'recovery', dampening: 0.001 }],
}

const { values } = parseArgs({
  options: {
    adapter: { type: 'string' },
    shape: { type: 'string', default: 'llama-8b' },
    only: { type: 'string', default: Object.keys(RECIPES).join(',') },
    samples: { type: 'string', default: '512' },
    processor: { type: 'boolean', default: false },
  },
})
const shape = Object.entries(SHAPES).find(([name]) => name === values.shape)?.[1]
if (shape === undefined) throw new Error(`--shape takes ${Object.keys(SHAPES).join(', ')}`)
const scratch = mkdtempSync(join(tmpdir(), 'lathe-layer-bench-'))

async function secondsOf(
  steps: readonly RecipeStep[],
  roundOn: 'device' | 'processor',
): Promise<{ readonly seconds: number; readonly error: number }> {
  const layers: { seconds: number; error: number }[] = []
  const outFolder = join(scratch, 'out')
  rmSync(outFolder, { recursive: true, force: true })
  await compress(
    {
      sourceFolder: join(scratch, 'model'),
      outFolder,
      recipe: { recipe: { steps } },
      seed: 0,
      resume: false,
      latheVersion: 'bench',
      calibration: {
        path: fileURLToPath(new URL('../../../assets/demo-eval/calibration.jsonl', import.meta.url)),
        samples: Number(values.samples),
        sequenceLength: 256,
        seed: 0,
      },
      openBackend: () => openBackend(values.adapter ?? null),
      onLayer: ({ seconds, outputError }) => layers.push({ seconds, error: outputError ?? Number.NaN }),
    },
    { roundOn },
  )
  const last = layers.at(-1)
  if (last === undefined) throw new Error('no layer was measured')
  return last
}

try {
  await writeRandomModel(join(scratch, 'model'), { ...shape, layers: 2, seed: 5 })
  console.log(
    `One layer of ${values.shape} (${shape.hidden} × ${shape.intermediate}), ${values.samples} samples; seconds and relative output error`,
  )
  console.log(
    values.processor
      ? '| recipe | device | processor | ratio | errors |\n|---|--:|--:|--:|--:|'
      : '| recipe | seconds | error |\n|---|--:|--:|',
  )
  for (const name of values.only.split(',')) {
    const steps = RECIPES[name]
    if (steps === undefined) throw new Error(`--only takes ${Object.keys(RECIPES).join(', ')}`)
    const device = await secondsOf(steps, 'device')
    if (!values.processor) {
      console.log(`| ${name} | ${device.seconds.toFixed(2)} | ${device.error.toFixed(4)} |`)
      continue
    }
    const processor = await secondsOf(steps, 'processor')
    const ratio = (processor.seconds / device.seconds).toFixed(1)
    const errors = `${device.error.toFixed(4)}, ${processor.error.toFixed(4)}`
    console.log(`| ${name} | ${device.seconds.toFixed(2)} | ${processor.seconds.toFixed(2)} | ${ratio} | ${errors} |`)
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
