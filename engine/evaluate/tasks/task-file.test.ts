import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { LatheError } from '../../contract/errors.ts'
import { inferTask, openTaskFile } from './open-tasks.ts'
import { readTaskYaml } from './task-file.ts'
import { readItems } from './task-data.ts'

const SEED = 9
const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

function folderWith(files: Readonly<Record<string, string | Uint8Array>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'lathe-tasks-'))
  folders.push(folder)
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), content)
  }
  return folder
}

const FAQ = `task: my_faq
dataset_path: json
dataset_kwargs:
  data_files:
    test: faq.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{q}}\\nAnswer:"
doc_to_choice: options
doc_to_target: answer
num_fewshot: 0
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
`

describe('task files', () => {
  test('the minimal task of specs/evaluation.md §4', async () => {
    const folder = folderWith({ 'faq.yaml': FAQ })
    const { tasks, groups } = await readTaskYaml(join(folder, 'faq.yaml'))
    expect(groups).toEqual([])
    expect(tasks).toHaveLength(1)
    expect(tasks[0]).toMatchObject({
      name: 'my_faq',
      version: 1,
      outputType: 'multiple_choice',
      format: 'json',
      files: { test: [join(folder, 'faq.jsonl')] },
      testSplit: 'test',
      docToText: 'Question: {{q}}\nAnswer:',
      docToChoice: 'options',
      docToTarget: 'answer',
      targetDelimiter: ' ',
      fewshotDelimiter: '\n\n',
      fewshot: 0,
      metrics: [
        { metric: 'acc', aggregation: 'mean', higherIsBetter: true, options: {} },
        { metric: 'acc_norm', aggregation: 'mean', higherIsBetter: true, options: {} },
      ],
    })
  })

  test.each([
    ['doc_to_text: !function utils.doc_to_text', '!function', 8],
    ['process_docs: !function utils.process', 'process_docs', 8],
    ['process_results: x', 'process_results', 8],
    ['class: utils.Task', 'class', 8],
    ['custom_dataset: x', 'custom_dataset', 8],
    ['use_prompt: promptsource:*', 'use_prompt', 8],
    ['unsafe_code: true', 'unsafe_code', 8],
    ['doc_to_image: image', 'doc_to_image', 8],
    ['wibble: 1', 'wibble', 8],
    ['metric_list:\n  - metric: !function utils.f1', '!function', 9],
  ])('%s is refused by name and line', async (line, name, number) => {
    const yaml = FAQ.replace(/doc_to_text: .*\n/, `${line}\n`).replace(/metric_list:\n {2}- metric: acc\n[^]*?(?=metadata)/, '')
    const folder = folderWith({ 't.yaml': yaml })
    const error: unknown = await readTaskYaml(join(folder, 't.yaml')).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'evaluate.unsupported-task' })
    expect((error as LatheError).message).toContain(name)
    expect((error as LatheError).message).toContain(`line ${number}`)
  })

  test('data on the Hub, arrow and unknown output types are refused with what to do', async () => {
    const folder = folderWith({
      'hub.yaml': FAQ.replace('dataset_path: json', 'dataset_path: allenai/ai2_arc'),
      'arrow.yaml': FAQ.replace('dataset_path: json', 'dataset_path: arrow'),
      'type.yaml': FAQ.replace('multiple_choice', 'greedy_until'),
    })
    for (const [file, text] of [
      ['hub.yaml', 'downloads nothing'],
      ['arrow.yaml', 'Arrow'],
      ['type.yaml', 'greedy_until'],
    ] as const) {
      await expect(readTaskYaml(join(folder, file))).rejects.toThrow(expect.objectContaining({ message: expect.stringContaining(text) }))
    }
  })

  test('include: nearest wins; circles and ways out of the folder are refused', async () => {
    const folder = folderWith({
      'base.yaml': FAQ,
      'child.yaml': 'include: base.yaml\ntask: child\nnum_fewshot: 3\n',
      'circle.yaml': 'include: circle2.yaml\ntask: c\n',
      'circle2.yaml': 'include: circle.yaml\ntask: c\n',
      'inner/out.yaml': 'include: ../base.yaml\ntask: c\n',
    })
    const { tasks } = await readTaskYaml(join(folder, 'child.yaml'))
    expect(tasks[0]).toMatchObject({ name: 'child', fewshot: 3, docToChoice: 'options' })
    await expect(readTaskYaml(join(folder, 'circle.yaml'))).rejects.toThrow(/includes itself/)
    await expect(readTaskYaml(join(folder, 'inner/out.yaml'))).rejects.toThrow(/outside/)
  })

  test('groups collect their members from files beside them and from inside', async () => {
    const inner = FAQ.replace('my_faq', 'inner')
      .split('\n')
      .map((line) => `    ${line}`)
      .join('\n')
      .replace('    task:', '  - task:')
    const folder = folderWith({
      'first.yaml': FAQ.replace('my_faq', 'first'),
      'all.yaml': `group: all\ngroup_alias: Everything\ntask:\n  - first\n${inner.trimEnd()}\naggregate_metric_list:\n  - metric: acc\n    aggregation: mean\n    weight_by_size: true\n`,
    })
    const file = await readTaskYaml(join(folder, 'all.yaml'))
    expect(file.tasks.map(({ name }) => name)).toEqual(['first', 'inner'])
    expect(file.groups).toEqual([
      { name: 'all', title: 'Everything', members: ['first', 'inner'], aggregates: [{ metric: 'acc', weightBySize: true, filters: null }] },
    ])
  })

  test(`any text is a task or a LatheError (seed ${SEED})`, async () => {
    const folder = folderWith({})
    const words = fc.constantFrom(
      'task: a\n',
      'group: b\n',
      'task:\n  - x\n',
      'include: a.yaml\n',
      '- ',
      '!x ',
      '&a ',
      '*a ',
      '{',
      '}',
      ': ',
      'doc_to_text: q\n',
      'output_type: loglikelihood\n',
      '"',
      '\n',
      'dataset_path: json\n',
      'test_split: test\n',
      'dataset_kwargs: {data_files: x}\n',
    )
    await fc.assert(
      fc.asyncProperty(fc.array(words, { maxLength: 14 }), async (parts) => {
        const path = join(folder, 'a.yaml')
        writeFileSync(path, parts.join(''))
        const outcome: unknown = await readTaskYaml(path).catch((error: unknown) => error)
        expect(outcome instanceof LatheError || (typeof outcome === 'object' && outcome !== null && 'tasks' in outcome)).toBe(true)
      }),
      { seed: SEED, numRuns: 150 },
    )
  })
})

describe('data', () => {
  test('jsonl, a JSON array, csv and text give the same items', async () => {
    const folder = folderWith({
      'a.jsonl': '{"q":"x, y","n":1}\n\n{"q":"é","n":2}\n',
      'a.json': '[{"q":"x, y","n":1},{"q":"é","n":2}]',
      'a.csv': '\uFEFFq,n\n"x, y",1\né,2\n',
      'a.txt': 'one\ntwo\n',
    })
    const expected = [
      { q: 'x, y', n: 1 },
      { q: 'é', n: 2 },
    ]
    expect(await readItems('json', [join(folder, 'a.jsonl')], null)).toEqual(expected)
    expect(await readItems('json', [join(folder, 'a.json')], null)).toEqual(expected)
    expect(await readItems('csv', [join(folder, 'a.csv')], null)).toEqual(expected)
    expect(await readItems('text', [join(folder, 'a.txt')], null)).toEqual([{ text: 'one' }, { text: 'two' }])
  })

  test('parquet (written by pyarrow 25, zstd): lists, 64-bit integers, structs', async () => {
    const nested = { text: ['x'], label: ['A'] }
    expect(await readItems('parquet', [join(import.meta.dirname, '../test/items.parquet')], null)).toEqual([
      { q: 'one', options: ['a', 'b'], answer: 1, nested },
      { q: 'two', options: ['c', 'd', 'e'], answer: 2, nested },
      { q: 'né', options: ['f', 'g'], answer: 0, nested },
    ])
  })

  test('problems are named with file and line', async () => {
    const folder = folderWith({ 'a.jsonl': '{"q":1}\nnonsense\n', 'b.csv': 'a,b\n1\n', 'c.parquet': 'PAR1', 'd.jsonl.gz': '' })
    await expect(readItems('json', [join(folder, 'a.jsonl')], null)).rejects.toThrow(/a\.jsonl: line 2/)
    await expect(readItems('csv', [join(folder, 'b.csv')], null)).rejects.toThrow(/b\.csv: not valid CSV/)
    await expect(readItems('parquet', [join(folder, 'c.parquet')], null)).rejects.toThrow(/c\.parquet: not a parquet/)
    await expect(readItems('json', [join(folder, 'd.jsonl.gz')], null)).rejects.toThrow(/compressed/)
    await expect(readItems('json', [join(folder, 'none.jsonl')], null)).rejects.toThrow(/can't be read/)
  })

  test('bare jsonl is recognised by its fields', async () => {
    const kinds = [
      [{ text: 'a' }, 'loglikelihood_rolling'],
      [{ prompt: 'a', response: 'b' }, 'generate_until'],
      [{ question: 'a', choices: ['b', 'c'], answer: 0 }, 'multiple_choice'],
      [{ query: 'a', choices: ['b', 'c'], gold: 0 }, 'multiple_choice'],
      [{ ctx: 'a', endings: ['b', 'c'], label: 1 }, 'multiple_choice'],
    ] as const
    for (const [doc, type] of kinds) expect(inferTask('t', [doc]).outputType).toBe(type)
    expect(() => inferTask('t', [{ foo: 1 }])).toThrow(/no known kind/)
    await expect(openTaskFile('x.docx')).rejects.toThrow(/not a task file/)
  })
})
