/** Recipes of one's own through the studio: checked, changed layer by layer, run as jobs, and raised from a variant. The compressor is a fake. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { safe } from '@orpc/server'
import { afterEach, describe, expect, it } from 'vitest'
import { CALIBRATION_DEFAULTS } from '../compress/calibration/defaults.ts'
import { DEFAULT_CALIBRATION } from '../contract/index.ts'
import type { CalibrationChoice } from '../contract/index.ts'
import { FAKE_PRESET } from './test/fake-engine.ts'
import { jobIn, openStudio } from './test/open-studio.ts'
import type { OpenStudio } from './test/open-studio.ts'
import { useTemporaryFolders } from './test/temporary-folder.ts'
import { writeTinyModel } from './test/tiny-model.ts'

const temporaryFolder = useTemporaryFolders()
const opened: OpenStudio[] = []
afterEach(async () => {
  for (const { studio } of opened.splice(0)) await studio.close()
})

async function start(folder = temporaryFolder()) {
  const open = await openStudio(folder)
  opened.push(open)
  const model = await open.client.models.import({ path: writeTinyModel(join(folder, 'tiny'), { layers: 2 }) })
  const request = {
    modelId: model.id,
    presetIds: [] as string[],
    outputFolder: null,
    evaluate: { perplexity: false, tasks: false, throughput: false },
    seed: 3,
  }
  return { ...open, folder, model, modelId: model.id, request }
}

const ROUNDED = 'QuantizationModifier: {ignore: [lm_head], config_groups: {group_0: {weights: {num_bits: 4, strategy: channel}}}}'
const GPTQ = ROUNDED.replace('QuantizationModifier', 'GPTQModifier')
const DOWN = 'model.layers.1.mlp.down_proj'

it('the defaults for calibration are those of the command line', () => {
  const { samples, sequenceLength } = DEFAULT_CALIBRATION
  expect({ samples, sequenceLength }).toEqual(CALIBRATION_DEFAULTS)
})

describe('checking', () => {
  it('gives the written form, exact sizes, and whether calibration is needed', async () => {
    const { client, modelId } = await start()
    const { error, recipe } = await client.optimize.checkRecipe({ modelId, yaml: GPTQ, contextTokens: 64 })
    expect(error).toBeNull()
    expect(recipe).toMatchObject({
      form: { algorithm: 'gptq', scheme: 'W4A16', groupSize: null, ignore: ['lm_head'] },
      needsCalibration: true,
      scheme: 'W4A16 channel',
      blockedBy: null,
    })
    const again = await client.optimize.checkRecipe({ modelId, yaml: recipe!.yaml, contextTokens: 64 })
    expect(again.recipe).toEqual(recipe)
    const map = await client.optimize.schemeMap({ modelId, choice: { yaml: GPTQ } })
    expect(map.weightBytes).toBe(recipe!.predicted!.weightBytes)
  })

  it('names the line of an error and the nearest key, and what does not fit this model', async () => {
    const { client, modelId } = await start()
    const misspelled = await client.optimize.checkRecipe({
      modelId,
      yaml: 'GPTQModifier:\n  ignore: []\n  sheme: W4A16\n',
      contextTokens: 64,
    })
    expect(misspelled).toMatchObject({ recipe: null, error: { line: 3, code: 'compress.invalid-recipe', hint: 'Did you mean "scheme"?' } })
    const wide = await client.optimize.checkRecipe({ modelId, yaml: 'GPTQModifier: {scheme: W4A16}', contextTokens: 64 })
    expect(wide).toMatchObject({ error: null, recipe: { predicted: null, blockedBy: { message: expect.stringMatching(/8 columns/) } } })
  })
})

describe('a recipe of one’s own', () => {
  it('runs as a job with its layers, is stored with the variant, and the variant can be raised from it', async () => {
    const { client, modelId, request, engine, folder } = await start()
    const calibration = { ...DEFAULT_CALIBRATION, samples: 2, sequenceLength: 16 }
    const recipes = [{ title: 'My GPTQ', yaml: GPTQ }]
    const [job] = await client.optimize.start({ ...request, recipes, calibration })
    const done = await jobIn(client, job!.id, 'succeeded', 'failed')
    expect(done).toMatchObject({
      state: 'succeeded',
      title: 'tiny → My GPTQ',
      presetId: null,
      layers: { metric: 'output', total: 1, current: null, finished: [{ layer: 0, error: 0.03, seconds: 0.5 }] },
    })
    expect(engine.compressions).toMatchObject([
      { seed: 3, calibration: { path: join(folder, 'assets', 'calibration', 'general.jsonl'), samples: 2, sequenceLength: 16, seed: 0 } },
    ])
    const out = join(folder, 'data', 'variants', 'tiny-my-gptq')
    expect(readFileSync(join(out, 'recipe.yaml'), 'utf8')).toContain('GPTQModifier')
    expect((await client.models.get({ modelId: done.variantId! })).summary).toMatchObject({ name: 'tiny · My GPTQ', presetId: null })

    const plan = await client.optimize.raise({ variantId: done.variantId!, module: DOWN })
    expect(plan).toMatchObject({
      modelId,
      calibration,
      seed: 3,
      layer: 1,
      role: 'down_proj',
      from: 'W4A16 channel',
      to: 'W8A16 channel',
      addedBytes: 32,
      recipe: { title: 'My GPTQ, layer 1 down_proj as W8A16 channel' },
      // the fake compressor's record is not one that tensors can be taken over from
      recomputes: 'All layers are made again: it was made by another version of Lathe.',
      takesOver: { layers: 0, ofLayers: 2 },
    })
    const [raised] = await client.optimize.start({
      ...request,
      recipes: [plan.recipe],
      calibration: plan.calibration,
      seed: plan.seed,
      baseVariantId: done.variantId,
    })
    const second = await jobIn(client, raised!.id, 'succeeded', 'failed')
    expect(engine.compressions.map(({ base }) => base?.name)).toEqual([undefined, 'tiny · My GPTQ'])
    const next = await client.optimize.raise({ variantId: second.variantId!, module: DOWN })
    expect(next).toMatchObject({ from: 'W8A16 channel', to: null })
    const map = await client.optimize.schemeMap({ modelId, choice: { yaml: next.recipe.yaml } })
    expect(map.units.filter((unit) => unit.scheme === null).map((unit) => unit.id)).toEqual([DOWN])
  })

  it('overrides make another recipe of a preset, and several choices make several jobs', async () => {
    const { client, request, engine } = await start()
    const overrides = [{ target: DOWN, scheme: null }]
    const jobs = await client.optimize.start({
      ...request,
      presetIds: [FAKE_PRESET.id],
      recipes: [{ title: 'Mine', yaml: ROUNDED }],
      overrides,
    })
    expect(jobs.map((job) => [job.title, job.presetId])).toEqual([
      ['tiny → Balanced 4-bit, some layers changed', null],
      ['tiny → Mine', null],
    ])
    for (const job of jobs) await jobIn(client, job.id, 'succeeded')
    for (const { recipe } of engine.compressions) expect(JSON.stringify(recipe)).toContain(DOWN)
  })

  it('what was finished before a kill is taken over only if the recipe is the same', async () => {
    const folder = temporaryFolder()
    const first = await start(folder)
    let closing: Promise<void> | null = null
    first.engine.afterRename = () => {
      closing = first.studio.close()
      throw new Error('killed')
    }
    const [job] = await first.client.optimize.start({ ...first.request, recipes: [{ title: 'Mine', yaml: ROUNDED }] })
    await first.studio.settled()
    await closing
    opened.length = 0
    const out = join(folder, 'data', 'variants', 'tiny-mine')
    expect(existsSync(out)).toBe(true)

    const { client, engine } = await start(folder)
    await client.jobs.resume({ jobId: job!.id })
    expect(await jobIn(client, job!.id, 'succeeded', 'failed')).toMatchObject({ state: 'succeeded' })
    expect(engine.compressions).toEqual([])
  })

  it('a start without what it needs says so', async () => {
    const { client, request, folder } = await start()
    const recipes = [{ title: 'Mine', yaml: GPTQ }]
    const problem = async (change: object) =>
      (await client.optimize.preflight({ ...request, recipes, ...change })).problems.map(({ message }) => message)
    expect(await problem({ calibration: null })).toEqual([])
    const gone = { ...DEFAULT_CALIBRATION, source: { kind: 'file' as const, path: join(folder, 'gone.txt') } }
    expect(await problem({ calibration: gone })).toEqual([expect.stringMatching(/gone\.txt can't be read/)])
    expect(await problem({ calibration: DEFAULT_CALIBRATION })).toEqual([])
    expect(await problem({ recipes: [{ title: 'Mine', yaml: 'nothing' }] })).toHaveLength(1)
    expect(await problem({ overrides: [{ target: 'nowhere', scheme: null }], calibration: DEFAULT_CALIBRATION })).toEqual([
      'No linear layer of this model is called "nowhere".',
    ])
    expect((await safe(client.optimize.start({ ...request }))).error).not.toBeNull()
  })

  it('a device too small for a layer is said before anything starts', async () => {
    const { client, request, engine } = await start()
    const warnings = async (yaml: string) => (await client.optimize.preflight({ ...request, recipes: [{ title: 'Mine', yaml }] })).warnings
    expect(await warnings(GPTQ)).toEqual([])
    engine.gpuBudgetBytes = 1000
    expect(await warnings(GPTQ)).toEqual([
      expect.stringMatching(/^Calibrating a layer takes about .* of the device, which has 0\.00000100 GB/),
    ])
    expect(await warnings(ROUNDED)).toEqual([])
  })
})

describe('calibration text', () => {
  it('is counted, shown, and refused with its line', async () => {
    const { client, modelId, folder } = await start()
    const inspect = (path: string | null, change: Partial<CalibrationChoice> = {}) =>
      client.optimize.inspectCalibration({
        modelId,
        calibration: { ...DEFAULT_CALIBRATION, source: path === null ? { kind: 'bundled' } : { kind: 'file', path }, ...change },
      })
    expect(await inspect(null, { samples: 2, sequenceLength: 16 })).toEqual({
      name: 'general.jsonl',
      documents: 3,
      kind: 'text',
      excerpts: ['abcdefgh', 'bcdefghi', 'cdefghij'].map((text) => text.repeat(8)),
      samples: 2,
      tokens: 32,
      exact: true,
      warnings: [],
      error: null,
    })
    const own = join(folder, 'own.jsonl')
    writeFileSync(own, '{"text": "a"}\n{"messages": [{"role": "user", "content": "hi"}]}\n')
    expect(await inspect(own)).toMatchObject({ documents: 2, kind: 'mixed', excerpts: ['a', 'user: hi'] })
    writeFileSync(own, '{"text": "a"}\n\n{"txt": 1}\n')
    expect(await inspect(own)).toMatchObject({ documents: 0, error: { code: 'compress.invalid-calibration', line: 3 } })
    expect(await inspect(join(folder, 'gone.txt'))).toMatchObject({ error: { line: null } })
  })
})

describe('a scheme per layer', () => {
  const search = { schemes: ['W4A16 channel', 'W8A16 channel'], measure: 'weights' as const }

  it('is searched with progress, and an exact recipe comes out', async () => {
    const { client, modelId } = await start()
    const events = await Array.fromAsync(await client.optimize.automatic({ ...search, modelId, target: { kind: 'loss', bound: 1 } }))
    const done = events.at(-1)
    if (done?.kind !== 'done') throw new Error('no result')
    // 4 units a layer, 2 schemes
    expect(events.filter(({ kind }) => kind === 'progress')).toHaveLength(16)
    expect(done.map.units.map((unit) => unit.scheme)).toEqual(Array.from({ length: 8 }, () => 'W4A16 channel'))
    const { recipe } = await client.optimize.checkRecipe({ modelId, yaml: done.yaml, contextTokens: 64 })
    expect(recipe?.predicted?.weightBytes).toBe(done.map.weightBytes)
    // another target for the same schemes measures nothing again
    const bits = (done.map.bitsPerWeight + 1) as number
    const again = await Array.fromAsync(await client.optimize.automatic({ ...search, modelId, target: { kind: 'bits-per-weight', bits } }))
    expect(again).toHaveLength(1)
  })

  it('a target that cannot be met and a scheme that does not exist are refused', async () => {
    const { client, modelId } = await start()
    const run = async (change: object) => {
      const stream = await client.optimize.automatic({ ...search, modelId, target: { kind: 'bytes', bytes: 1 }, ...change })
      return (await safe(Array.fromAsync(stream))).error
    }
    expect(await run({})).toMatchObject({ data: { code: 'compress.nothing-to-do' } })
    expect(await run({ schemes: ['W4A17'] })).toMatchObject({ data: { code: 'compress.invalid-recipe' } })
  })

  it('stops when nobody reads any more', async () => {
    const { client, modelId } = await start()
    const stream = await client.optimize.automatic({ ...search, modelId, target: { kind: 'loss', bound: 0 } })
    for await (const event of stream) {
      expect(event).toMatchObject({ kind: 'progress', done: 1 })
      break
    }
  })
})
