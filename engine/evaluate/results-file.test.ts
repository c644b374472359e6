import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { TaskResultSchema } from '../contract/index.ts'
import { parseLmEvalResults, parseLmEvalSamples } from './published-results.ts'
import { fileDate, lmEvalResults, sanitizedModelName, writeLmEvalFiles } from './results-file.ts'
import type { ResultsFileFacts } from './results-file.ts'
import { PLAIN_PROMPTS } from './tasks/prompts.ts'
import { loadDocuments, runTask } from './tasks/run-task.ts'
import { scoreTask } from './tasks/score-task.ts'
import { taskOf } from './tasks/task-config.ts'
import { createFakeTarget } from './test/fake-target.ts'

const SEED = 4
const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

/** Published figures of 40 items of one task. */
function fileOf(figures: object): string {
  return JSON.stringify({ results: { arc: figures }, 'n-samples': { arc: { effective: 40 } } })
}

const FACTS: ResultsFileFacts = {
  modelName: 'org/My Model',
  modelPath: '/models/mine',
  parameters: 1000,
  dtype: 'BF16',
  device: 'Fake GPU',
  latheVersion: '1.2.3',
  platform: 'linux x64',
  contextLimit: 64,
  tokens: { pad: null, eos: ['</s>', 2], bos: null },
  limit: null,
  chatTemplate: null,
  systemInstruction: null,
  fewshotAsMultiturn: false,
  startedAt: new Date(Date.UTC(2026, 10, 23, 15, 30, 1, 250)),
  seconds: 12.5,
  studio: { protocol: 'x' },
}

async function scored() {
  const task = taskOf({
    name: 'my faq',
    title: 'FAQ',
    outputType: 'multiple_choice',
    docToText: 'q',
    docToChoice: 'options',
    docToTarget: 'answer',
    version: 1,
    documents: [
      { q: 'é', options: ['a', 'b'], answer: 0 },
      { q: 'two', options: ['a', 'b'], answer: 1 },
    ],
  })
  const target = createFakeTarget({
    likelihood: ({ continuation }) => ({ logprob: continuation === ' a' ? -1 : -2.5, isGreedy: continuation === ' a', tokens: 1 }),
  })
  return scoreTask(await runTask(task, target, await loadDocuments(task, null, 0), { prompts: PLAIN_PROMPTS, limit: null }))
}

const outcomeOf = (work: () => unknown): unknown => {
  try {
    return work()
  } catch (error) {
    return error
  }
}

describe('lm-eval’s files', () => {
  test('the shape of specs/evaluation.md §5', async () => {
    const task = await scored()
    const results = lmEvalResults(FACTS, [task], [])
    expect(results).toMatchObject({
      results: { 'my faq': { name: 'my faq', alias: 'FAQ', sample_len: 2, 'acc,none': 0.5, 'acc_stderr,none': 0.5, 'acc_norm,none': 0.5 } },
      groups: {},
      group_subtasks: { 'my faq': [] },
      configs: { 'my faq': { task: 'my faq', output_type: 'multiple_choice' } },
      versions: { 'my faq': 1 },
      'n-shot': { 'my faq': 0 },
      higher_is_better: { 'my faq': { acc: true, acc_norm: true } },
      'n-samples': { 'my faq': { original: 2, effective: 2 } },
      config: { model: 'lathe', model_args: { path: '/models/mine' }, model_num_parameters: 1000, limit: null },
      tokenizer_eos_token: ['</s>', '2'],
      tokenizer_bos_token: ['None', 'None'],
      model_name_sanitized: 'org__My Model',
      studio: { protocol: 'x' },
    })
    expect(Object.keys(results['task_hashes'] as object)).toEqual(['my faq'])
    expect(fileDate(FACTS.startedAt)).toBe('2026-11-23T15-30-01.250000')
    expect(sanitizedModelName('a/b:c')).toBe('a__b__c')
  })

  test('files are written where viewers look, and are read back as a baseline', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lathe-results-'))
    folders.push(folder)
    const task = await scored()
    const files = await writeLmEvalFiles(folder, lmEvalResults(FACTS, [task], []), [task], FACTS.startedAt)
    expect(readdirSync(join(folder, 'org__My Model')).toSorted()).toEqual([
      'results_2026-11-23T15-30-01.250000.json',
      'samples_my_faq_2026-11-23T15-30-01.250000.jsonl',
    ])
    const published = parseLmEvalResults('file', readFileSync(files[0]!, 'utf8'))
    expect(published).toMatchObject({ modelName: 'org/My Model', limit: null })
    expect(
      published.tasks.map(({ name, metric, value, standardError, n, origin }) => [name, metric, value, standardError, n, origin]),
    ).toEqual([
      ['my faq', 'acc', 0.5, 0.5, 2, 'published'],
      ['my faq:acc_norm', 'acc_norm', 0.5, 0.5, 2, 'published'],
    ])
    const lines = readFileSync(files[1]!, 'utf8').trim().split('\n')
    expect(JSON.parse(lines[0]!)).toEqual({
      doc_id: 0,
      doc: { q: 'é', options: ['a', 'b'], answer: 0 },
      target: '0',
      arguments: { gen_args_0: { arg_0: 'é', arg_1: ' a' }, gen_args_1: { arg_0: 'é', arg_1: ' b' } },
      resps: [[['-1', 'True']], [['-2.5', 'False']]],
      filtered_resps: [
        ['-1', 'True'],
        ['-2.5', 'False'],
      ],
      filter: 'none',
      metrics: ['acc', 'acc_norm'],
      // python3: hashlib.sha256(json.dumps(doc, indent=2, ensure_ascii=False).encode()).hexdigest()
      doc_hash: '12413803540cfb7307c91f9205d18801d123ea5e678c29ca29b309a9ae2e3942',
      prompt_hash: '4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c',
      target_hash: '5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9',
      acc: 1,
      acc_norm: 1,
    })
    expect(parseLmEvalSamples('s', lines.join('\n'))[1]).toMatchObject({
      docId: 1,
      filter: 'none',
      target: 'b',
      metrics: { acc: 0, acc_norm: 0 },
    })
  })

  test('older files: no n-shot, NaN errors, arguments as one string', () => {
    const text = `{"results": {"arc_easy": {"acc": 0.75, "acc_stderr": NaN, "alias": " - arc_easy"}, "wikitext": {"word_perplexity,none": 12.5, "word_perplexity_stderr,none": "N/A"}},
      "versions": {}, "config": {"model_args": "pretrained=org/model,dtype=float16", "limit": null}}`
    const published = parseLmEvalResults('old.json', text)
    expect(published.modelName).toBe('org/model')
    expect(published.tasks).toMatchObject([
      { name: 'arc_easy', title: 'arc_easy', metric: 'acc', value: 0.75, standardError: null, higherIsBetter: true, fewshot: null },
      { name: 'wikitext', metric: 'word_perplexity', value: 12.5, standardError: null, higherIsBetter: false },
    ])
    for (const task of published.tasks) expect(() => TaskResultSchema.parse(task)).not.toThrow()
  })

  test('what cannot be is refused or unknown: percentages for shares, errors below 0 or absent', () => {
    expect(() => parseLmEvalResults('f', fileOf({ 'acc,none': 75 }))).toThrow('says acc = 75 for arc')
    expect(parseLmEvalResults('f', fileOf({ 'f1,none': 75 })).tasks[0]).toMatchObject({ value: 75 })
    const [negative] = parseLmEvalResults('f', fileOf({ 'acc,none': 1, 'acc_stderr,none': -0.5 })).tasks
    // Wilson: 40 of 40.
    expect(negative).toMatchObject({ standardError: null, interval: [expect.closeTo(0.9124, 4), 1] })
    expect(parseLmEvalResults('f', '{"results":{"arc":{"acc,none":0.5,"acc_stderr,none":NaN}}}').tasks[0]).toMatchObject({
      standardError: null,
      interval: [0.5, 0.5],
      n: 0,
    })
  })

  test(`any text is results or a LatheError (seed ${SEED})`, () => {
    const value = fc.oneof(fc.double(), fc.string(), fc.constant(null), fc.dictionary(fc.string(), fc.double()))
    const file = fc
      .record({ results: fc.dictionary(fc.string(), fc.dictionary(fc.string(), value)), config: value, 'n-samples': value, date: value })
      .map((content) => JSON.stringify(content))
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), file), (content) => {
        for (const outcome of [outcomeOf(() => parseLmEvalResults('f', content)), outcomeOf(() => parseLmEvalSamples('f', content))]) {
          expect(outcome instanceof LatheError || (typeof outcome === 'object' && outcome !== null && !(outcome instanceof Error))).toBe(
            true,
          )
        }
      }),
      { seed: SEED, numRuns: 300 },
    )
  })
})
