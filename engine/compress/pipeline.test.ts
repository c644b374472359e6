/** Whole compressions of small real models: the bytes, the refusals, interruption and resumption. */
import { createHash } from 'node:crypto'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
  closeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { dequantizeRows } from '../checkpoint/dequantize.ts'
import { storedLinears } from '../checkpoint/modules.ts'
import { openCheckpoint } from '../checkpoint/open.ts'
import { LatheError } from '../contract/errors.ts'
import type { TensorError } from '../contract/index.ts'
import { toCliReport } from './cli-report.ts'
import { updateModelCard } from './model-card.ts'
import { compress } from './pipeline.ts'
import { predict } from './plan.ts'
import { parseRecipeYaml } from './recipe-yaml.ts'
import { discardPartial, inspectPartial, partialFolderOf } from './resume.ts'
import { decodePacked, floats, readRaw } from './testing/raw-checkpoint.ts'
import type { CompressOptions, CompressProgress, CompressReport, CompressTuning } from './types.ts'

const demo = fileURLToPath(new URL('../../assets/demo-model', import.meta.url))
const shared = fileURLToPath(new URL('../../../shared/data/models', import.meta.url))
const hasShared = existsSync(shared)
const scratch = mkdtempSync(join(tmpdir(), 'lathe-compress-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

let counter = 0
function freshOut(): string {
  const parent = join(scratch, String(counter++))
  mkdirSync(parent)
  return join(parent, 'result')
}

type Overrides = Partial<Omit<CompressOptions, 'recipe'>> & { presetId?: string; recipeText?: string }

async function run(sourceFolder: string, overrides: Overrides = {}, tuning: CompressTuning = {}): Promise<CompressReport> {
  const { presetId = 'quick-4bit', recipeText, ...options } = overrides
  return compress(
    {
      sourceFolder,
      outFolder: freshOut(),
      recipe: recipeText === undefined ? { presetId } : { recipe: parseRecipeYaml(recipeText) },
      seed: 7,
      resume: false,
      latheVersion: 'test',
      ...options,
    },
    { threads: 2, ...tuning },
  )
}

async function failure(promise: Promise<unknown>): Promise<LatheError> {
  const outcome = await promise.then(
    () => new Error('nothing failed'),
    (error: unknown) => error,
  )
  if (outcome instanceof LatheError) return outcome
  throw outcome
}

/** SHA-256 of every file but run.json, which holds times. */
function hashesOf(folder: string): Record<string, string> {
  const names = readdirSync(folder).filter((name) => name !== 'run.json')
  return Object.fromEntries(
    names.sort().map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex'),
    ]),
  )
}

function bitsOf(scheme: string): number {
  return scheme.startsWith('W8') ? 8 : 4
}

describe('a finished compression', () => {
  const cases: readonly (readonly [string, string])[] = [
    [demo, 'near-lossless-8bit'],
    [demo, 'quick-4bit'],
    [demo, 'fine-4bit'],
    ...(hasShared
      ? ([
          [join(shared, 'stories260k'), 'near-lossless-8bit'],
          [join(shared, 'stories260k'), 'fine-4bit'],
          [join(shared, 'tinystories-656k'), 'quick-4bit'],
          [join(shared, 'random-qwen2'), 'quick-4bit'],
          [join(shared, 'random-qwen3'), 'fine-4bit'],
        ] as const)
      : []),
  ]

  it.each(cases.map(([folder, preset]) => [basename(folder), preset, folder] as const))(
    '%s as %s: every byte accounted for, by an independent reader',
    async (_, presetId, folder) => {
      const before = hashesOf(folder)
      const prediction = await (async () => {
        await using source = await openCheckpoint(folder)
        return predict(source, presetId)
      })()
      const seen: TensorError[] = []
      const report = await run(folder, { presetId, onTensor: (error) => seen.push(error) })
      const original = readRaw(folder)
      const written = readRaw(report.outFolder)
      const compressed = new Map(report.tensors.map((tensor) => [tensor.name, tensor]))

      // Kept tensors byte for byte, compressed ones replaced by their parts, nothing else.
      const asymmetric = presetId === 'fine-4bit'
      const parts = ['weight_packed', 'weight_scale', 'weight_shape', ...(asymmetric ? ['weight_zero_point'] : [])]
      const isCompressed = (name: string): boolean => name.endsWith('.weight') && compressed.has(name.slice(0, -7))
      const expectedNames = [...original.keys()].flatMap((name) =>
        isCompressed(name) ? parts.map((part) => `${name.slice(0, -7)}.${part}`) : [name],
      )
      expect([...written.keys()].sort()).toEqual(expectedNames.sort())
      const keptNames = [...original.keys()].filter((name) => !isCompressed(name))
      expect(keptNames.map((name) => written.get(name))).toEqual(keptNames.map((name) => original.get(name)))

      // The checkpoint's reader and the independent one agree to the bit; the report's figures are those of what they read.
      await using result = await openCheckpoint(report.outFolder)
      const linears = (await storedLinears(result)).filter((linear) => linear.args !== null)
      expect(linears.map((linear) => linear.name).sort()).toEqual([...compressed.keys()].sort())
      for (const linear of linears) {
        const figures = compressed.get(linear.name)!
        const decoded = decodePacked(written, linear.name, bitsOf(figures.scheme))
        expect(
          Buffer.compare(Buffer.from((await dequantizeRows(result, linear, 0, linear.rows)).buffer), Buffer.from(decoded.buffer)),
        ).toBe(0)
        const weights = floats(original.get(`${linear.name}.weight`)!)
        let squares = 0
        let errors = 0
        let largest = 0
        weights.forEach((w, i) => {
          const e = w - decoded[i]!
          squares += w * w
          errors += e * e
          largest = Math.max(largest, Math.abs(e))
        })
        expect(figures.maxError).toBe(largest)
        expect(figures.relativeError).toBeCloseTo(Math.sqrt(errors / squares), 10)
        expect(figures.sqnrDb).toBeCloseTo(10 * Math.log10(squares / errors), 6)
      }

      const total = [...written.values()].reduce((sum, tensor) => sum + tensor.bytes.length, 0)
      expect({
        bytes: report.bytesOut,
        bits: report.bitsPerWeight,
        skipped: report.ignored.filter((t) => t.kind === 'refused').length,
      }).toEqual({
        bytes: total,
        bits: prediction.bitsPerWeight,
        skipped: prediction.skippedTensors.length,
      })
      expect(prediction.weightBytes).toBe(total)
      expect(seen.map((error) => error.name).sort()).toEqual([...compressed.keys()].sort())

      // Side files verbatim, ours beside them, the source untouched, nothing left over.
      const after = hashesOf(report.outFolder)
      const replaced = ['config.json', 'model.safetensors', 'README.md']
      const copied = Object.fromEntries(Object.entries(before).filter(([name]) => !replaced.includes(name)))
      expect(after).toMatchObject(copied)
      expect(Object.keys(after)).toEqual(expect.arrayContaining(['README.md', 'config.json', 'recipe.yaml']))
      expect(hashesOf(folder)).toEqual(before)
      expect(readdirSync(dirname(report.outFolder))).toEqual(['result'])
    },
  )

  it.skipIf(!hasShared)('lists refused tensors in ignore with the reason (needs ../shared/data)', async () => {
    const report = await run(join(shared, 'stories260k'), { presetId: 'fine-4bit' })
    const config = JSON.parse(readFileSync(join(report.outFolder, 'config.json'), 'utf8')) as { quantization_config: { ignore: string[] } }
    const down = Array.from({ length: 5 }, (_, i) => `model.layers.${i}.mlp.down_proj`)
    expect(config.quantization_config.ignore).toEqual(['lm_head', ...down])
    expect(toCliReport(report).ignored).toEqual(
      expect.arrayContaining(down.map((name) => ({ name, reason: 'its 172 columns are not divisible by the group size 32' }))),
    )
  })

  it.skipIf(!hasShared)('chooses the scales that LLM Compressor chose for the same model (needs ../shared/data)', async () => {
    // Both files were written by LLM Compressor: min-max scales, absmax/7.5 and absmax/127.5, rounded to bf16.
    const recipes = {
      'llmcompressor-gptq-w4a16-g128': 'QuantizationModifier: {scheme: W4A16, ignore: [lm_head]}',
      'llmcompressor-w8a8': 'QuantizationModifier: {config_groups: {g: {weights: {num_bits: 8, strategy: channel}}}, ignore: [lm_head]}',
    }
    const agreement: Record<string, number> = {}
    for (const [name, recipeText] of Object.entries(recipes)) {
      const foreign = readRaw(join(shared, name))
      const ours = readRaw((await run(demo, { recipeText })).outFolder)
      let equal = 0
      let count = 0
      for (const [tensor, { bytes }] of foreign) {
        if (!tensor.endsWith('.weight_scale')) continue
        const mine = ours.get(tensor)!.bytes
        for (let i = 0; i < bytes.length; i += 2) {
          count++
          if (bytes.readUInt16LE(i) === mine.readUInt16LE(i)) equal++
        }
      }
      agreement[name] = equal / count
    }
    expect(agreement).toEqual({ 'llmcompressor-gptq-w4a16-g128': 1, 'llmcompressor-w8a8': 1 })
  })

  it('gives the same bytes whatever the threads, blocks and journal', async () => {
    const plain = hashesOf((await run(demo)).outFolder)
    const other = hashesOf((await run(demo, {}, { threads: 3, blockBytes: 40_000, journalBatchBytes: 0 })).outFolder)
    expect(other).toEqual(plain)
  })

  it('shards what is too large for one file', async () => {
    const report = await run(demo, {}, { maxShardBytes: 1_200_000 })
    const files = readdirSync(report.outFolder).filter((name) => name.includes('safetensors'))
    expect(files).toEqual([
      'model-00001-of-00003.safetensors',
      'model-00002-of-00003.safetensors',
      'model-00003-of-00003.safetensors',
      'model.safetensors.index.json',
    ])
    const whole = await run(demo)
    const [sharded, single] = [readRaw(report.outFolder), readRaw(whole.outFolder)]
    expect([...sharded].sort()).toEqual([...single].sort())
  })

  it('keeps the spelling of numbers in config.json', async () => {
    const source = join(scratch, 'spelled')
    cpSync(demo, source, { recursive: true })
    const config = readFileSync(join(demo, 'config.json'), 'utf8').replace('"rope_theta": 10000.0', '"rope_theta": 1.00e4')
    writeFileSync(join(source, 'config.json'), config)
    const report = await run(source)
    const written = readFileSync(join(report.outFolder, 'config.json'), 'utf8')
    expect(written).toContain('"rope_theta": 1.00e4,')
    expect(written).toContain('"rms_norm_eps": 1e-05,')
  })

  it('writes a card whose evaluation can be filled in, twice', async () => {
    const { outFolder } = await run(demo)
    const card = (): string => readFileSync(join(outFolder, 'README.md'), 'utf8')
    expect(card()).toMatch(/^---\nbase_model: demo-model\nbase_model_relation: quantized\nlicense: mit\n/)
    expect(card()).toContain('Not evaluated yet.')
    const row = { metric: 'Perplexity', baseline: '1.675', variant: '1.681', note: 'rolling | 512' }
    await updateModelCard(outFolder, { rows: [row], provenance: ['first'] })
    await updateModelCard(outFolder, { rows: [row], provenance: ['second'] })
    expect(card()).toContain('| Perplexity | 1.675 | 1.681 | rolling \\| 512 |')
    expect(card()).not.toContain('Not evaluated yet.')
    expect(card()).not.toContain('- first')
    expect(card().match(/- second/g)).toHaveLength(1)
    // A card that someone rewrote gets the section back at its end.
    writeFileSync(join(outFolder, 'README.md'), '# Mine\n')
    await updateModelCard(outFolder, { rows: [row], provenance: ['third'] })
    expect(card()).toMatch(/^# Mine\n\n## Evaluation\n[^]*- third\n/)
  })

  it('records what is needed to repeat it', async () => {
    const report = await run(demo)
    const record = JSON.parse(readFileSync(join(report.outFolder, 'run.json'), 'utf8')) as Record<string, unknown>
    expect(record).toMatchObject({
      run: 'lathe-compression',
      lathe_version: 'test',
      preset: 'quick-4bit',
      seed: 7,
      bytes_out: report.bytesOut,
    })
    const { output } = record as { output: Record<string, { sha256: string }> }
    const written = readRaw(report.outFolder)
    const actual = Object.fromEntries([...written].map(([name, { bytes }]) => [name, createHash('sha256').update(bytes).digest('hex')]))
    expect(Object.fromEntries(Object.entries(output).map(([name, { sha256 }]) => [name, sha256]))).toEqual(actual)
  })

  it('reports progress that ends where it said it would', async () => {
    const events: CompressProgress[] = []
    await run(demo, { onProgress: (progress) => events.push(progress) })
    const last = events.at(-1)!
    expect(last.phases.every((phase) => phase.doneBytes === phase.totalBytes)).toBe(true)
    expect([last.current, last.tensorsDone]).toEqual(['verify', last.tensorsTotal])
    const quantized = events.map((event) => event.phases[1]!.doneBytes)
    expect(quantized).toEqual([...quantized].sort((a, b) => a - b))
  })
})

/** A copy of the demo model with one element of `tensor` overwritten. */
function damaged(tensor: string, element: number, bits: number): string {
  const folder = join(scratch, `damaged-${counter++}`)
  cpSync(demo, folder, { recursive: true })
  const path = join(folder, 'model.safetensors')
  const data = readFileSync(path)
  const start = 8 + Number(data.readBigUInt64LE(0))
  const header = JSON.parse(data.toString('utf8', 8, start)) as Record<string, { data_offsets: [number, number] }>
  data.writeUInt16LE(bits, start + header[tensor]!.data_offsets[0] + element * 2)
  writeFileSync(path, data)
  return folder
}

describe('refusals', () => {
  it.each([
    ['model.layers.3.mlp.up_proj.weight', 0x7fc0, 'NaN', 256 * 5 + 3, 'row 5, column 3'],
    ['model.layers.3.mlp.up_proj.weight', 0xff80, '-Infinity', 256 * 639 + 255, 'row 639, column 255'],
    ['model.embed_tokens.weight', 0x7f80, 'Infinity', 256, 'row 1, column 0'],
  ])('names a non-finite weight: %s', async (tensor, bits, shown, element, place) => {
    const error = await failure(run(damaged(tensor, element, bits), {}, { blockBytes: 50_000 }))
    expect([error.code, error.message]).toEqual(['checkpoint.non-finite', `${tensor} holds ${shown} at element ${element} (${place}).`])
  })

  it('refuses before it starts when the disk is too small', async () => {
    const outFolder = freshOut()
    const error = await failure(run(demo, { outFolder }, { freeBytes: async () => 3_000_000 }))
    expect([error.code, error.data?.['freeBytes'], Number(error.data?.['needBytes']) > 3_184_800]).toEqual(['disk.full', 3_000_000, true])
    expect(readdirSync(dirname(outFolder))).toEqual([])
  })

  it('refuses a folder that exists, and one inside the source', async () => {
    const { outFolder } = await run(demo)
    expect((await failure(run(demo, { outFolder }))).code).toBe('checkpoint.already-exists')
    const source = join(scratch, 'own-output')
    cpSync(demo, source, { recursive: true })
    expect((await failure(run(source, { outFolder: join(source, 'inside') }))).code).toBe('request.invalid')
    expect((await failure(run(source, { outFolder: source }))).code).toBe('request.invalid')
  })

  it.skipIf(process.getuid?.() === 0)('says that an output folder is read-only (not as root, who may write anywhere)', async () => {
    const outFolder = freshOut()
    chmodSync(dirname(outFolder), 0o555)
    expect((await failure(run(demo, { outFolder }))).code).toBe('disk.permission')
  })

  it('says that an output folder cannot be made', async () => {
    const file = join(scratch, 'a-file')
    writeFileSync(file, '')
    expect((await failure(run(demo, { outFolder: join(file, 'result') }))).code).toBe('disk.io')
  })

  it('makes the folders above the output', async () => {
    const outFolder = join(freshOut(), 'not', 'there', 'yet')
    expect((await run(demo, { outFolder })).outFolder).toBe(outFolder)
  })

  it.runIf(process.platform === 'linux')('gives up where the system makes no folders and says that there are none', async () => {
    expect((await failure(run(demo, { outFolder: '/proc/lathe/result' }))).code).toMatch(/^disk\./)
  })

  it('refuses a recipe that nothing fits, and a source that is compressed', async () => {
    const { outFolder } = await run(demo)
    expect((await failure(run(outFolder))).code).toBe('compress.already-compressed')
    expect((await failure(run(demo, { presetId: 'tiny-1bit' }))).code).toBe('compress.invalid-recipe')
  })

  it('does not publish a result that reads back differently', async () => {
    const outFolder = freshOut()
    let tampered = false
    const tamper = (progress: CompressProgress): void => {
      if (tampered || progress.phases[3]!.doneBytes === 0) return
      tampered = true
      const path = join(partialFolderOf(outFolder), 'model', 'model.safetensors')
      const handle = openSync(path, 'r+')
      writeSync(handle, Uint8Array.of(0x55, 0xaa, 0x55), 0, 3, statSync(path).size - 5)
      closeSync(handle)
    }
    const error = await failure(run(demo, { outFolder, onProgress: tamper }))
    expect([error.code, tampered, existsSync(outFolder)]).toEqual(['compress.verification-failed', true, false])
    // What was damaged is done again.
    const resumed = await run(demo, { outFolder, resume: true })
    expect(hashesOf(resumed.outFolder)).toEqual(hashesOf((await run(demo)).outFolder))
  })
})

/** Cancels after `tensors` are journaled and leaves the partial folder. */
async function interrupt(source: string, outFolder: string, tensors: number): Promise<void> {
  const controller = new AbortController()
  const onProgress = (progress: CompressProgress): void => {
    if (progress.tensorsDone >= tensors) controller.abort()
  }
  const tuning = { journalBatchBytes: 0, blockBytes: 50_000 }
  expect((await failure(run(source, { outFolder, onProgress, signal: controller.signal }, tuning))).code).toBe('job.cancelled')
  expect(existsSync(outFolder)).toBe(false)
}

describe('cancel and resume', () => {
  let uninterrupted: Record<string, string>
  beforeAll(async () => {
    uninterrupted = hashesOf((await run(demo)).outFolder)
  })

  it('keeps finished tensors, continues, and gives the bytes of an uninterrupted run', async () => {
    const outFolder = freshOut()
    await interrupt(demo, outFolder, 20)
    const state = await inspectPartial(outFolder)
    expect(state).toMatchObject({ presetId: 'quick-4bit', seed: 7, tensorsTotal: 56 })
    expect(state!.tensorsDone).toBeGreaterThanOrEqual(20)
    expect(state!.tensorsDone).toBeLessThan(56)
    const reads: string[] = []
    const report = await run(demo, {
      outFolder,
      resume: true,
      onProgress: (progress) => {
        if (progress.currentTensor !== null) reads.push(progress.currentTensor)
      },
    })
    expect([report.resumed, report.tensors.length]).toEqual([true, 42])
    expect(hashesOf(outFolder)).toEqual(uninterrupted)
    expect(readdirSync(dirname(outFolder))).toEqual(['result'])
  })

  it('is cancelled before it starts, and starts over unless told to resume', async () => {
    const outFolder = freshOut()
    expect((await failure(run(demo, { outFolder, signal: AbortSignal.abort() }))).code).toBe('job.cancelled')
    await interrupt(demo, outFolder, 10)
    const report = await run(demo, { outFolder, resume: false })
    expect([report.resumed, hashesOf(outFolder)]).toEqual([false, uninterrupted])
  })

  it('discards on request', async () => {
    const outFolder = freshOut()
    await interrupt(demo, outFolder, 5)
    await discardPartial(outFolder)
    expect([await inspectPartial(outFolder), readdirSync(dirname(outFolder))]).toEqual([null, []])
  })

  it('refuses to continue what was begun differently', async () => {
    const source = join(scratch, 'changing')
    cpSync(demo, source, { recursive: true, preserveTimestamps: true })
    const outFolder = freshOut()
    await interrupt(source, outFolder, 5)
    const resumeWith = async (overrides: Overrides): Promise<string> => {
      const error = await failure(run(source, { outFolder, resume: true, ...overrides }))
      return `${error.code}: ${error.message}`
    }
    const prefix = 'compress.journal-mismatch: The unfinished run cannot be continued: '
    expect(await resumeWith({ seed: 8 })).toBe(`${prefix}it was begun with seed 7, not 8.`)
    expect(await resumeWith({ presetId: 'fine-4bit' })).toBe(`${prefix}it was begun with another recipe.`)
    utimesSync(join(source, 'model.safetensors'), new Date(), new Date(0))
    expect(await resumeWith({})).toBe(`${prefix}model.safetensors of the source model has changed since.`)
    writeFileSync(join(source, 'config.json'), readFileSync(join(demo, 'config.json'), 'utf8').replace('1024', '2048'))
    expect(await resumeWith({})).toBe(`${prefix}config.json of the source model has changed since.`)
  })

  it('does again what no longer matches the journal, and drops a torn line', async () => {
    const outFolder = freshOut()
    await interrupt(demo, outFolder, 20)
    const partial = partialFolderOf(outFolder)
    const model = openSync(join(partial, 'model', 'model.safetensors'), 'r+')
    writeSync(model, new Uint8Array(1_500_000), 0, 1_500_000, 100_000)
    closeSync(model)
    const journal = openSync(join(partial, 'journal.jsonl'), 'a')
    writeSync(journal, '{"tensor":"model.layers.9')
    closeSync(journal)
    await run(demo, { outFolder, resume: true })
    expect(hashesOf(outFolder)).toEqual(uninterrupted)
  })

  it('refuses a journal that is not one', async () => {
    const outFolder = freshOut()
    mkdirSync(partialFolderOf(outFolder))
    writeFileSync(join(partialFolderOf(outFolder), 'journal.jsonl'), '{"journal":"something else"}\n')
    expect((await failure(run(demo, { outFolder, resume: true }))).code).toBe('compress.journal-mismatch')
    expect((await failure(inspectPartial(outFolder))).code).toBe('compress.journal-mismatch')
  })
})
