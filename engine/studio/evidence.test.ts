import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { SampleRow, TaskResult } from '../contract/index.ts'
import { hashTensor, inspectModelFolder } from './bindings/checkpoint.ts'
import { EventHub } from './events.ts'
import { Evidence } from './evidence.ts'
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

const PROVENANCE = {
  adapter: 'Fake',
  adapterType: 'discrete',
  driver: '1',
  latheVersion: '1',
  platform: 'x',
  measuredAt: '2026-11-23T00:00:00.000Z',
} as const

/** Answers as a word of letters: "r" right, "w" wrong, "x" wrong in another way. */
function rows(answers: string): SampleRow[] {
  return Array.from(answers, (answer, docId) => ({
    docId,
    docHash: `hash${docId}`,
    prompt: `question ${docId}`,
    target: 'r',
    choices: ['r', 'w', 'x'],
    output: answer,
    answer,
    baselineOutput: null,
    baselineAnswer: null,
    correct: answer === 'r',
    baselineCorrect: null,
    metrics: { acc: Number(answer === 'r'), acc_norm: 1 },
    baselineMetrics: null,
    logprobs: [-1, -2, null],
    baselineLogprobs: null,
    samePrompt: true,
  }))
}

function task(answers: string, more: Partial<TaskResult> = {}): TaskResult {
  const value = [...answers].filter((answer) => answer === 'r').length / answers.length
  return {
    name: 'quiz',
    title: 'Quiz',
    metric: 'acc',
    value,
    standardError: 0.1,
    interval: [0, 1],
    n: answers.length,
    chance: 0.25,
    paired: null,
    dataset: `quiz@${answers.length}`,
    task: 'quiz',
    filter: 'none',
    higherIsBetter: true,
    fewshot: 0,
    outputType: 'multiple_choice',
    primary: true,
    origin: 'measured',
    hasSamples: true,
    note: null,
    ...more,
  }
}

const where = (modelId: string) => ({ modelId, protocolKey: 'k', provenance: PROVENANCE, jobId: null })

async function setup() {
  const folder = temporaryFolder()
  const database = openDatabase(join(folder, 'lathe.db'), () => {})
  closers.push(() => database.close())
  const events = new EventHub({ runId: 'run' })
  const checkpoint = { inspect: inspectModelFolder, hashTensor, tensorStats: async () => Promise.reject(new Error('not here')) }
  const library = new Library({ store: new ModelStore(database), events, checkpoint, sampleFolder: folder, log: () => {} })
  const results = new Results(new ResultStore(database), library, events)
  const evidence = new Evidence({ library, results, tokenizer: async () => ({ decode: (ids) => `<${[...ids].join(',')}>` }) })
  const source = (await library.import(writeTinyModel(join(folder, 'source')))).id
  const variant = (
    await library.registerVariant({ folder: writeTinyModel(join(folder, 'variant')), parentId: source, presetId: 'p', name: 'v' })
  ).id
  const answered = (modelId: string, answers: string, more: Partial<TaskResult> = {}) =>
    results.record(
      { kind: 'task', payload: task(answers, more), details: { chosen: [], right: [], margins: [] }, samples: rows(answers) },
      where(modelId),
    )
  return { library, results, evidence, source, variant, where, answered }
}

describe('samples', () => {
  it('stand beside the baseline’s, filtered and paged', async () => {
    const { evidence, source, variant, answered } = await setup()
    answered(source, 'rrwwr')
    answered(variant, 'rwrxr')
    const page = (show: 'all' | 'changed' | 'lost' | 'gained', offset = 0, limit = 50) =>
      evidence.samples({ modelId: variant, task: 'quiz', baselineId: source, show, offset, limit })
    expect(page('all')).toMatchObject({ total: 5, items: 5 })
    expect(page('changed').rows.map((row) => row.docId)).toEqual([1, 2, 3])
    expect(page('changed', 1, 1)).toMatchObject({ total: 3, rows: [{ docId: 2 }] })
    expect(page('lost').rows).toMatchObject([
      {
        docId: 1,
        output: 'w',
        baselineOutput: 'r',
        correct: false,
        baselineCorrect: true,
        baselineLogprobs: [-1, -2, null],
        samePrompt: true,
      },
    ])
    expect(page('gained').rows.map((row) => row.docId)).toEqual([2])
    expect(() => evidence.samples({ modelId: variant, task: 'other', baselineId: null, show: 'all', offset: 0, limit: 5 })).toThrow(
      /has not answered "other"/,
    )
  })
})

describe('comparisons', () => {
  it('are made of any two models on the same items, metric by metric', async () => {
    const { evidence, source, variant, answered, results } = await setup()
    answered(source, 'rrwwr')
    answered(variant, 'rwrxr')
    results.record(
      {
        kind: 'task',
        payload: task('rwrxr', { name: 'quiz:acc_norm', metric: 'acc_norm', primary: false, value: 1 }),
        details: { chosen: [], right: [], margins: [] },
      },
      where(variant),
    )
    results.record(
      {
        kind: 'task',
        payload: task('rrwwr', { name: 'quiz:acc_norm', metric: 'acc_norm', primary: false, value: 1 }),
        details: { chosen: [], right: [], margins: [] },
      },
      where(source),
    )
    const [acc, norm] = evidence.compare({ baselineId: source, modelId: variant, margin: 0.05 })
    expect(acc).toMatchObject({
      task: 'quiz',
      baselineValue: 0.6,
      value: 0.6,
      paired: { lost: 1, gained: 1, changed: 3, verdict: 'inconclusive', margin: 0.05 },
      reason: null,
    })
    expect(norm).toMatchObject({ metric: 'acc_norm', paired: { lost: 0, gained: 0 } })
    const [back] = evidence.compare({ baselineId: variant, modelId: source, margin: 0.05 })
    expect(back?.paired).toMatchObject({ baselineId: variant, lost: 1, gained: 1 })
  })

  it('of a group are made of the items of its tasks, each as it weighs', async () => {
    const { evidence, source, variant, answered, results } = await setup()
    const members = [
      { task: 'quiz', weight: 0.5 },
      { task: 'exam', weight: 0.5 },
    ]
    const group = { name: 'both', task: 'both', title: 'Both', outputType: 'group', dataset: 'both@1', hasSamples: false, members } as const
    const exam = { name: 'exam', task: 'exam', title: 'Exam', dataset: 'exam@2' } as const
    for (const [model, quiz, other] of [
      [source, 'rrwwr', 'rr'],
      [variant, 'rwwwr', 'rw'],
    ] as const) {
      answered(model, quiz)
      answered(model, other, exam)
      const payload = { ...task(quiz + other, group), value: model === source ? 0.8 : 0.45 }
      results.record({ kind: 'task', payload, details: { chosen: [], right: [], margins: [] } }, where(model))
    }
    const compared = evidence.compare({ baselineId: source, modelId: variant, margin: 0.05 })
    // −1/5 and −1/2, each half of it; 0.45 of 0.8.
    expect(compared.find((one) => one.task === 'both')).toMatchObject({
      reason: null,
      paired: {
        difference: expect.closeTo(-0.35, 12),
        lost: 2,
        gained: 0,
        changed: 2,
        verdict: 'inconclusive',
        recovery: expect.closeTo(0.5625, 12),
      },
    })
    answered(variant, 'rwr', { ...exam, dataset: 'exam@3' })
    const [lacking] = evidence.compare({ baselineId: source, modelId: variant, margin: 0.05 }).filter((one) => one.task === 'both')
    expect(lacking).toMatchObject({ paired: null, reason: expect.stringContaining('different items') })
  })

  it('say why they can’t be made', async () => {
    const { evidence, source, variant, answered } = await setup()
    answered(variant, 'rrr')
    expect(evidence.compare({ baselineId: source, modelId: variant, margin: 0.01 })).toMatchObject([
      { paired: null, reason: expect.stringContaining('not answered') },
    ])
    const perplexity = { name: 'text', task: 'text', metric: 'word_perplexity', outputType: 'loglikelihood_rolling' } as const
    for (const model of [source, variant]) answered(model, 'rr', { ...perplexity, dataset: 'text@1' })
    expect(evidence.compare({ baselineId: source, modelId: variant, margin: 0.01 }).at(-1)).toMatchObject({
      paired: null,
      reason: expect.stringContaining('no margin'),
    })
    answered(source, 'rr')
    expect(evidence.compare({ baselineId: source, modelId: variant, margin: 0.01 })).toMatchObject([
      { paired: null, reason: expect.stringContaining('different items') },
      { task: 'text', paired: null },
    ])
  })

  it('with a published result whose items are known are paired by content, of those that both have', async () => {
    const { evidence, results, library, source, variant, answered } = await setup()
    answered(variant, 'rrwwr')
    const published = library.addExternal({ origin: 'published', path: '/r.json', name: 'paper', parentId: source, endpoint: null })
    // The first four, counted from 100 and turned round, and one more; the first metric there is another.
    const theirs = [...rows('rrrw').toReversed(), ...rows('r').map((row) => ({ ...row, docHash: 'stranger' }))]
    const samples = theirs.map((row, i) => ({ ...row, docId: 100 + i }))
    const payload = task('rrrwr', { origin: 'published', name: 'quiz:acc', primary: false, dataset: 'quiz@other' })
    results.record({ kind: 'task', payload, details: { chosen: [], right: [], margins: [] }, samples }, where(published.id))
    const [acc] = evidence.compare({ baselineId: published.id, modelId: variant, margin: 0.01 })
    expect(acc).toMatchObject({ metric: 'acc', n: 4, paired: { pairing: 'paired', lost: 1, gained: 0, changed: 1 } })
    expect(acc?.paired?.warnings).toContainEqual('Compared on the 4 items that both have, of 5 here and 5 there.')
    const page = evidence.samples({ modelId: variant, task: 'quiz', baselineId: published.id, show: 'lost', offset: 0, limit: 5 })
    expect(page.rows).toMatchObject([{ docId: 2, answer: 'w', baselineAnswer: 'r' }])
  })

  it('with a published result are unpaired and say so', async () => {
    const { evidence, library, results, source, variant, answered } = await setup()
    answered(variant, 'rrrw')
    const published = library.addExternal({ origin: 'published', path: '/r.json', name: 'paper', parentId: source, endpoint: null })
    results.record(
      { kind: 'task', payload: task('rrrr', { origin: 'published', hasSamples: false }), details: { chosen: [], right: [], margins: [] } },
      where(published.id),
    )
    const [acc] = evidence.compare({ baselineId: published.id, modelId: variant, margin: 0.01 })
    expect(acc?.paired).toMatchObject({
      pairing: 'unpaired',
      difference: -0.25,
      mcnemarP: null,
      warnings: [expect.stringContaining('published')],
    })
    expect((await library.list()).map((model) => model.origin)).toEqual(['folder', 'folder'])
    expect(results.board(source).models.map((model) => [model.name, model.origin])).toContainEqual(['paper', 'published'])
    await expect(library.runnable(published.id)).rejects.toThrow(/published result, not a model/)
  })
})

describe('tokens', () => {
  it('are read back in the order of the text or of divergence', async () => {
    const { evidence, results, source, variant } = await setup()
    const drift = {
      baselineId: source,
      kldMean: 0.1,
      kldMeanStandardError: 0.1,
      kldMedian: 0,
      kldP90: 0,
      kldP99: 0,
      kldMax: 0,
      top1Agreement: 1,
      top1AgreementStandardError: 0,
      deltaPRms: 0,
      tokens: 3,
      dataset: 't@1',
      kldP95: null,
      kldP999: null,
      deltaPMean: null,
      deltaPP1: null,
      deltaPP99: null,
      logPerplexityRatio: null,
      logPerplexityRatioStandardError: null,
      flips: 1,
      hasTokens: true,
    }
    const tokens = {
      ids: Uint32Array.of(7, 8, 9),
      kld: Float32Array.of(0.125, 0.5, 0.25),
      baselineLogprobs: Float32Array.of(-1, -2, -Infinity),
      candidateLogprobs: Float32Array.of(-1.5, -2.5, -3),
      baselineTop: Uint32Array.of(1, 2, 3),
      candidateTop: Uint32Array.of(1, 2, 4),
    }
    results.record({ kind: 'drift', payload: drift, tokens }, where(variant))
    const worst = await evidence.tokens({ modelId: variant, offset: 0, limit: 2, sort: 'kld' })
    expect(worst).toMatchObject({ baselineId: source, dataset: 't@1', total: 3 })
    expect(worst.rows).toEqual([
      { position: 1, id: 8, text: '<8>', logprob: -2.5, baselineLogprob: -2, kld: 0.5, agrees: true, top: '<2>', baselineTop: '<2>' },
      { position: 2, id: 9, text: '<9>', logprob: -3, baselineLogprob: null, kld: 0.25, agrees: false, top: '<4>', baselineTop: '<3>' },
    ])
    expect((await evidence.tokens({ modelId: variant, offset: 1, limit: 9, sort: 'position' })).rows.map((row) => row.position)).toEqual([
      1, 2,
    ])
    await expect(evidence.tokens({ modelId: source, offset: 0, limit: 1, sort: 'position' })).rejects.toThrow(/not kept/)
  })
})

describe('the board', () => {
  it('judges against the margin asked for', async () => {
    const { results, evidence, source, variant, answered } = await setup()
    answered(source, 'r'.repeat(100))
    answered(variant, 'r'.repeat(100))
    const [compared] = evidence.compare({ baselineId: source, modelId: variant, margin: 0.01 })
    results.record(
      { kind: 'task', payload: task('r'.repeat(100), { paired: compared!.paired }), details: { chosen: [], right: [], margins: [] } },
      where(variant),
    )
    const verdict = (margin: number) => results.board(source, margin).results[1]?.tasks[0]?.paired?.verdict
    expect([verdict(0.01), verdict(0.05)]).toEqual(['inconclusive', 'non-inferior'])
    expect(results.board(source).results[1]?.tasks[0]?.paired).toMatchObject({ margin: 0.01, holmP: 1 })
  })

  it('corrects over tasks; a group asks nothing new, and neither does another metric', async () => {
    const { results, evidence, source, variant, answered } = await setup()
    answered(source, 'r'.repeat(10))
    answered(variant, 'r'.repeat(10))
    const [compared] = evidence.compare({ baselineId: source, modelId: variant, margin: 0.01 })
    const record = (name: string, mcnemarP: number, more: Partial<TaskResult> = {}) =>
      results.record(
        {
          kind: 'task',
          payload: task('r'.repeat(10), { name, task: name, paired: { ...compared!.paired!, mcnemarP }, ...more }),
          details: { chosen: [], right: [], margins: [] },
        },
        where(variant),
      )
    record('quiz', 0.01)
    record('exam', 0.04)
    record('exam:acc_norm', 0.001, { primary: false })
    record('both', 0.002, { outputType: 'group' })
    const board = results.board(source).results[1]?.tasks.map(({ name, paired }) => [name, paired?.holmP])
    expect(Object.fromEntries(board ?? [])).toEqual({ quiz: 0.02, exam: 0.04, 'exam:acc_norm': null, both: null })
  })
})
