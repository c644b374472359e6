/**
 * Presets that promise an outcome, from folder to folder: real compressions of a tiny model with recipes that need no text, and divergences that
 * the test sets, so that every branch of the choice is reached. One test measures with the runtime itself.
 */
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createHash } from 'node:crypto'
import { compress } from '../../compress/pipeline.ts'
import type { PresetOutcome } from '../../compress/presets.ts'
import type { Recipe } from '../../compress/recipe.ts'
import type { Scheme } from '../../compress/scheme.ts'
import { writeRandomModel } from '../../compress/testing/random-model.ts'
import type { CompressOptions } from '../../compress/types.ts'
import { boundOfShare } from '../../contract/index.ts'
import { createReferenceBackend } from '../../gpu/reference/backend.ts'
import { readRunRecord } from '../run-record.ts'
import type { OutcomeParts } from './candidate.ts'
import { openBench, splitText } from './held-out-bench.ts'
import { candidateFolder, candidatesFolderOf } from './outcome-state.ts'
import { compressForOutcome } from './run-outcome.ts'
import type { WantedOutcome } from './run-outcome.ts'

let folder: string
let model: string
let text: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lathe-outcomes-'))
  model = join(folder, 'model')
  await writeRandomModel(model, { layers: 1, hidden: 32, intermediate: 64, heads: 2, kvHeads: 1, seed: 3 })
  text = join(folder, 'text.jsonl')
  // The last two lines say the same: a text that is on both sides must not be measured on.
  writeFileSync(text, [...Array.from({ length: 14 }, (_, i) => line(i)), line(3), line(3)].join('\n'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function line(i: number): string {
  return JSON.stringify({ text: `Day ${i}: the boat went up the river with ${i * 7} sacks of grain and came back.` })
}

function idsOf(list: readonly Uint32Array[]): string[] {
  return list.map((sample) => sample.join())
}

function integers(bits: 2 | 4 | 8): Scheme {
  return { kind: 'packed-int', bits, symmetric: true, strategy: 'group', groupSize: 32 }
}

function recipe(bits: 2 | 4 | 8): Recipe {
  const groups = [{ name: 'group_0', targets: ['Linear'], scheme: integers(bits), observer: { kind: 'minmax' } as const }]
  return { steps: [{ kind: 'quantization', groups, ignore: ['lm_head'] }] }
}

const BEST_OF: PresetOutcome = {
  kind: 'best-of',
  candidates: [
    { id: 'first', title: 'First', recipe: recipe(2) },
    { id: 'second', title: 'Second', recipe: recipe(4) },
  ],
}

function optionsFor(name: string, change: Partial<CompressOptions> = {}): CompressOptions {
  return {
    sourceFolder: model,
    outFolder: join(folder, name),
    recipe: { presetId: 'balanced-4bit' },
    calibration: { path: text, samples: 8, sequenceLength: 32, seed: 0 },
    openBackend: () => Promise.resolve(createReferenceBackend()),
    seed: 0,
    resume: true,
    latheVersion: 'test',
    ...change,
  }
}

interface Fake {
  readonly parts: OutcomeParts
  readonly compressed: string[]
  readonly measured: string[]
}

/** `kld` of a folder's candidate id, or of a checkpoint from how many of its tensors were rounded to F32 and how many bytes that is. */
function fakeParts(kld: (subject: string | number) => number): Fake {
  const compressed: string[] = []
  const measured: string[] = []
  const parts: OutcomeParts = {
    compress: async (options) => {
      const report = await compress(options, { threads: 1 })
      compressed.push(options.outFolder.split('/').at(-2) ?? '')
      return report
    },
    openBackend: () => Promise.reject(new Error('the run brings its own device')),
    openBench: async () => ({
      measure: async (candidate, progress) => {
        const subject =
          typeof candidate === 'string'
            ? (candidate.split('/').at(-2) ?? '')
            : [...candidate.tensors.values()].filter(({ dtype }) => dtype === 'F32').length
        measured.push(String(subject))
        progress?.onProgress?.(5, 10)
        return { kldMean: kld(subject), kldStandardError: 0.001, top1Agreement: 0.9, tokens: 100 }
      },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }),
  }
  return { parts, compressed, measured }
}

function digest(name: string): string {
  return createHash('sha256')
    .update(readFileSync(join(folder, name, 'model.safetensors')))
    .digest('hex')
}

describe('best of several', () => {
  it('keeps the one that measures better, and says what both measured', async () => {
    const { parts, compressed } = fakeParts((id) => (id === 'first' ? 0.02 : 0.003))
    const stages: string[] = []
    const log: string[] = []
    const options = optionsFor('best', {
      onLog: (entry) => log.push(entry.text),
      onProgress: ({ stage }) => stages.push(stage === undefined ? '?' : `${stage.id} ${stage.title}`),
    })
    const report = await compressForOutcome(options, BEST_OF, parts)
    expect(compressed).toEqual(['first', 'second'])
    expect(report).toMatchObject({ outFolder: join(folder, 'best'), presetId: 'balanced-4bit', scheme: 'W4A16 g32', resumed: false })
    const candidate = { kldStandardError: 0.001, top1Agreement: 0.9, predictedLoss: null }
    const { outcome } = report
    expect(outcome).toMatchObject({ kind: 'best-of', bound: null, held: null, heldOut: { source: 'text.jsonl', samples: 3 } })
    expect(outcome?.candidates).toEqual([
      { id: 'first', title: 'First', kldMean: 0.02, bytes: expect.any(Number), chosen: false, ...candidate },
      { id: 'second', title: 'Second', kldMean: 0.003, bytes: report.bytesOut, chosen: true, ...candidate },
    ])
    expect((await readRunRecord(join(folder, 'best')))?.outcome).toEqual(outcome)
    expect((await readRunRecord(join(folder, 'best')))?.presetId).toBe('balanced-4bit')
    expect(readFileSync(join(folder, 'best', 'README.md'), 'utf8')).toMatch(
      /# best\n[\s\S]*## How it was chosen[\s\S]*\| Second \(kept\) \|/,
    )
    expect(new Set(stages)).toEqual(
      new Set(['candidate First, 1 of 2', 'measure First, 1 of 2', 'candidate Second, 2 of 2', 'measure Second, 2 of 2']),
    )
    expect(log.at(-1)).toMatch(
      /^Kept Second: a divergence of 0\.00300 ± 0\.001 nats per token on \d+ held-out tokens of text\.jsonl; First 0\.0200\.$/,
    )
    // The bytes are those of the plain recipe.
    await compress(optionsFor('plain', { recipe: { recipe: recipe(4) } }), { threads: 1 })
    expect(digest('best')).toBe(digest('plain'))
    expect(readdirSync(folder).filter((name) => name.startsWith('.'))).toEqual([])
  })

  it('continues after a cancel between the two, and after a kill before anything was recorded', async () => {
    const stop = new AbortController()
    const first = fakeParts((id) => (id === 'first' ? 0.001 : 0.002))
    const cancelled = compressForOutcome(
      optionsFor('again', { signal: stop.signal, onProgress: ({ stage }) => stage?.id === 'measure' && stop.abort() }),
      BEST_OF,
      first.parts,
    )
    await expect(cancelled).rejects.toMatchObject({ code: 'job.cancelled' })
    expect(existsSync(join(folder, 'again'))).toBe(false)
    // As a kill between the last rename and the record leaves it: a folder that nothing speaks of.
    cpSync(candidateFolder(join(folder, 'again'), 'first'), candidateFolder(join(folder, 'again'), 'second'), { recursive: true })
    const second = fakeParts((id) => (id === 'first' ? 0.001 : 0.002))
    const report = await compressForOutcome(optionsFor('again'), BEST_OF, second.parts)
    expect(second.compressed).toEqual(['second'])
    expect(report).toMatchObject({ resumed: true, scheme: 'W2A16 g32', outcome: { candidates: [{ chosen: true }, { chosen: false }] } })
    await expect(compressForOutcome(optionsFor('again'), BEST_OF, second.parts)).rejects.toMatchObject({
      code: 'checkpoint.already-exists',
    })
  })

  it('refuses to continue what was begun otherwise, and starts over when asked to', async () => {
    const broken = fakeParts(() => 0.1)
    const failing: OutcomeParts = { ...broken.parts, openBench: () => Promise.reject(new Error('no power')) }
    await expect(compressForOutcome(optionsFor('other'), BEST_OF, failing)).rejects.toThrow('no power')
    await expect(compressForOutcome(optionsFor('other', { seed: 1 }), BEST_OF, broken.parts)).rejects.toMatchObject({
      code: 'compress.journal-mismatch',
    })
    utimesSync(join(model, 'model.safetensors'), new Date(), new Date(Date.now() + 5000))
    await expect(compressForOutcome(optionsFor('other'), BEST_OF, broken.parts)).rejects.toMatchObject({
      code: 'compress.journal-mismatch',
    })
    writeFileSync(join(candidatesFolderOf(join(folder, 'other')), 'state.json'), '{"version":1')
    await expect(compressForOutcome(optionsFor('other'), BEST_OF, broken.parts)).rejects.toThrow('record of candidates is damaged')
    expect((await compressForOutcome(optionsFor('other', { resume: false }), BEST_OF, broken.parts)).resumed).toBe(false)
  })

  it('keeps nothing where no candidate gives numbers', async () => {
    const { parts } = fakeParts(() => Number.NaN)
    await expect(compressForOutcome(optionsFor('broken'), BEST_OF, parts)).rejects.toMatchObject({ code: 'compress.verification-failed' })
    expect(existsSync(join(folder, 'broken'))).toBe(false)
  })

  it('measures with the runtime on text that calibration has not seen', async () => {
    const { calibration } = optionsFor('x')
    const split = await splitText(model, { ...calibration!, holdOut: 64 }, undefined)
    expect(idsOf(split.heldOut).filter((sample) => idsOf(split.choosing).includes(sample))).toEqual([])
    const parts: OutcomeParts = {
      compress: (options) => compress(options, { threads: 1 }),
      openBackend: () => Promise.reject(new Error('own')),
      openBench,
    }
    const { outcome, scheme } = await compressForOutcome(optionsFor('measured'), BEST_OF, parts)
    const [two, four] = outcome?.candidates ?? []
    expect(scheme).toBe('W4A16 g32')
    expect(four!.kldMean).toBeGreaterThan(0)
    expect(two!.kldMean).toBeGreaterThan(3 * four!.kldMean)
    expect(outcome?.heldOut.tokens).toBe(split.facts.tokens)
  })
})

describe('the smallest that holds', () => {
  const HOLDS: WantedOutcome = { kind: 'holds', share: 0.99, schemes: [integers(8), integers(4), integers(2)] }
  const smallest = { recipe: { presetId: 'smallest-99' } } as const

  it('measures layers, then whole maps, then the folder, and keeps the smallest within the bound', async () => {
    // Calibration of the stored maps runs on the reference backend: GPTQ on one layer of 32 columns.
    const { parts, measured } = fakeParts((subject) => (typeof subject === 'number' ? subject * 0.001 : 0.0099))
    const report = await compressForOutcome(optionsFor('smallest', smallest), HOLDS, parts)
    expect(report.outcome).toMatchObject({ kind: 'holds', held: true, candidates: [{ id: 'map-1', kldMean: 0.0099, chosen: true }] })
    expect(report.outcome?.bound).toBeCloseTo(boundOfShare(0.99), 12)
    // Four groups of linears in three widths each, then maps.
    expect(measured.filter((subject) => subject === 'map-1')).toHaveLength(1)
    expect(measured.length).toBeGreaterThan(12)
    expect(measured.length).toBeLessThanOrEqual(12 + 7 + 1)
  })

  it('moves the map when the folder breaks the bound, and says so when nothing holds', async () => {
    const moved = fakeParts((subject) => (typeof subject === 'number' ? subject * 0.001 : subject === 'map-1' ? 0.02 : 0.009))
    const better = await compressForOutcome(optionsFor('moved', smallest), HOLDS, moved.parts)
    expect(better.outcome).toMatchObject({
      held: true,
      candidates: [
        { id: 'map-1', chosen: false },
        { id: 'map-2', chosen: true },
      ],
    })
    expect(better.outcome!.candidates[1]!.bytes).toBeGreaterThan(better.outcome!.candidates[0]!.bytes)
    const never = fakeParts((subject) => (typeof subject === 'number' ? subject * 0.001 : 0.02))
    const worse = await compressForOutcome(optionsFor('never', smallest), HOLDS, never.parts)
    expect(worse.outcome?.held).toBe(false)
    expect(worse.warnings.at(-1)).toMatch(
      /only holds 98\.02 % of the original's next-token probability .* less than the 99\.00 % that were promised\.$/,
    )
  })

  it('checks the promise of a recipe of one’s own', async () => {
    const { parts } = fakeParts(() => 0.004)
    const wanted: WantedOutcome = { kind: 'check', recipe: recipe(4), bound: 0.005 }
    const report = await compressForOutcome(optionsFor('check', { recipe: { recipe: recipe(4) } }), wanted, parts)
    expect(report).toMatchObject({
      presetId: null,
      outcome: { kind: 'holds', held: true, bound: 0.005, candidates: [{ title: 'Your recipe' }] },
    })
  })
})
