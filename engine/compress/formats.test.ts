/** Every scheme through a whole compression: what is written, against LLM Compressor's own folders, and that it runs as it was written. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../checkpoint/open.ts'
import { LatheError } from '../contract/errors.ts'
import { createReferenceBackend } from '../gpu/reference/backend.ts'
import { loadModel } from '../model/load.ts'
import { goldenPrompts } from '../model/test/golden-data.ts'
import { scorePrompt } from '../model/test/steps.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import { compress } from './pipeline.ts'
import { planCompression } from './plan.ts'
import { parseRecipeYaml } from './recipe-yaml.ts'
import { PRESET_SCHEMES, schemeNeeds } from './scheme.ts'
import { floats, readRaw } from './testing/raw-checkpoint.ts'
import { writeRandomModel } from './testing/random-model.ts'
import type { CompressOptions, CompressReport } from './types.ts'

const shared = fileURLToPath(new URL('../../../shared/data/models', import.meta.url))
const hasShared = existsSync(shared)
if (!hasShared) process.stderr.write('formats.test.ts skipped: the shared test data (../shared/data) is not beside this checkout\n')
const demo = fileURLToPath(new URL('../../assets/demo-model', import.meta.url))
const scratch = mkdtempSync(join(tmpdir(), 'lathe-formats-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

let counter = 0
async function run(sourceFolder: string, recipeText: string, options: Partial<CompressOptions> = {}): Promise<CompressReport> {
  const outFolder = join(scratch, String(counter++))
  const recipe = { recipe: parseRecipeYaml(recipeText) }
  return compress({ sourceFolder, outFolder, recipe, seed: 7, resume: false, latheVersion: 'test', ...options }, { threads: 1 })
}

async function logprobs(folder: string, tokens: readonly number[]): Promise<readonly number[]> {
  await using backend = createReferenceBackend()
  await using checkpoint = await openCheckpoint(folder)
  const capacity = { tokens: 64, rows: 64, sequences: 1 }
  using model = await loadModel({ checkpoint, backend, contextTokens: 64, kvDtype: 'f32', capacity, owner: 'test' })
  return Array.from((await scorePrompt(model, tokens)).logprobs)
}

function quantizationOf(folder: string): Record<string, unknown> {
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as { quantization_config: Record<string, unknown> }
  return config.quantization_config
}

/** Mean |Δ log-probability| that a scheme may cost this small model, twice what was measured. The others differ from these in numbers only. */
const ALLOWED: Readonly<Record<string, number>> = {
  W2A16: 8,
  W3A16: 1.1,
  W4A16_ASYM: 0.9,
  W8A8: 0.05,
  W4AFP8: 0.7,
  FP8_DYNAMIC: 0.35,
  FP8_BLOCK: 0.13,
  NVFP4A16: 0.6,
  MXFP4: 0.9,
  MXFP8: 0.3,
}

describe.runIf(hasShared)('data-free schemes', () => {
  const source = `${shared}/tinystories-656k`
  const tokens = hasShared ? (goldenPrompts('tinystories-656k')[0]?.tokens.slice(0, 24) ?? []) : []
  let original: Promise<readonly number[]> | null = null
  const names = Object.keys(PRESET_SCHEMES).filter((name) => name !== 'INT8' && !schemeNeeds(PRESET_SCHEMES[name]!).inputMaximum)

  it.each(names)('%s is written as planned, verified, and runs', async (name) => {
    const report = await run(source, `QuantizationModifier: {scheme: ${name}, targets: [Linear], ignore: [lm_head]}`)
    expect(report.tensors.length).toBe(14)
    const bytes = [...readRaw(report.outFolder).values()].reduce((sum, tensor) => sum + tensor.bytes.length, 0)
    expect(bytes).toBe(report.bytesOut)
    const allowed = ALLOWED[name]
    if (allowed === undefined) return
    const before = await (original ??= logprobs(source, tokens))
    const after = await logprobs(report.outFolder, tokens)
    const mean = before.reduce((sum, value, i) => sum + Math.abs(value - after[i]!), 0) / before.length
    expect(mean).toBeGreaterThan(0)
    expect(mean).toBeLessThanOrEqual(allowed)
  })

  it('several schemes in one file are "mixed-precision"', async () => {
    const report = await run(source, `QuantizationModifier: {scheme: {W8A8: ['re:.*down_proj$'], NVFP4A16: ['re:.*self_attn.*']}}`)
    expect(quantizationOf(report.outFolder)['format']).toBe('mixed-precision')
    expect((await logprobs(report.outFolder, tokens)).every(Number.isFinite)).toBe(true)
  })

  it('one factor serves the fused parts of NVFP4', async () => {
    const report = await run(source, 'QuantizationModifier: {scheme: NVFP4A16}')
    const tensors = readRaw(report.outFolder)
    const factor = (module: string): number => floats(tensors.get(`model.layers.0.${module}.weight_global_scale`)!)[0]!
    expect(factor('self_attn.q_proj')).toBe(factor('self_attn.k_proj'))
    expect(factor('self_attn.q_proj')).toBe(factor('self_attn.v_proj'))
    expect(factor('mlp.gate_proj')).toBe(factor('mlp.up_proj'))
    expect(factor('mlp.gate_proj')).not.toBe(factor('mlp.down_proj'))
  })

  it('schemes with static input scales ask for calibration, before anything is written', async () => {
    const error = await run(source, 'QuantizationModifier: {scheme: FP8}').then(
      () => null,
      (thrown: unknown) => thrown,
    )
    expect(error).toBeInstanceOf(LatheError)
    expect((error as LatheError).hint).toContain('calibration')
  })
})

describe.runIf(hasShared)('beside LLM Compressor', () => {
  it.each([
    ['llmcompressor-w8a8', 'W8A8'],
    ['llmcompressor-fp8-dynamic', 'FP8_DYNAMIC'],
  ])('%s: same tensors, same config group, scales within one rounding', async (folder, scheme) => {
    const report = await run(demo, `QuantizationModifier: {scheme: ${scheme}, targets: [Linear], ignore: [lm_head]}`)
    const [ours, theirs] = [readRaw(report.outFolder), readRaw(`${shared}/${folder}`)]
    const layout = (tensors: typeof ours): string[] =>
      [...tensors].map(([name, { dtype, shape }]) => `${name} ${dtype} [${shape.join()}]`).sort()
    expect(layout(ours)).toEqual(layout(theirs))
    expect(quantizationOf(report.outFolder)).toEqual(quantizationOf(`${shared}/${folder}`))
    // They compute scales in bf16, we in f32 before rounding to it: at most one step of bf16 apart.
    for (const [name, tensor] of ours) {
      if (!name.endsWith('weight_scale')) continue
      const other = floats(theirs.get(name)!)
      for (const [i, scale] of floats(tensor).entries()) expect(Math.abs(scale - other[i]!)).toBeLessThanOrEqual(scale * 2 ** -7)
    }
  })
})

describe('what calibration adds', () => {
  const model = join(scratch, 'random-model')
  const text = join(scratch, 'text.jsonl')
  const documents = [
    'Mara lives by the harbour and paints boats every morning.',
    'The tide was low, so Leo walked out.',
    'Fern traded a coin.',
  ].map((document) => `${document} ${document} ${document}`)
  beforeAll(async () => {
    await writeRandomModel(model, { layers: 1, hidden: 64, intermediate: 96, heads: 2, kvHeads: 1, seed: 11 })
    writeFileSync(text, documents.map((document) => `${JSON.stringify({ text: document })}\n`).join(''))
  })

  it.each(['FP8', 'NVFP4'])('%s with cache scales: the ranges of inputs and of values that layer 0 sees', async (scheme) => {
    const recipe = `QuantizationModifier:
  scheme: ${scheme}
  ignore: [lm_head]
  kv_cache_scheme: {num_bits: 8, type: float, strategy: tensor, dynamic: false, symmetric: true}`
    const report = await run(model, recipe, {
      calibration: { path: text, samples: 3, sequenceLength: 64, seed: 3 },
      openBackend: () => Promise.resolve(createReferenceBackend()),
    })
    const raw = readRaw(report.outFolder)
    const source = readRaw(model)
    const number = (name: string): number => floats(raw.get(`model.layers.0.self_attn.${name}`)!)[0]!
    const tokenizer = await loadTokenizer(model)
    const ids = documents.flatMap((document) => [...tokenizer.encode(document, { addSpecialTokens: true })])
    const embedding = floats(source.get('model.embed_tokens.weight')!)
    const norm = floats(source.get('model.layers.0.input_layernorm.weight')!)
    const values = floats(source.get('model.layers.0.self_attn.v_proj.weight')!)
    const normed = ids.map((id) => {
      const x = embedding.slice(id * 64, (id + 1) * 64)
      const inverse = 1 / Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / 64 + 1e-5)
      return x.map((value, i) => value * inverse * norm[i]!)
    })
    const largestInput = Math.max(...normed.flat().map(Math.abs))
    const largestValue = Math.max(
      ...normed.flatMap((x) =>
        Array.from({ length: values.length / 64 }, (_, row) => Math.abs(x.reduce((sum, v, k) => sum + v * values[row * 64 + k]!, 0))),
      ),
    )
    // Both are stored in BF16, or as a quotient in F32.
    const inputMaximum = scheme === 'FP8' ? number('q_proj.input_scale') * 448 : (448 * 6) / number('q_proj.input_global_scale')
    expect(inputMaximum / largestInput).toBeCloseTo(1, 2)
    expect((number('v_scale') * 448) / largestValue).toBeCloseTo(1, 2)
    expect(number('k_scale')).toBeGreaterThan(0)
    expect(quantizationOf(report.outFolder)['kv_cache_scheme']).toMatchObject({ num_bits: 8, type: 'float', strategy: 'tensor' })
    expect((await logprobs(report.outFolder, ids.slice(0, 8))).every(Number.isFinite)).toBe(true)
    await using backend = createReferenceBackend()
    await using written = await openCheckpoint(report.outFolder)
    const cache = { contextTokens: 64, kvDtype: 'fp8', capacity: { tokens: 64, rows: 64, sequences: 1 }, owner: 'test' } as const
    using served = await loadModel({ checkpoint: written, backend, ...cache })
    expect([...(await scorePrompt(served, ids.slice(0, 8))).logprobs].every(Number.isFinite)).toBe(true)
    // What the cache holds are three-bit mantissas times the one scale that calibration wrote.
    for (const which of ['k', 'v'] as const) {
      const codes = (await served.kv.read(0, which, Uint32Array.of(32, 33, 34))).map((value) => Math.abs(value) / number(`${which}_scale`))
      expect(Math.max(...codes)).toBeGreaterThan(1)
      for (const code of codes.filter((value) => value >= 2 ** -6)) {
        const mantissa = (code / 2 ** Math.floor(Math.log2(code * (1 + 1e-6)))) * 8
        expect(Math.abs(mantissa - Math.round(mantissa))).toBeLessThan(1e-4)
      }
    }
  })
})

it('predicts the size of every scheme to the byte', async () => {
  await using checkpoint = await openCheckpoint(demo)
  const sizes = Object.keys(PRESET_SCHEMES).map((name) => {
    return [name, planCompression(checkpoint, parseRecipeYaml(`QuantizationModifier: {scheme: ${name}}`)).bytesOut]
  })
  expect(Object.fromEntries(sizes)).toMatchInlineSnapshot(`
    {
      "FP8": 5184168,
      "FP8_BLOCK": 5184504,
      "FP8_DYNAMIC": 5211648,
      "INT8": 5211648,
      "MXFP4": 3248640,
      "MXFP4A16": 3248640,
      "MXFP8": 5313024,
      "MXFP8A16": 5313024,
      "NVFP4": 3378000,
      "NVFP4A16": 3377832,
      "W2A16": 2152608,
      "W3A16": 2668704,
      "W4A16": 3184800,
      "W4A16_ASYM": 3200928,
      "W4AFP8": 3184800,
      "W5A16": 3700896,
      "W6A16": 4216992,
      "W7A16": 4733088,
      "W8A16": 5249184,
      "W8A8": 5211648,
    }
  `)
})
