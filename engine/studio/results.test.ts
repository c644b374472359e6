import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { DriftResult, PerplexityResult, Provenance, ResultSet, TaskResult } from '../contract/index.ts'
import { ResultSetSchema } from '../contract/index.ts'
import { hashTensor, inspectModelFolder } from './bindings/checkpoint.ts'
import { evaluationForCard } from './card-evaluation.ts'
import { EventHub } from './events.ts'
import { evaluationPlan, fitPlan } from './jobs/evaluation-plan.ts'
import { Library } from './library.ts'
import { Results } from './results.ts'
import { openDatabase } from './store/database.ts'
import { ModelStore } from './store/model-store.ts'
import { ResultStore } from './store/result-store.ts'
import { useTemporaryFolders } from './test/temporary-folder.ts'
import { writeTinyModel } from './test/tiny-model.ts'

const temporaryFolder = useTemporaryFolders()
const closers: (() => void)[] = []
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

const PROVENANCE: Provenance = {
  adapter: 'Fake GPU',
  adapterType: 'discrete',
  driver: 'fake 1.0',
  latheVersion: '1.2.3',
  platform: 'linux x64',
  measuredAt: '2026-11-23T00:00:00.000Z',
}

function perplexity(value: number): PerplexityResult {
  return {
    value,
    nll: Math.log(value),
    bitsPerByte: 0.5,
    tokens: 100,
    bytes: 400,
    window: 64,
    protocol: 'rolling',
    standardError: 0.01,
    dataset: 'text@abc',
    note: null,
  }
}

function drift(baselineId: string, kldMean: number): DriftResult {
  return {
    baselineId,
    kldMean,
    kldMeanStandardError: 0.001,
    kldMedian: 0.001,
    kldP90: 0.01,
    kldP99: 0.05,
    kldMax: 0.5,
    top1Agreement: 0.98,
    top1AgreementStandardError: 0.01,
    deltaPRms: 0.02,
    tokens: 100,
    dataset: 'text@abc',
    kldP95: 0.02,
    kldP999: 0.1,
    deltaPMean: -0.001,
    deltaPP1: -0.1,
    deltaPP99: 0.1,
    logPerplexityRatio: 0.001,
    logPerplexityRatioStandardError: 0.0005,
    flips: 2,
    hasTokens: false,
  }
}

function task(name: string, value: number): TaskResult {
  return {
    name,
    title: name.toUpperCase(),
    metric: 'acc',
    value,
    standardError: 0.05,
    interval: [value - 0.1, value + 0.1],
    n: 40,
    chance: 0.25,
    paired: null,
    dataset: `${name}@def`,
    task: name,
    filter: 'none',
    higherIsBetter: true,
    fewshot: 0,
    outputType: 'multiple_choice',
    primary: true,
    origin: 'measured',
    hasSamples: false,
    note: null,
  }
}

async function setup() {
  const folder = temporaryFolder()
  const database = openDatabase(join(folder, 'lathe.db'), () => {})
  closers.push(() => database.close())
  const events = new EventHub({ runId: 'run' })
  const library = new Library({
    store: new ModelStore(database),
    events,
    checkpoint: { inspect: inspectModelFolder, hashTensor, tensorStats: async () => Promise.reject(new Error('not here')) },
    sampleFolder: folder,
    log: () => {},
  })
  const store = new ResultStore(database)
  const results = new Results(store, library, events, () => new Date(0))
  const source = await library.import(writeTinyModel(join(folder, 'source')))
  const register = (name: string) =>
    library.registerVariant({ folder: writeTinyModel(join(folder, name)), parentId: source.id, presetId: 'p', name })
  const variants = [await register('first'), await register('second')] as const
  return { results, store, source, variants, database }
}

function where(modelId: string, protocolKey: string) {
  return { modelId, protocolKey, provenance: PROVENANCE, jobId: null }
}

describe('results', () => {
  it('are superseded, never overwritten; the board shows the newest of each kind', async () => {
    const { results, store, source, database } = await setup()
    results.record({ kind: 'perplexity', payload: perplexity(3) }, where(source.id, 'short'))
    results.record({ kind: 'perplexity', payload: perplexity(2) }, where(source.id, 'long'))
    for (const value of [0.5, 0.6]) {
      results.record(
        { kind: 'task', payload: task('a', value), details: { chosen: [], right: [], margins: [] } },
        where(source.id, 'choice:a'),
      )
    }
    results.record({ kind: 'task', payload: task('b', 0.7), details: { chosen: [], right: [], margins: [] } }, where(source.id, 'choice:b'))
    const set = ResultSetSchema.parse(results.board(source.id).results[0])
    expect(set.perplexity?.value).toBe(2)
    expect(set.tasks.map((result) => [result.name, result.value])).toEqual([
      ['a', 0.6],
      ['b', 0.7],
    ])
    expect(set.protocolKeys).toEqual({ perplexity: 'long', 'task:a': 'choice:a', 'task:b': 'choice:b', tasks: 'choice:a choice:b' })
    expect(Object.keys(set.provenance).toSorted()).toEqual(['perplexity', 'task:a', 'task:b', 'tasks'])
    expect(store.count(source.id, 'perplexity')).toBe(2)
    expect(
      database
        .prepare(
          "SELECT json_extract(payload, '$.value') AS value, superseded_by IS NULL AS current FROM results WHERE kind = 'perplexity'",
        )
        .all(),
    ).toEqual([
      { value: 3, current: 0 },
      { value: 2, current: 1 },
    ])
  })

  it('that JSON cannot hold are refused when they are made', async () => {
    const { results, store, source } = await setup()
    expect(() => results.record({ kind: 'perplexity', payload: perplexity(Number.NaN) }, where(source.id, 'long'))).toThrow(
      /expected number/,
    )
    expect(store.current(source.id)).toEqual([])
  })

  it('of a variant show drift against the board’s source only', async () => {
    const { results, source, variants } = await setup()
    results.record({ kind: 'drift', payload: drift(source.id, 0.01) }, where(variants[0].id, 'drift'))
    results.record({ kind: 'drift', payload: drift(variants[1].id, 0.9) }, where(variants[0].id, 'drift'))
    const { models, results: sets } = results.board(variants[0].id)
    expect(models.map((model) => model.id)).toEqual([source.id, variants[0].id, variants[1].id])
    expect(sets.map((set) => set.drift?.kldMean ?? null)).toEqual([null, 0.01, null])
  })
})

describe('the model card', () => {
  const empty: ResultSet = {
    modelId: 'source',
    perplexity: null,
    drift: null,
    tasks: [],
    throughput: null,
    served: null,
    tensorErrors: [],
    provenance: {},
    protocolKeys: {},
  }

  it('has a row per figure, the baseline’s only where both were measured alike', () => {
    const source: ResultSet = { ...empty, perplexity: perplexity(2), tasks: [task('a', 0.9)], protocolKeys: { perplexity: 'long' } }
    const variant: ResultSet = {
      ...empty,
      modelId: 'variant',
      perplexity: perplexity(2.1),
      drift: drift('source', 0.01234),
      tasks: [task('a', 0.85), task('b', 0.5)],
      protocolKeys: { perplexity: 'long' },
      provenance: { perplexity: PROVENANCE, drift: PROVENANCE, 'task:a': PROVENANCE, tasks: { ...PROVENANCE, adapterType: 'software' } },
    }
    expect(evaluationForCard(source, variant)).toEqual({
      rows: [
        { metric: 'Perplexity (rolling, window 64)', baseline: '2.0000', variant: '2.1000', note: '100 tokens of text@abc' },
        { metric: 'KL divergence, mean', baseline: '0', variant: '0.0123 ± 0.0010', note: 'nats per token; 99 %: 0.0500' },
        { metric: 'Same most probable token', baseline: '100 %', variant: '98.0 %', note: '100 tokens' },
        { metric: 'A (acc)', baseline: '90.0 %', variant: '85.0 % ± 5.0 %', note: '40 items, chance 25.0 %' },
        { metric: 'B (acc)', baseline: '–', variant: '50.0 % ± 5.0 %', note: '40 items, chance 25.0 %' },
      ],
      provenance: [
        'perplexity, drift on Fake GPU, driver fake 1.0, Lathe 1.2.3, 2026-11-23',
        'tasks on Fake GPU (computed on the CPU: its speeds say nothing about a GPU), driver fake 1.0, Lathe 1.2.3, 2026-11-23',
      ],
    })
    const other = evaluationForCard({ ...source, protocolKeys: { perplexity: 'short' } }, variant)
    expect(other?.rows[0]?.baseline).toBe('–')
    expect(evaluationForCard(source, empty)).toBeNull()
  })
})

describe('how much is measured', () => {
  it('depends on the adapter and, on a CPU, on the model’s size; never on which variant it is', () => {
    expect(evaluationPlan('discrete', 8e9).perplexity.maxWindows).toBeNull()
    expect(evaluationPlan('software', 5e6)).toMatchObject({ perplexity: { maxWindows: 8, window: 512 }, taskItems: 40 })
    expect(evaluationPlan('software', 6e8)).toEqual(evaluationPlan('reference', 5e6))
  })

  it('is cut to what a short context holds', () => {
    const plan = fitPlan(evaluationPlan('discrete', 1e9), 128)
    expect(plan.perplexity.window).toBe(128)
    expect(plan.throughput.promptTokens + plan.throughput.generatedTokens).toBeLessThanOrEqual(128)
    expect(fitPlan(plan, 4096).perplexity.window).toBe(128)
  })
})
