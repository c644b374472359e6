/**
 * Calibrated compression of a tiny model from folder to folder, on the reference backend: the codes are those that this file's own arithmetic
 * gives, zeros stay zeros, and neither threads, spilling, cancelling nor killing change a byte.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createReferenceBackend } from '../gpu/reference/backend.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import { gptq } from './algorithms/gptq.ts'
import { accumulateHessian, factorHessian } from './algorithms/hessian-factor.ts'
import { compress } from './pipeline.ts'
import type { Recipe } from './recipe.ts'
import { CALIBRATED_RECIPES, GPTQ, PRUNING, W4_G32 } from './testing/calibrated-recipes.ts'
import type { CalibratedRecipe } from './testing/calibrated-recipes.ts'
import { hashesOf, randomFrom, runUntil } from './testing/kill-drill.ts'
import { writeRandomModel } from './testing/random-model.ts'
import { decodePacked, floats, readRaw } from './testing/raw-checkpoint.ts'
import type { CompressOptions, CompressReport, CompressTuning } from './types.ts'

const SEED = Number(process.env['LATHE_TEST_SEED'] ?? 20261123)
const HIDDEN = 64
const scratch = mkdtempSync(join(tmpdir(), 'lathe-calibrated-'))
const model = join(scratch, 'model')
const text = join(scratch, 'text.jsonl')
const documents = [
  'Mara lives by the harbour and paints boats every morning.',
  'The tide was low, so Leo walked out to the old lighthouse.',
  'Fern traded a coin for a marble at the market.',
  'On Thursday the bell rang twice and nobody came.',
  'Walter keeps a letter in a blue box under the stairs.',
  'A small boat can carry two people and one basket.',
  'Ruby counted nine gulls on the roof of the bakery.',
  'The map shows a road that ends at the sea.',
]
const child = fileURLToPath(new URL('./testing/calibrate-child.ts', import.meta.url))

beforeAll(async () => {
  await writeRandomModel(model, { layers: 2, hidden: HIDDEN, intermediate: 96, heads: 2, kvHeads: 1, seed: 11 })
  writeFileSync(text, documents.map((document) => `${JSON.stringify({ text: document })}\n`).join(''))
})
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

function run(
  name: string,
  recipe: Recipe,
  options: Partial<CompressOptions> = {},
  tuning: CompressTuning = {},
): Promise<CompressReport & { out: string }> {
  // The card names the folder, so all have one name.
  const out = join(scratch, name, 'result')
  return compress(
    {
      sourceFolder: model,
      outFolder: out,
      recipe: { recipe },
      seed: 7,
      resume: true,
      latheVersion: 'test',
      calibration: { path: text, samples: 6, sequenceLength: 24, seed: 3 },
      openBackend: () => Promise.resolve(createReferenceBackend()),
      ...options,
    },
    { threads: 1, journalBatchBytes: 0, ...tuning },
  ).then((report) => ({ ...report, out }))
}

/** What enters q, k and v of layer 0: the embedding of each token, normed. */
async function attentionInputs(ids: readonly Uint32Array[]): Promise<{ inputs: Float32Array; tokens: number }> {
  const raw = readRaw(model)
  const embedding = floats(raw.get('model.embed_tokens.weight')!)
  const norm = floats(raw.get('model.layers.0.input_layernorm.weight')!)
  const all = ids.flatMap((sample) => [...sample])
  const inputs = new Float32Array(all.length * HIDDEN)
  for (const [token, id] of all.entries()) {
    const row = embedding.slice(id * HIDDEN, (id + 1) * HIDDEN)
    const scale = 1 / Math.sqrt(row.reduce((sum, x) => sum + x * x, 0) / HIDDEN + 1e-5)
    for (const [i, x] of row.entries()) inputs[token * HIDDEN + i] = x * scale * norm[i]!
  }
  return { inputs, tokens: all.length }
}

describe('GPTQ from folder to folder', () => {
  it('stores the codes that text, norm, Hessian and factor of our own give', async () => {
    // All documents, so that which were drawn does not matter.
    const calibration = { path: text, samples: 8, sequenceLength: 24, seed: 3 }
    const report = await run('codes', CALIBRATED_RECIPES.gptq, { calibration })
    const tokenizer = await loadTokenizer(model)
    const ids = documents.map((document) => tokenizer.encode(document, { addSpecialTokens: true }).subarray(0, 24))
    const { inputs, tokens } = await attentionInputs(ids)
    const hessian = new Float64Array(HIDDEN * HIDDEN)
    accumulateHessian(hessian, 0, inputs, tokens, HIDDEN)
    const factor = factorHessian(hessian, HIDDEN, { dampening: 0.01, orderByImportance: true })!
    const stored = readRaw(report.out)
    for (const [name, rows] of [
      ['q_proj', HIDDEN],
      ['k_proj', HIDDEN / 2],
      ['v_proj', HIDDEN / 2],
    ] as const) {
      const module = `model.layers.0.self_attn.${name}`
      const weight = Float32Array.from(floats(readRaw(model).get(`${module}.weight`)!))
      const { codes, scales } = gptq(weight, rows, HIDDEN, W4_G32, 'BF16', { kind: 'minmax' }, factor)
      const expected = Float32Array.from(codes, (code, i) => code * scales[Math.floor(i / 32)]!)
      const found = decodePacked(stored, module, 4)
      const different = expected.reduce((sum, value, i) => sum + Number(Math.abs(value - found[i]!) > 1e-6), 0)
      // The Gram matrix passes through f32: a weight on a rounding boundary may fall to either side, and take its row along.
      expect([name, different / expected.length < 0.01]).toEqual([name, true])
    }
    expect(report.calibration).toMatchObject({ source: 'text.jsonl', samples: 8, tokens, seed: 3, adapter: 'reference' })
  })

  it('keeps pruned weights at exactly zero, and 2 of every 4', async () => {
    const { out } = await run('pruned', CALIBRATED_RECIPES['sparsegpt and gptq'])
    const stored = readRaw(out)
    for (const name of ['self_attn.q_proj', 'mlp.gate_proj', 'mlp.down_proj']) {
      const values = decodePacked(stored, `model.layers.1.${name}`, 4)
      let short = 0
      for (let i = 0; i < values.length; i += 4) if (values.subarray(i, i + 4).filter((value) => value === 0).length < 2) short++
      expect([name, short]).toEqual([name, 0])
    }
  })

  it('prunes without quantizing: dense tensors with zeros, no quantization config', async () => {
    const { out, scheme } = await run('dense', CALIBRATED_RECIPES['owl and recovery'])
    const values = floats(readRaw(out).get('model.layers.0.mlp.up_proj.weight')!)
    const zeros = values.filter((value) => value === 0).length / values.length
    const config = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8')) as Record<string, unknown>
    expect({ scheme, close: Math.abs(zeros - 0.5) < 0.1, quantized: 'quantization_config' in config }).toEqual({
      scheme: '50 % sparse',
      close: true,
      quantized: false,
    })
  })
})

describe('the same bytes', () => {
  let expected: Record<string, string>
  beforeAll(async () => {
    expected = hashesOf((await run('expected', CALIBRATED_RECIPES['sparsegpt and gptq'])).out)
  })

  it('on several threads, with all activations on the disk', async () => {
    const calibration = { path: text, samples: 6, sequenceLength: 24, seed: 3, activationBytes: 0 }
    const { out } = await run('spilled', CALIBRATED_RECIPES['sparsegpt and gptq'], { calibration }, { threads: 3 })
    expect(hashesOf(out)).toEqual(expected)
  })

  it('after a cancel in the second layer', async () => {
    const controller = new AbortController()
    const stopped = run('cancelled', CALIBRATED_RECIPES['sparsegpt and gptq'], {
      signal: controller.signal,
      onProgress: ({ layer }) => {
        if (layer?.layer === 1 && layer.note.startsWith('Quantizing')) controller.abort()
      },
    })
    await expect(stopped).rejects.toMatchObject({ code: 'job.cancelled' })
    const report = await run('cancelled', CALIBRATED_RECIPES['sparsegpt and gptq'])
    expect({ resumed: report.resumed, files: hashesOf(report.out) }).toEqual({ resumed: true, files: expected })
  })

  it('refuses to continue with other text', async () => {
    const controller = new AbortController()
    const stopped = run('other-text', CALIBRATED_RECIPES.gptq, { signal: controller.signal, onLayer: () => controller.abort() })
    await expect(stopped).rejects.toMatchObject({ code: 'job.cancelled' })
    const calibration = { path: text, samples: 6, sequenceLength: 24, seed: 4 }
    await expect(run('other-text', CALIBRATED_RECIPES.gptq, { calibration })).rejects.toMatchObject({ code: 'compress.journal-mismatch' })
  })
})

/** Ten kills of every family are bench/kill-bench.ts. */
it.each(['gptq', 'sparsegpt and gptq'] satisfies CalibratedRecipe[])(
  `continues after kills to the same bytes: %s (seed ${SEED}; set LATHE_TEST_SEED for others)`,
  { timeout: 120_000 },
  async (recipe) => {
    const folder = mkdtempSync(join(scratch, 'kill-'))
    const whole = await runUntil(child, [model, join(folder, 'whole', 'result'), recipe, text], Infinity)
    const random = randomFrom(SEED)
    const moment = Math.floor(whole.passed * (0.4 + 0.5 * random()))
    const out = join(folder, 'killed', 'result')
    const { signal } = await runUntil(child, [model, out, recipe, text], moment)
    const finished = await runUntil(child, [model, out, recipe, text], Infinity)
    expect({ signal, end: finished.signal, files: hashesOf(out) }).toEqual({
      signal: 'SIGKILL',
      end: null,
      files: hashesOf(join(folder, 'whole', 'result')),
    })
  },
)

it.each([
  ['no calibration text', { recipe: CALIBRATED_RECIPES.gptq, options: { calibration: undefined } }, 'compress.invalid-recipe'],
  [
    'too little text',
    { recipe: CALIBRATED_RECIPES.gptq, options: { calibration: { path: text, samples: 1, sequenceLength: 8, seed: 0 } } },
    'compress.invalid-calibration',
  ],
  ['a group index', { recipe: { steps: [{ ...GPTQ, actorder: 'group' }] }, options: {} }, 'compress.invalid-recipe'],
  ['two quantizations', { recipe: { steps: [GPTQ, GPTQ] }, options: {} }, 'compress.invalid-recipe'],
  ['pruning after quantization', { recipe: { steps: [GPTQ, PRUNING] }, options: {} }, 'compress.invalid-recipe'],
  [
    'columns that 5 does not divide',
    { recipe: { steps: [{ ...PRUNING, maskStructure: { prune: 2, of: 5 } }] }, options: {} },
    'compress.invalid-recipe',
  ],
] as const)('refuses %s before it writes anything', async (name, { recipe, options }, code) => {
  const { calibration, ...rest } = { calibration: { path: text, samples: 6, sequenceLength: 24, seed: 3 }, ...options }
  const outcome = compress({
    sourceFolder: model,
    outFolder: join(scratch, `refused-${name.replaceAll(' ', '-')}`),
    recipe: { recipe },
    seed: 0,
    resume: false,
    latheVersion: 'test',
    openBackend: () => Promise.resolve(createReferenceBackend()),
    ...(calibration === undefined ? {} : { calibration }),
    ...rest,
  })
  await expect(outcome).rejects.toMatchObject({ code })
})
