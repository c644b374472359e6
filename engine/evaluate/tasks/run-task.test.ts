import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { Runtime } from '../../runtime/types.ts'
import { createFakeTarget } from '../test/fake-target.ts'
import { createTableRuntime, LETTERS } from '../test/table-runtime.ts'
import { openEvaluationCache } from './cache.ts'
import { createLocalTarget } from './local-target.ts'
import { PLAIN_PROMPTS } from './prompts.ts'
import { loadDocuments, runTask } from './run-task.ts'
import type { RunOptions } from './run-task.ts'
import { groupResults } from './group-results.ts'
import { sampleRows, scoreTask, taskProtocolKey, taskResults } from './score-task.ts'
import { taskOf } from './task-config.ts'
import type { TaskConfig } from './task-config.ts'
import { cutAtStops } from './target.ts'
import type { EvaluationTarget, GenerateRequest } from './target.ts'

const OPTIONS: RunOptions = { prompts: PLAIN_PROMPTS, limit: null }

async function run(task: TaskConfig, target: EvaluationTarget, options: Partial<RunOptions> = {}) {
  const all = { ...OPTIONS, ...options }
  return runTask(task, target, await loadDocuments(task, all.limit, all.prompts.fewshot ?? task.fewshot ?? 0), all)
}

function figures(scored: ReturnType<typeof scoreTask>) {
  return Object.fromEntries(scored.figures.map(({ metric, filter, value }) => [`${metric},${filter}`, value]))
}

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

const CHOICE = taskOf({
  name: 'choice',
  title: 'Choice',
  outputType: 'multiple_choice',
  docToText: 'Q: {{q}}\nA:',
  docToChoice: 'options',
  docToTarget: 'answer',
  documents: [
    { q: 'one', options: ['yes', 'a very long answer', 'né'], answer: 1 },
    { q: 'two', options: ['yes', 'no', 'né'], answer: 'no' },
  ],
})

// Log-likelihoods by choice: raw picks "yes", per code point the long one, per byte…
const byText = (text: string): number => ({ ' yes': -3, ' a very long answer': -6, ' né': -2.5, ' no': -4 })[text] ?? -9

describe('multiple choice', () => {
  test('all normalisations, as lm-eval defines them', async () => {
    const metrics = ['acc', 'acc_norm', 'acc_bytes', 'acc_mutual_info', 'exact_match', 'brier_score', 'likelihood'].map((metric) => ({
      metric,
      aggregation: 'mean',
      higherIsBetter: null,
      options: {},
    }))
    const target = createFakeTarget({
      likelihood: ({ context, continuation }) => {
        if (context === '') return { logprob: continuation === ' no' ? -20 : -5, isGreedy: false, tokens: 1 }
        return { logprob: byText(continuation), isGreedy: continuation === ' no', tokens: 2 }
      },
    })
    const scored = scoreTask(await run({ ...CHOICE, metrics }, target))
    // acc: "né" wins both (−2.5). acc_norm: −3/3, −6/18, −2.5/2 → the long one; −3/3, −4/2, −2.5/2 → "yes".
    // acc_bytes: "né" has three bytes: −1, −1/3, −.83 → long; −1, −2, −.83 → "né". Mutual information: −3+5, −6+5, 2.5; 2, 16, 2.5.
    expect(figures(scored)).toMatchObject({
      'acc,none': 0,
      'acc_norm,none': 0.5,
      'acc_bytes,none': 0.5,
      'acc_mutual_info,none': 0.5,
      'exact_match,none': 0.5,
    })
    const p = [Math.exp(-3), Math.exp(-4), Math.exp(-2.5)]
    const total = p.reduce((a, b) => a + b, 0)
    expect(scored.samples[1]?.metrics['likelihood']).toBeCloseTo(p[1]! / total, 12)
    expect(scored.samples[1]?.metrics['brier_score']).toBeCloseTo(
      (p[0]! / total) ** 2 + (p[1]! / total - 1) ** 2 + (p[2]! / total) ** 2,
      12,
    )
    expect(target.asked).toHaveLength(12)
    expect(scored.chance).toBeCloseTo(1 / 3, 12)
  })

  test('ties go to the first choice, and a right answer that is not among the choices is an error', async () => {
    const scored = scoreTask(await run(CHOICE, createFakeTarget({ likelihood: () => -1 })))
    expect(scored.samples.map(({ answer }) => answer)).toEqual(['yes', 'yes'])
    const wrong = { ...CHOICE, documents: [{ q: 'x', options: ['a', 'b'], answer: 'c' }] }
    let asked = 0
    const counting = createFakeTarget({ likelihood: () => -(asked += 1) })
    const late = { ...CHOICE, documents: [...(CHOICE.documents ?? []), ...wrong.documents] }
    await expect(run(late, counting)).rejects.toMatchObject({
      code: 'evaluate.invalid-data',
      message: 'choice, document 2: the right answer ("c") is not one of its 2 choices.',
    })
    const fieldless = { ...CHOICE, documents: [{ options: ['a', 'b'], answer: 'a' }] }
    await expect(run(fieldless, counting)).rejects.toMatchObject({ message: expect.stringMatching(/^choice, document 0: .*"q"/) })
    expect(asked).toBe(0)
  })

  test('contexts that vary share one continuation (WinoGrande’s layout)', async () => {
    const task = taskOf({
      name: 'w',
      title: 'w',
      outputType: 'multiple_choice',
      docToText: '{{answer}}',
      docToChoice: "{{[s.replace('_', a), s.replace('_', b)]}}",
      docToTarget: 'rest',
      documents: [{ s: 'The _ fell', a: 'cup', b: 'sky', rest: 'down.', answer: 0 }],
    })
    const target = createFakeTarget({ likelihood: ({ context }) => (context.includes('cup') ? -1 : -2) })
    const scored = scoreTask(await run(task, target))
    expect(target.asked).toEqual([
      { kind: 'likelihood', context: 'The cup fell', continuation: ' down.' },
      { kind: 'likelihood', context: 'The sky fell', continuation: ' down.' },
    ])
    expect(figures(scored)['acc,none']).toBe(1)
  })
})

describe('prompts', () => {
  const examples = Array.from({ length: 20 }, (_, i) => ({ q: `e${i}`, options: ['x', 'y'], answer: i % 2 }))
  const shots = (sampler: 'default' | 'first_n') =>
    ({
      ...CHOICE,
      description: 'Answer.\n\n',
      fewshot: 2,
      fewshotConfig: { ...CHOICE.fewshotConfig, sampler, samples: examples },
    }) satisfies TaskConfig

  test('examples by first_n, and by Python’s seeded draw in the order of the documents', async () => {
    const first = await run(shots('first_n'), createFakeTarget({}))
    expect(first.items[0]?.contexts[0]).toBe('Answer.\n\nQ: e0\nA: x\n\nQ: e1\nA: y\n\nQ: one\nA:')
    // random.Random(1234): sample(range(20), 2) twice gives [14, 3] and [0, 2]
    const drawn = await run(shots('default'), createFakeTarget({}))
    expect(drawn.items.map((item) => [...item.contexts[0]!.matchAll(/e(\d+)/g)].map((match) => Number(match[1])))).toEqual([
      [14, 3],
      [0, 2],
    ])
  })

  test('the document itself is never its own example', async () => {
    const documents = examples.slice(0, 3)
    const task = { ...CHOICE, documents, fewshot: 2 }
    const { items } = await run(task, createFakeTarget({}))
    for (const item of items) expect(item.contexts[0]!.match(new RegExp(`Q: ${String(item.doc['q'])}\\n`, 'g'))).toHaveLength(1)
    await expect(run({ ...task, fewshot: 3 }, createFakeTarget({}))).rejects.toThrow(/asks for 3 examples/)
  })

  test('chat templates: turns, one turn, an open answer, and no delimiter before choices', async () => {
    const chat = { ...PLAIN_PROMPTS, chatTemplate: true, systemInstruction: 'Be brief.' }
    const turns = await run(shots('first_n'), createFakeTarget({}), { prompts: chat })
    expect(turns.items[0]?.contexts[0]).toBe(
      '<system>Be brief.\n\nAnswer.\n\n</><user>Q: e0\nA:</><assistant>x</><user>Q: e1\nA:</><assistant>y</><user>Q: one\nA:</><assistant>',
    )
    expect(turns.items[0]?.continuations[0]).toBe('yes')
    const single = await run(shots('first_n'), createFakeTarget({}), { prompts: { ...chat, fewshotAsMultiturn: false } })
    expect(single.items[0]?.contexts[0]).toBe(
      '<system>Be brief.\n\nAnswer.\n\n</><user>Q: e0\nA: x\n\nQ: e1\nA: y\n\nQ: one\nA:</><assistant>',
    )
    const open = await run({ ...CHOICE, genPrefix: 'The answer is' }, createFakeTarget({}), {
      prompts: { ...PLAIN_PROMPTS, chatTemplate: true },
    })
    expect(open.items[0]).toMatchObject({
      contexts: ['<user>Q: one\nA:</><assistant>The answer is'],
      continuations: [' yes', ' a very long answer', ' né'],
    })
    const none = createFakeTarget({}, { chat: false })
    await expect(run(CHOICE, none, { prompts: chat })).rejects.toMatchObject({ code: 'remote.unsupported' })
  })
})

const text = (words: number, bytes: number) =>
  [...Array.from({ length: words - 1 }, () => 'a'), 'b'.repeat(bytes - 2 * (words - 1))].join(' ')

describe('loglikelihood', () => {
  test('LAMBADA style: greedy is right, and the perplexity is per item (specs/evaluation.md §2.3)', async () => {
    const task = taskOf({
      name: 'l',
      title: 'l',
      outputType: 'loglikelihood',
      docToText: "{{text.rsplit(' ', 1)[0]}}",
      docToTarget: "{{text.rsplit(' ', 1)[1]}}",
      documents: [{ text: 'a b c' }, { text: 'd e' }],
    })
    const target = createFakeTarget({
      likelihood: ({ continuation }) => ({ logprob: continuation === ' c' ? -1 : -3, isGreedy: continuation === ' c', tokens: 1 }),
    })
    const scored = scoreTask(await run(task, target))
    expect(target.asked.map((request) => 'context' in request && [request.context, request.continuation])).toEqual([
      ['a b', ' c'],
      ['d', ' e'],
    ])
    expect(figures(scored)['acc,none']).toBe(0.5)
    expect(figures(scored)['perplexity,none']).toBeCloseTo(Math.exp(2), 12)
  })

  test('rolling: the toy of specs/evaluation.md §1.1', async () => {
    // 50 words in 250 bytes, 30 words in 160 bytes
    const documents = [{ text: text(50, 250) }, { text: text(30, 160) }]
    const task = taskOf({ name: 'r', title: 'r', outputType: 'loglikelihood_rolling', docToText: '', docToTarget: 'text', documents })
    const scored = scoreTask(await run(task, createFakeTarget({ rolling: (document) => (document.length === 250 ? -120.5 : -80.25) })))
    expect(figures(scored)['word_perplexity,none']).toBeCloseTo(12.2972, 4)
    expect(figures(scored)['byte_perplexity,none']).toBeCloseTo(1.63172, 5)
    expect(figures(scored)['bits_per_byte,none']).toBeCloseTo(0.706393, 6)
    const [result] = taskResults(scored, { id: 'base', scored }, 0.01)
    expect(result?.paired).toMatchObject({ difference: 0, recovery: null, verdict: null })
  })
})

describe('generation', () => {
  const GSM = taskOf({
    name: 'gsm',
    title: 'gsm',
    outputType: 'generate_until',
    docToText: 'Question: {{question}}\nAnswer:',
    docToTarget: '{{answer}}',
    generation: { until: ['Question:', '</s>', '<|im_end|>'], maxTokens: 32, temperature: 0, topP: 1 },
    filters: [
      {
        name: 'strict-match',
        steps: [
          { function: 'regex', options: { regex_pattern: '#### (\\-?[0-9\\.\\,]+)' } },
          { function: 'take_first', options: {} },
        ],
      },
      {
        name: 'flexible-extract',
        steps: [
          { function: 'regex', options: { group_select: -1, regex_pattern: '(-?[$0-9.,]{2,})|(-?[0-9]+)' } },
          { function: 'take_first', options: {} },
        ],
      },
    ],
    metrics: [
      {
        metric: 'exact_match',
        aggregation: 'mean',
        higherIsBetter: true,
        options: { ignore_case: true, ignore_punctuation: false, regexes_to_ignore: [',', '\\$', '(?s).*#### ', '\\.$'] },
      },
    ],
    documents: [
      { question: 'a', answer: 'long way\n#### 1,018' },
      { question: 'b', answer: '#### 5' },
      { question: 'c', answer: '#### 7' },
    ],
  })

  test('gsm8k’s two pipelines as a conformance test (specs/evaluation.md §2.2)', async () => {
    const replies: Readonly<Record<string, string>> = { a: 'so it is $1,018.', b: 'thus\n#### 5', c: 'no idea' }
    const target = createFakeTarget({ text: (prompt) => replies[/Question: (\w)/.exec(prompt)![1]!]! })
    const scored = scoreTask(await run(GSM, target))
    expect(figures(scored)).toEqual({ 'exact_match,strict-match': 1 / 3, 'exact_match,flexible-extract': 2 / 3 })
    expect(scored.samples.map(({ filter, answer }) => [filter, answer])).toEqual([
      ['strict-match', '[invalid]'],
      ['strict-match', '5'],
      ['strict-match', '[invalid]'],
      ['flexible-extract', '$1,018.'],
      ['flexible-extract', '5'],
      ['flexible-extract', '[invalid]'],
    ])
    expect((target.asked[0] as GenerateRequest).until).toEqual(['Question:', '</s>', '<|im_end|>', '</s>'])
    expect(taskResults(scored, null, null).map(({ name, primary }) => [name, primary])).toEqual([
      ['gsm', true],
      ['gsm:exact_match,flexible-extract', false],
    ])
  })

  test('repeats and a vote; other filters', async () => {
    const task = {
      ...GSM,
      repeats: 3,
      filters: [
        {
          name: 'vote',
          steps: [
            { function: 'remove_whitespace', options: {} },
            { function: 'lowercase', options: {} },
            { function: 'majority_vote', options: {} },
          ],
        },
        {
          name: 'mapped',
          steps: [
            { function: 'take_first_k', options: { k: 1 } },
            { function: 'map', options: { mapping_dict: { ' A ': 'one' }, default_value: 'none' } },
          ],
        },
      ],
      documents: [{ question: 'q', answer: 'b' }],
    }
    const texts = [' A ', 'B', 'b ']
    const scored = scoreTask(await run(task, createFakeTarget({ text: (_, { seed }) => texts[seed - 1234]! })))
    expect(scored.samples.map(({ filter, answer }) => [filter, answer])).toEqual([
      ['vote', 'b'],
      ['mapped', 'one'],
    ])
  })

  test('the choice regex falls back to texts and letters', async () => {
    const step = {
      function: 'multi_choice_regex',
      options: { regex_pattern: '(\\([A-C]\\))', ignore_case: true, ignore_punctuation: true },
    }
    const documents = ['it is (B)', 'the red one!', 'answer: C', 'dunno'].map((reply) => ({
      question: reply,
      choices: ['Blue', 'Red', 'Green'],
      answer: '(B)',
    }))
    const task = {
      ...GSM,
      docToChoice: 'choices',
      docToTarget: 'answer',
      filters: [{ name: 'mc', steps: [step, { function: 'take_first', options: {} }] }],
      documents,
    }
    const scored = scoreTask(await run(task, createFakeTarget({ text: (prompt) => /Question: (.*)\n/.exec(prompt)![1]! })))
    expect(scored.samples.map(({ answer }) => answer)).toEqual(['(B)', '(B)', '(C)', '[invalid]'])
  })

  test('unknown filters and metrics are refused before anything is asked', async () => {
    const target = createFakeTarget({})
    await expect(run({ ...GSM, filters: [{ name: 'x', steps: [{ function: 'custom', options: {} }] }] }, target)).rejects.toMatchObject({
      code: 'evaluate.unsupported-task',
    })
    await expect(
      run({ ...GSM, metrics: [{ metric: 'bleu', aggregation: null, higherIsBetter: null, options: {} }] }, target),
    ).rejects.toThrow(/"bleu"/)
    expect(target.asked).toEqual([])
  })
})

const likelihood = ({ context, continuation }: { readonly context: string; readonly continuation: string }) =>
  -((context.length * 7 + continuation.charCodeAt(1)) % 11)

test('what a model thinks before its answer is no part of it, and stops do not count there', () => {
  expect(cutAtStops('<think>Question: hm\n\n4?</think>\n\nIt is 4.\n\nQuestion: next', ['\n\n'])).toBe('It is 4.')
  expect(cutAtStops('4 Question: 5 STOP', ['STOP', 'Question:', ''])).toBe('4 ')
})

test.each([
  ['the model opens its thought', 'q', ['<think>', 'hm\n\n', '4?', '</think>', '\n\n', 'It is 4.', '\n\n', 'next']],
  ['the prompt does', 'q<think>\n', ['hm\n\n', '4?', '</think>', '\n\n', 'It is 4.', '\n\n', 'next']],
  ['nobody does', 'q', ['It is 4.', '\n\n', 'next']],
])('a model that thinks is not stopped in its thoughts, and not generated beyond its answer: %s', async (_, prompt, pieces) => {
  const passed: (readonly string[] | undefined)[] = []
  const taken: string[] = []
  const runtime: Runtime = {
    ...createTableRuntime('thinker', () => [1], 1),
    async *generate({ stopStrings }) {
      passed.push(stopStrings)
      for (const [id, piece] of pieces.entries()) {
        taken.push(piece)
        yield { kind: 'tokens', ids: [id], logprobs: [0], text: piece }
      }
    },
  }
  const codec = {
    encode: (asked: string) => Uint32Array.from({ length: asked === '</think>' ? 1 : asked.length }),
    decode: () => '',
    renderChat: () => '',
    bosTokenId: null,
    eosTokenId: null,
  }
  const target = createLocalTarget({ name: 'thinker', runtime, codec, modelFingerprint: 'x' })
  const request = { prompt, maxTokens: 20, until: ['\n\n'], temperature: 0, topP: 1, seed: 1 }
  expect(await target.generate(request, undefined)).toEqual({ text: 'It is 4.', tokens: pieces.length - 1 })
  expect(passed).toEqual([undefined])
  expect(taken).toEqual(pieces.slice(0, -1))
})

test('greedy answers beside a baseline’s say how far the texts moved; sampled ones and the baseline itself do not', async () => {
  const task = taskOf({
    name: 'say',
    title: 'Say',
    outputType: 'generate_until',
    docToText: 'q',
    docToTarget: 'q',
    documents: [{ q: 'one' }, { q: 'two' }],
  })
  const scoredBy = async (answer: (prompt: string) => string, asked = task) =>
    scoreTask(await run(asked, createFakeTarget({ text: answer })))
  const baseline = { id: 'base', scored: await scoredBy(() => 'kitten') }
  const scored = await scoredBy((prompt) => (prompt === 'one' ? 'kitten' : 'sitting'))
  const [result] = taskResults(scored, baseline, null)
  expect(result?.freeText).toMatchObject({ baselineId: 'base', n: 2, identical: 1, unit: 'characters', firstDifferenceMedian: 0 })
  expect(result?.freeText?.editDistanceMean).toBeCloseTo(3 / 14, 12)
  expect(taskResults(scored, null, null)[0]?.freeText).toBeUndefined()
  const sampled = await scoredBy(() => 'kitten', { ...task, generation: { ...task.generation, temperature: 1 } })
  expect(taskResults(sampled, baseline, null)[0]?.freeText).toBeUndefined()
})

const letterId = (letter: string): number => LETTERS.indexOf(letter)
/** After a comes b, after b nearly a tie of c and a: the baseline answers "bcb", the candidate "bab". ln(0.46 / 0.44) = 0.04445. */
const tableOf = (afterB: number[]) => (previous: number) => (previous === 1 ? afterB : [0.1, 0.8, 0.1])

test('the margin where greedy answers part goes from the runtime through the cache to the result; answers kept without one stay null', async () => {
  const task = taskOf({
    name: 'say',
    title: 'Say',
    outputType: 'generate_until',
    docToText: 'a',
    docToTarget: 'a',
    generation: { until: ['#'], maxTokens: 3, temperature: 0, topP: 1 },
    documents: [{ q: 'one' }],
  })
  const codec = {
    encode: (letters: string) => Uint32Array.from(letters, letterId),
    decode: (ids: Iterable<number>) => Array.from(ids, (token) => LETTERS[token]).join(''),
    tokenBytes: (token: number) => Buffer.from(LETTERS[token] ?? ''),
    renderChat: () => '',
    bosTokenId: null,
    eosTokenId: null,
  }
  const target = (name: string, afterB: number[]) =>
    createLocalTarget({ name, runtime: createTableRuntime(name, tableOf(afterB), 3), codec, modelFingerprint: name })
  const folder = mkdtempSync(join(tmpdir(), 'lathe-cache-'))
  folders.push(folder)
  const path = join(folder, 'answers.jsonl')
  const measure = async () => {
    const cache = await openEvaluationCache(path)
    const baseline = scoreTask(await run(task, target('base', [0.44, 0.1, 0.46]), { cache }))
    const scored = scoreTask(await run(task, target('own', [0.46, 0.1, 0.44]), { cache }))
    return { known: baseline.answers.fromCache, freeText: taskResults(scored, { id: 'base', scored: baseline }, null)[0]?.freeText }
  }
  const parted = { identical: 0, firstDifferenceMedian: 1, divergenceMarginMedian: 0.0445, divergenceMarginItems: 1 }
  expect(await measure()).toMatchObject({ known: 0, freeText: parted })
  expect(await measure()).toMatchObject({ known: 1, freeText: parted })
  // As version 1 kept answers.
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n')
  const old = lines.map((line) => JSON.parse(line) as [string, { text: string; tokens: number }])
  writeFileSync(path, old.map(([key, { text: answer, tokens }]) => `${JSON.stringify([key, { text: answer, tokens }])}\n`).join(''))
  expect(await measure()).toMatchObject({ known: 1, freeText: { ...parted, divergenceMarginMedian: null, divergenceMarginItems: 0 } })
})

const MANY = { ...CHOICE, documents: Array.from({ length: 30 }, (_, i) => ({ q: `q${i}`, options: ['a', 'b'], answer: i % 2 })) }

/** Items of `many` under another name, answered as told. */
const answeredBy = async (right: (context: string) => boolean, count: number, name: string) =>
  scoreTask(
    await run(
      { ...MANY, name, documents: MANY.documents.slice(0, count) },
      // An item's number is in its prompt; the right choice is a for even ones.
      createFakeTarget({
        likelihood: ({ context, continuation }) => {
          const gold = Number(/q(\d+)/.exec(context)?.[1]) % 2 === 0 ? ' a' : ' b'
          return (continuation === gold) === right(context) ? -1 : -2
        },
      }),
    ),
  )

/** Item 3 is lost wherever it is asked, item 20 in the longer list only. */
const losing = (context: string): boolean => !/q3\n|q20\n/.test(context)

describe('runs', () => {
  const many = MANY

  test('a run that was cut off goes on from its cache, and gives the same', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lathe-cache-'))
    folders.push(folder)
    const path = join(folder, 'deep', 'cache.jsonl')
    const controller = new AbortController()
    let asked = 0
    const stopping = createFakeTarget({
      likelihood: (request) => {
        asked++
        if (asked === 21) controller.abort(new Error('stop'))
        return likelihood(request)
      },
    })
    await expect(run(many, stopping, { cache: await openEvaluationCache(path), signal: controller.signal })).rejects.toThrow('stop')
    writeFileSync(path, `${readFileSync(path, 'utf8')}["torn`)
    const target = createFakeTarget({ likelihood })
    const answers = await run(many, target, { cache: await openEvaluationCache(path) })
    expect(answers.fromCache).toBeGreaterThanOrEqual(18)
    expect(target.asked.length).toBe(60 - answers.fromCache)
    const fresh = await run(many, createFakeTarget({ likelihood }))
    expect(scoreTask(answers).figures).toEqual(scoreTask(fresh).figures)
    const again = createFakeTarget({ likelihood })
    await run(many, again, { cache: await openEvaluationCache(path) })
    expect(again.asked).toEqual([])
    const other = createFakeTarget({ likelihood }, { fingerprint: 'another model' })
    await run(many, other, { cache: await openEvaluationCache(path) })
    expect(other.asked).toHaveLength(60)
  })

  test('a limit keeps the first items, and is in the key', async () => {
    const target = createFakeTarget({ likelihood: () => -1 })
    const limited = scoreTask(await run(many, target, { limit: 5 }))
    expect(limited.answers).toMatchObject({ available: 30, limit: 5 })
    expect(limited.figures[0]?.values).toHaveLength(5)
    expect(taskProtocolKey(limited)).not.toBe(taskProtocolKey(scoreTask(await run(many, target))))
  })

  test('against itself nothing differs; samples carry what is needed to look', async () => {
    const scored = scoreTask(await run(many, createFakeTarget({ likelihood: ({ continuation }) => (continuation === ' a' ? -1 : -2) })))
    const [acc] = taskResults(scored, { id: 'base', scored }, 0.02)
    expect(acc).toMatchObject({ name: 'choice', value: 0.5, n: 30, chance: 0.5, fewshot: 0, hasSamples: true })
    expect(acc?.paired).toMatchObject({
      difference: 0,
      lost: 0,
      gained: 0,
      changed: 0,
      recovery: 1,
      verdict: 'inconclusive',
      logLikelihoodDifference: { mean: 0, interval: [0, 0] },
    })
    expect(sampleRows(scored)[1]).toMatchObject({
      docId: 1,
      prompt: 'Q: q1\nA:',
      target: 'b',
      choices: ['a', 'b'],
      output: 'a',
      correct: false,
      logprobs: [-1, -2],
    })
  })

  test('group scores weigh by size and pool errors', async () => {
    const target = createFakeTarget({ likelihood: ({ continuation }) => (continuation === ' a' ? -1 : -2) })
    const big = scoreTask(await run({ ...many, name: 'big' }, target))
    const small = scoreTask(await run({ ...many, name: 'small', documents: many.documents.slice(0, 3) }, target))
    const group = { name: 'g', title: 'G', members: ['big', 'small'], aggregates: [{ metric: 'acc', weightBySize: true, filters: null }] }
    const [weighted] = groupResults(group, [big, small], (name) => [name], null, null)
    expect(weighted?.value).toBeCloseTo((15 + 2) / 33, 12)
    const [macro] = groupResults(
      { ...group, aggregates: [{ metric: 'acc', weightBySize: false, filters: null }] },
      [big, small],
      (name) => [name],
      null,
      null,
    )
    expect(macro?.value).toBeCloseTo((0.5 + 2 / 3) / 2, 12)
    // √(0.25·(0.25/29) + 0.25·((2/9)/2)): three items are half of this score, so it is known as badly as they are.
    const error = Math.sqrt((0.25 / 29 + 2 / 9 / 2) / 4)
    expect(macro?.interval).toEqual([expect.closeTo(0.5833333 - 1.959964 * error, 6), expect.closeTo(0.5833333 + 1.959964 * error, 6)])
    expect(macro?.standardError).toBe(weighted?.standardError)
    expect(weighted).toMatchObject({
      outputType: 'group',
      n: 33,
      chance: 0.5,
      paired: null,
      members: [
        { task: 'big', weight: 30 / 33 },
        { task: 'small', weight: 3 / 33 },
      ],
    })
  })

  test('a group beside a baseline is compared on the items of its tasks, and every metric of it has a name of its own', async () => {
    const before = [await answeredBy(() => true, 30, 'big'), await answeredBy(() => true, 10, 'small')]
    const after = [await answeredBy(losing, 30, 'big'), await answeredBy(losing, 10, 'small')]
    const group = {
      name: 'g',
      title: 'G',
      members: ['big', 'small'],
      aggregates: ['acc', 'acc_norm'].map((metric) => ({ metric, weightBySize: true, filters: null })),
    }
    const results = groupResults(group, after, (name) => [name], { id: 'base', scored: before }, 0.05)
    expect(results.map(({ name, title, primary }) => [name, title, primary])).toEqual([
      ['g', 'G', true],
      ['g:acc_norm', 'G (acc_norm)', false],
    ])
    // Differences of −2/30 and −1/10 weigh 3/4 and 1/4: −3/40. Variances: (28·0.0667² + 2·0.9333²)/29/30 and 0.9/9/10.
    const [spreadBig, spreadSmall] = [(2 * (1 - 2 / 30)) / 29 / 30, 0.9 / 9 / 10]
    expect(results[0]?.paired).toMatchObject({
      baselineId: 'base',
      pairing: 'paired',
      difference: expect.closeTo(-3 / 40, 12),
      standardError: expect.closeTo(Math.sqrt((9 / 16) * spreadBig + spreadSmall / 16), 12),
      lost: 3,
      gained: 0,
      changed: 3,
      recovery: expect.closeTo(37 / 40, 12),
      margin: 0.05,
      verdict: 'inconclusive',
    })
    expect(results[0]?.paired?.logLikelihoodDifference?.mean).toBeCloseTo(-3 / 40, 12)
    // A baseline that lacks one of the tasks has no such group.
    expect(groupResults(group, after, (name) => [name], { id: 'base', scored: before.slice(1) }, 0.05)[0]?.paired).toBeNull()
  })

  test('a group of perplexities differs in its own unit, and has no verdict', async () => {
    const texts = ['one two three', 'four five', 'six seven eight nine']
    const task = taskOf({ name: 'r', title: 'r', outputType: 'loglikelihood_rolling', docToText: '', docToTarget: 'text' })
    const of = async (name: string, perByte: number) =>
      scoreTask(
        await run(
          { ...task, name, documents: texts.map((line) => ({ text: line })) },
          createFakeTarget({ rolling: (line) => -perByte * line.length }),
        ),
      )
    const group = {
      name: 'g',
      title: 'G',
      members: ['r1', 'r2'],
      aggregates: [{ metric: 'byte_perplexity', weightBySize: false, filters: null }],
    }
    const [result] = groupResults(
      group,
      [await of('r1', 0.5), await of('r2', 0.7)],
      (name) => [name],
      { id: 'base', scored: [await of('r1', 0.4), await of('r2', 0.6)] },
      0.01,
    )
    expect(result?.paired).toMatchObject({
      difference: expect.closeTo((Math.exp(0.5) + Math.exp(0.7) - Math.exp(0.4) - Math.exp(0.6)) / 2, 9),
      verdict: null,
      recovery: null,
      lost: null,
      mcnemarP: null,
    })
  })
})
