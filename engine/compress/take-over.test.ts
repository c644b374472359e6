/**
 * One layer of a finished result is raised: what does not depend on it is taken over, what does is made again, and the folder is that of the
 * whole recipe run from scratch, byte for byte, whatever happens to the base or to the run.
 */
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { TakenOver } from '../contract/index.ts'
import { createReferenceBackend } from '../gpu/reference/backend.ts'
import { withOverrides } from './authoring/overrides.ts'
import { compress } from './pipeline.ts'
import type { Recipe } from './recipe.ts'
import { CALIBRATED_RECIPES, GPTQ } from './testing/calibrated-recipes.ts'
import { hashesOf } from './testing/kill-drill.ts'
import { writeRandomModel } from './testing/random-model.ts'
import type { CompressOptions } from './types.ts'

const scratch = mkdtempSync(join(tmpdir(), 'lathe-take-over-'))
const model = join(scratch, 'model')
const text = join(scratch, 'text.jsonl')
const LAYERS = 3
const ROLES = [
  'self_attn.q_proj',
  'self_attn.k_proj',
  'self_attn.v_proj',
  'self_attn.o_proj',
  'mlp.gate_proj',
  'mlp.up_proj',
  'mlp.down_proj',
]
const MODULES = Array.from({ length: LAYERS }, (_, layer) => ROLES.map((role) => `model.layers.${layer}.${role}`)).flat()
const RTN: Recipe = { steps: [{ kind: 'quantization', groups: GPTQ.groups, ignore: GPTQ.ignore }] }
const ROTATED: Recipe = { steps: [{ kind: 'rotation', transform: 'random-hadamard', r1: true, r2: true }, ...RTN.steps] }

beforeAll(async () => {
  await writeRandomModel(model, { layers: LAYERS, hidden: 32, intermediate: 64, heads: 1, kvHeads: 1, seed: 5 })
  const lines = [
    'Mara paints boats every morning by the harbour.',
    'The tide was low, so Leo walked to the lighthouse.',
    'Fern traded a coin.',
  ]
  writeFileSync(text, lines.map((line) => JSON.stringify({ text: `${line} ${line} ${line}` })).join('\n'))
})
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

interface Outcome {
  readonly files: Record<string, string>
  readonly takenOver: TakenOver | null
  /** Layers that values were chosen for. */
  readonly made: readonly number[]
  /** Layers that calibration text ran through for its outputs alone. */
  readonly passed: readonly number[]
  readonly log: readonly string[]
  readonly out: string
}

async function run(name: string, recipe: Recipe, options: Partial<CompressOptions> = {}): Promise<Outcome> {
  const out = join(scratch, name, 'result')
  const made = new Set<number>()
  const passed = new Set<number>()
  const log: string[] = []
  const report = await compress(
    {
      sourceFolder: model,
      outFolder: out,
      recipe: { recipe },
      seed: 7,
      resume: true,
      latheVersion: 'test',
      calibration: { path: text, samples: 3, sequenceLength: 24, seed: 3 },
      openBackend: () => Promise.resolve(createReferenceBackend()),
      onLog: (line) => log.push(line.text),
      ...options,
      onProgress(progress) {
        const { layer } = progress
        if (layer?.note.startsWith('Finished already') === true) passed.add(layer.layer)
        else if (layer) made.add(layer.layer)
        options.onProgress?.(progress)
      },
    },
    { threads: 1, journalBatchBytes: 0 },
  )
  return { files: hashesOf(out), takenOver: report.takenOver ?? null, made: [...made], passed: [...passed], log, out }
}

function raised(recipe: Recipe, layer: number, scheme: string | null): Recipe {
  return withOverrides(recipe, [{ target: `model.layers.${layer}.mlp.down_proj`, scheme }], MODULES)
}

describe.each([
  ['GPTQ', CALIBRATED_RECIPES.gptq, 'W8A16', { layers: [0], made: [1, 2], passed: [0] }],
  ['AWQ', CALIBRATED_RECIPES.awq, 'W8A16', { layers: [0], made: [1, 2], passed: [0] }],
  ['SparseGPT and GPTQ', CALIBRATED_RECIPES['sparsegpt and gptq'], null, { layers: [0], made: [1, 2], passed: [0] }],
  ['RTN', RTN, 'W8A16', { layers: [0, 2], made: [], passed: [] }],
  ['a rotated RTN', ROTATED, null, { layers: [0, 2], made: [], passed: [] }],
] as const)('%s, middle layer raised', (name, recipe, scheme, expected) => {
  it('has the bytes of a run from scratch, and did only what depends on the layer', async () => {
    const before = await run(`${name}-base`, recipe)
    const change = raised(recipe, 1, scheme)
    const scratchRun = await run(`${name}-scratch`, change)
    const again = await run(`${name}-raised`, change, { base: { folder: before.out, name: 'base' } })
    expect(again.files).toEqual(scratchRun.files)
    expect({ layers: again.takenOver?.layers, made: again.made, passed: again.passed }).toEqual(expected)
    expect(again.log.find((line) => line.includes('taken over'))).toMatch(
      new RegExp(`^${expected.layers.length} of 3 layers taken over from base`),
    )
  })
})

it('a raised result is a base like any other', async () => {
  const once = await run('once', raised(RTN, 1, 'W8A16'))
  const twice = raised(raised(RTN, 1, 'W8A16'), 0, null)
  const { takenOver, files } = await run('twice', twice, { base: { folder: once.out, name: 'raised' } })
  // one module of layer 0 is all that is made again
  expect(takenOver).toMatchObject({ layers: [1, 2], tensors: (takenOver?.ofTensors ?? 0) - 1 })
  expect(files).toEqual((await run('twice-scratch', twice)).files)
})

it('with activations of the original model, later layers do not depend on the raised one', async () => {
  const calibration = { path: text, samples: 3, sequenceLength: 24, seed: 3, propagate: 'original' } as const
  const before = await run('original-base', CALIBRATED_RECIPES.gptq, { calibration })
  const change = raised(CALIBRATED_RECIPES.gptq, 1, 'W8A16')
  const again = await run('original-raised', change, { calibration, base: { folder: before.out, name: 'base' } })
  expect(again).toMatchObject({ takenOver: { layers: [0, 2] }, made: [1], passed: [0] })
  expect(again.files).toEqual((await run('original-scratch', change, { calibration })).files)
})

it('OWL: shares of zeros come from the record; a layer that is no longer pruned changes them all', async () => {
  const recipe: Recipe = { steps: [...CALIBRATED_RECIPES['owl and recovery'].steps, ...RTN.steps] }
  const before = await run('owl-base', recipe)
  const base = { folder: before.out, name: 'base' }
  const change = raised(recipe, 2, 'W8A16')
  const again = await run('owl-raised', change, { base })
  expect(again).toMatchObject({ takenOver: { layers: [0, 1] }, made: [2], passed: [0, 1] })
  expect(again.files).toEqual((await run('owl-scratch', change)).files)
  const kept = raised(recipe, 2, null)
  const third = await run('owl-kept', kept, { base })
  expect(third.takenOver?.layers).toEqual([])
})

describe('a run that is stopped, or a base that is not what it was', () => {
  const change = raised(CALIBRATED_RECIPES.gptq, 1, 'W8A16')
  let base: { readonly folder: string; readonly name: string }
  let expected: Record<string, string>
  beforeAll(async () => {
    base = { folder: (await run('stop-base', CALIBRATED_RECIPES.gptq)).out, name: 'base' }
    expected = (await run('stop-scratch', change)).files
  })

  it.each([
    ['while it takes over', ({ tensorsDone }: { tensorsDone: number }) => tensorsDone === 4],
    ['in the raised layer', ({ layer }: { layer?: { layer: number } | null }) => layer?.layer === 1],
  ] as const)('continues after a stop %s to the same bytes, with the base and without', async (when, isMoment) => {
    for (const [i, later] of (when === 'in the raised layer' ? [base, undefined] : [base]).entries()) {
      const controller = new AbortController()
      const stopped = run(`${when}-${i}`, change, {
        base,
        signal: controller.signal,
        onProgress: (progress) => {
          if (isMoment(progress)) controller.abort()
        },
      })
      await expect(stopped).rejects.toMatchObject({ code: 'job.cancelled' })
      const { files, takenOver } = await run(`${when}-${i}`, change, later === undefined ? {} : { base: later })
      expect({ files, tookOver: (takenOver?.tensors ?? 0) > 0 }).toEqual({ files: expected, tookOver: true })
    }
  })

  it('makes a damaged tensor again, and everything where the record is of another source, seed, text or version', async () => {
    const damaged = join(scratch, 'damaged')
    cpSync(base.folder, damaged, { recursive: true })
    const weights = readdirSync(damaged).find((file) => file.endsWith('.safetensors'))!
    const bytes = readFileSync(join(damaged, weights))
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE(0)))) as Record<string, { data_offsets: number[] }>
    const at = 8 + Number(bytes.readBigUInt64LE(0)) + header['model.layers.0.mlp.up_proj.weight_packed']!.data_offsets[0]!
    bytes[at] = (bytes[at] ?? 0) ^ 1
    writeFileSync(join(damaged, weights), bytes)
    const repaired = await run('from-damaged', change, { base: { folder: damaged, name: 'base' } })
    expect(repaired.files).toEqual(expected)
    expect(repaired.log).toContain('base: model.layers.0.mlp.up_proj.weight in it is no longer as it was written, and is made again.')

    const otherSeed = await run('other-seed', change, { base, seed: 8 })
    expect(otherSeed.takenOver).toBeNull()
    expect(otherSeed.log).toContain('Nothing is taken over from base: it was made with seed 7, not 8.')

    const calibration = { path: text, samples: 3, sequenceLength: 22, seed: 3 }
    expect((await run('other-text', change, { base, calibration })).takenOver).toBeNull()

    const record = JSON.parse(readFileSync(join(damaged, 'run.json'), 'utf8')) as Record<string, unknown>
    const rewrite = (changes: object): void => writeFileSync(join(damaged, 'run.json'), JSON.stringify({ ...record, ...changes }))
    rewrite({ bytes_version: 0 })
    expect((await run('other-version', change, { base: { folder: damaged, name: 'base' } })).takenOver).toBeNull()

    const source = record['source'] as { tensors: Record<string, { sha256: string }> }
    rewrite({ source: { ...source, tensors: { ...source.tensors, 'model.layers.0.mlp.up_proj.weight': { sha256: '0'.repeat(64) } } } })
    const changed = await run('other-source', change, { base: { folder: damaged, name: 'base' } })
    expect({ files: changed.files, takenOver: changed.takenOver }).toEqual({ files: expected, takenOver: null })
  })
})
