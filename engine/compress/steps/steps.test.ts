/**
 * Steps on whole models: a smoothed model computes what the original did, for every place that scale can be moved through; and each step does
 * for a layer what it is there for, from folder to folder on the f64 backend.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { widenToF32 } from '../../checkpoint/dtypes.ts'
import { openCheckpoint } from '../../checkpoint/open.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'
import { createReferenceBackend } from '../../gpu/reference/backend.ts'
import { loadModel } from '../../model/load.ts'
import { describeModel } from '../../model/spec.ts'
import { hasSharedData, MISSING_DATA, modelFolder } from '../../model/test/golden-data.ts'

import { scorePrompt } from '../../model/test/steps.ts'
import type { LayerContext, LayerInput, LinearRole } from '../calibration/layer-context.ts'
import { withValues } from '../calibration/memory-checkpoint.ts'
import { compress } from '../pipeline.ts'
import type { PruningStep, QuantizationStep, RecipeStep } from '../recipe.ts'
import { normals } from '../test/matrices.ts'
import { PRUNING } from '../testing/calibrated-recipes.ts'
import { writeRandomModel } from '../testing/random-model.ts'
import { smoothInput } from './smooth-layer.ts'
import { inputsToSmooth, readersOf } from './smoothing-mappings.ts'

/** On a machine with busy cores; two seconds on an idle one. */
const MODEL_TEST_TIMEOUT_MS = 300_000
const PROMPT = [1, 17, 42, 5, 99, 3, 250, 7]
const scratch = mkdtempSync(join(tmpdir(), 'lathe-steps-'))
/** Every head has its own keys and values, so that v and o can be smoothed. */
const ownHeads = join(scratch, 'own-heads')
const text = join(scratch, 'text.jsonl')
const backend = createReferenceBackend()

beforeAll(async () => {
  await writeRandomModel(ownHeads, { layers: 2, hidden: 64, intermediate: 96, heads: 2, kvHeads: 2, seed: 5 })
  const words = 'tide boat letter marble gull bell harbour lantern road island baker thursday'.split(' ')
  const documents = Array.from({ length: 12 }, (_, i) => words.map((word, j) => `${word} ${words[(i * 5 + j * 7) % 12]}`).join(', '))
  writeFileSync(text, documents.map((document) => JSON.stringify({ text: document })).join('\n'))
})
afterAll(async () => {
  rmSync(scratch, { recursive: true, force: true })
  await backend[Symbol.asyncDispose]()
})

const ROLES: Readonly<Record<string, readonly [LinearRole, LayerInput]>> = {
  'self_attn.q_proj': ['q', 'attention'],
  'self_attn.k_proj': ['k', 'attention'],
  'self_attn.v_proj': ['v', 'attention'],
  'self_attn.qkv_proj': ['qkv', 'attention'],
  'self_attn.o_proj': ['o', 'context'],
  'mlp.gate_proj': ['gate', 'mlp'],
  'mlp.up_proj': ['up', 'mlp'],
  'mlp.gate_up_proj': ['gateUp', 'mlp'],
  'mlp.down_proj': ['down', 'activated'],
}

/** As much of a LayerContext as smoothing touches; replaced tensors land in `changed`. */
async function contextOf(checkpoint: Checkpoint, layer: number, changed: Map<string, Float32Array>): Promise<LayerContext> {
  const prefix = `model.layers.${layer}.`
  const values = new Map<string, Float32Array>()
  for (const [name, entry] of checkpoint.tensors) {
    if (!name.startsWith(prefix)) continue
    values.set(name, widenToF32(await checkpoint.open(name).read(0, entry.byteLength), entry.dtype).slice())
  }
  const linears = (): LayerContext['linears'] =>
    Object.entries(ROLES).flatMap(([suffix, [role, input]]) => {
      const module = prefix + suffix
      const weight = values.get(`${module}.weight`)
      const [rows = 0, cols = 0] = checkpoint.tensors.get(`${module}.weight`)?.shape ?? []
      return weight === undefined
        ? []
        : [{ role, module, input, rows, cols, dtype: 'BF16' as const, weight, bias: values.get(`${module}.bias`) ?? null }]
    })
  const norm = { attention: `${prefix}input_layernorm.weight`, mlp: `${prefix}post_attention_layernorm.weight` } as const
  const set = (name: string, array: Float32Array): void => {
    values.set(name, array)
    changed.set(name, array)
  }
  const partial: Partial<LayerContext> = {
    layer,
    spec: describeModel(checkpoint.config, checkpoint.generationConfig),
    get linears() {
      return linears()
    },
    get norms() {
      return (['attention', 'mlp'] as const).map((role) => ({ role, name: norm[role], weight: values.get(norm[role])! }))
    },
    linear: (role) => linears().find((linear) => linear.role === role)!,
    replace(changes) {
      for (const [module, array] of changes.weights ?? []) set(`${module}.weight`, array)
      for (const [module, array] of changes.biases ?? []) set(`${module}.bias`, array)
      for (const [role, array] of changes.norms ?? []) set(norm[role], array)
    },
  }
  return partial as LayerContext
}

async function logits(checkpoint: Checkpoint): Promise<readonly number[]> {
  using model = await loadModel({ checkpoint, backend, contextTokens: 16, kvDtype: 'f32', owner: 'steps test' })
  const scored = await scorePrompt(model, PROMPT)
  return [...scored.logprobs, ...scored.lastLogits]
}

if (!hasSharedData) process.stderr.write(`steps.test.ts ${MISSING_DATA}\n`)
const SHARED = hasSharedData ? ['stories260k', 'random-qwen2', 'random-phi3'] : []

describe('smoothing', { timeout: MODEL_TEST_TIMEOUT_MS }, () => {
  it.each(['own heads', ...SHARED])('leaves the outputs as they were at every place: %s', async (name) => {
    await using checkpoint = await openCheckpoint(name === 'own heads' ? ownHeads : modelFolder(name))
    const changed = new Map<string, Float32Array>()
    const { layers } = describeModel(checkpoint.config, checkpoint.generationConfig)
    let smoothed = 0
    for (let layer = 0; layer < layers; layer++) {
      const context = await contextOf(checkpoint, layer, changed)
      for (const input of inputsToSmooth('awq', null, context.spec, layer)) {
        const channels = readersOf(context, input)[0]!.cols
        // Factors from a sixth to six.
        const factors = normals(channels, 7 * layer + input.length).map((value) => Math.exp(0.9 * Math.max(-2, Math.min(2, value))))
        smoothInput(context, input, factors)
        smoothed++
      }
    }
    expect(smoothed).toBe(layers * (name === 'own heads' ? 4 : 3))
    const [before, after] = [await logits(checkpoint), await logits(withValues(checkpoint, changed))]
    const worst = before.reduce((max, value, i) => Math.max(max, Math.abs(value - after[i]!)), 0)
    // Biases of v and up are rounded to bf16 after the division; everything else is exact to f32.
    expect(worst).toBeLessThan(name === 'random-qwen2' || name === 'random-phi3' ? 2e-3 : 2e-4)
  })
})

const WANDA: PruningStep = { ...PRUNING, method: 'wanda' }
const W3: QuantizationStep = {
  kind: 'quantization',
  groups: [
    {
      name: 'group_0',
      targets: ['Linear'],
      scheme: { kind: 'packed-int', bits: 3, symmetric: true, strategy: 'group', groupSize: 32 },
      // One candidate, the whole range: rounding to nearest, but layer by layer and so with an error to compare.
      observer: { kind: 'imatrix', maxShrink: 0, grid: 1, norm: 2 },
    },
  ],
  ignore: ['lm_head'],
}

/** Relative output error of each layer. */
async function layerErrors(steps: readonly RecipeStep[]): Promise<readonly number[]> {
  const errors: number[] = []
  await compress(
    {
      sourceFolder: ownHeads,
      outFolder: join(scratch, 'out', String(performance.now())),
      recipe: { recipe: { steps } },
      seed: 1,
      resume: false,
      latheVersion: 'test',
      calibration: { path: text, samples: 8, sequenceLength: 32, seed: 0 },
      openBackend: () => Promise.resolve(createReferenceBackend()),
      onLayer: ({ outputError }) => errors.push(outputError ?? Number.NaN),
    },
    { threads: 1 },
  )
  return errors
}

describe('steps from folder to folder', { timeout: MODEL_TEST_TIMEOUT_MS }, () => {
  it('recovers pruned layers, also behind smoothing', async () => {
    const smooth: RecipeStep = { kind: 'smoothquant', smoothingStrength: 0.5, algorithm: 'smoothquant', mappings: null }
    const recovery: RecipeStep = { kind: 'recovery', dampening: 0.001 }
    const [pruned = 1] = await layerErrors([WANDA])
    const [recovered = 1] = await layerErrors([WANDA, recovery])
    const [behind = 1] = await layerErrors([smooth, WANDA, recovery])
    expect(recovered).toBeLessThan(0.9 * pruned)
    // Repaired towards the smoothed weights, not the source's: otherwise the layer would compute something else altogether.
    expect(behind).toBeLessThan(0.95 * pruned)
  })

  it('AWQ, with clipping too, loses less of a layer than plain rounding', async () => {
    const awq: RecipeStep = { kind: 'awq', mappings: null, duoScaling: true, nGrid: 12, clip: null }
    const [plain = 0] = await layerErrors([W3])
    const [scaled = 1] = await layerErrors([awq, W3])
    const [clipped = 1] = await layerErrors([{ ...awq, clip: { nGrid: 20, maxShrink: 0.5 } }, W3])
    // Random weights have no channels that matter much more than others, so there is little to gain here.
    expect(scaled).toBeLessThan(plain)
    expect(clipped).toBeLessThan(scaled)
  })
})
