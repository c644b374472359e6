import { describe, expect, test } from 'vitest'
import { LIBRARY, PROVENANCE, RESULTS, SAMPLE, SAMPLE_W4, SAMPLE_W8 } from '../../test/fixtures.ts'
import { barTop } from './bar-top.ts'
import { toCsv, toMarkdown } from './export.ts'
import { glanceFacts } from './glance.tsx'
import { cellKey, heatColor, heatGrid, heatShare, heatValue } from './heat-grid.ts'
import { bestOf, rivalsOf } from './best.ts'
import {
  difference,
  differenceOf,
  formatDifference,
  formatRange,
  incomparableReason,
  isOfOneJob,
  metricsOf,
  type Entry,
  type Metric,
} from './metrics.ts'
import { axisDomain, niceTicks, paretoFrontier } from './pareto.ts'
import { entriesOf } from './queries.ts'
import { pointsOf, restsOnChance, type Point } from './points.ts'
import { entryTitle } from './series.tsx'
import { taskMean } from './task-metrics.ts'
import { storedName } from './tensor-pair.tsx'
import { shownText, tokenLevel } from './token-level.ts'
import { boardJudgements } from './use-judgements.ts'

const family = LIBRARY.filter((model) => model.id === SAMPLE.id || model.parentId === SAMPLE.id)
const entries = entriesOf(family, RESULTS)
const [source, w8, w4] = entries as [Entry, Entry, Entry]
const metrics = new Map(metricsOf(entries).map((metric) => [metric.id, metric]))
const metric = (id: string): Metric => metrics.get(id)!

/** With speeds whose last job was one with the other. */
function between(entry: Entry, other: Entry): Entry {
  const throughput = { ...entry.result!.throughput!, interleavedWith: other.model.id }
  return { ...entry, result: { ...entry.result!, throughput } }
}

/** With speeds that were measured in turns with the source's: median, least and most of the ratio. */
function withRatio(entry: Entry, [median, min, max]: readonly [number, number, number]): Entry {
  const ratio = { median, min, max, n: 3 }
  const versus = { baselineId: SAMPLE.id, prefillRatio: ratio, decodeRatio: ratio, timeToFirstTokenRatio: ratio }
  return { ...entry, result: { ...entry.result!, throughput: { ...entry.result!.throughput!, versus } } }
}

describe('identity', () => {
  test('the source comes first and variants keep their series by age, whatever the order they arrive in', () => {
    expect(entries.map((entry) => [entry.model.id, entry.series])).toEqual([
      [SAMPLE.id, 0],
      [SAMPLE_W8.id, 1],
      [SAMPLE_W4.id, 2],
    ])
    expect(entriesOf(family.toReversed(), []).map((entry) => entry.series)).toEqual([0, 1, 2])
    expect(entries.map((entry) => entryTitle(entry, source))).toEqual(['Original', 'Near-lossless 8-bit', 'Balanced 4-bit'])
  })
})

function at(...values: (number | null)[]) {
  return values.map((value) => (value === null ? null : { value, range: null }))
}

function stats(median: number) {
  return { median, min: median, max: median, n: 5 }
}

describe('metrics', () => {
  test('are read with their interval; the original drifts from itself by definition zero', () => {
    expect(metric('kld').read(source)).toEqual({ value: 0, range: null, rangeMeaning: null, provenance: null, details: {} })
    const kld = metric('kld').read(w4)
    expect([kld?.value, kld?.range?.map((end) => Number(end.toFixed(6)))]).toEqual([0.0048, [0.004565, 0.005035]])
    expect(metric('perplexity').read({ ...w4, result: null })).toBeNull()
  })

  test('the mean of tasks needs every task', () => {
    expect(taskMean(source, ['world_facts', 'reading'])).toBeCloseTo(0.81, 10)
    expect(taskMean(source, ['world_facts', 'never_run'])).toBeNull()
  })

  test('other data, other adapters: not on one axis', () => {
    const other: Entry = { ...w4, result: { ...w4.result!, protocolKeys: { ...w4.result!.protocolKeys, perplexity: 'gptq-2048' } } }
    expect(incomparableReason(metric('perplexity'), other, source)).toContain('another protocol')
    expect(incomparableReason(metric('decode'), other, source)).toBeNull()
    const elsewhere: Entry = {
      ...w4,
      result: { ...w4.result!, provenance: { ...w4.result!.provenance, throughput: { ...PROVENANCE, adapter: 'RTX 4070' } } },
    }
    expect(incomparableReason(metric('decode'), elsewhere, source)).toBe(
      'measured on RTX 4070, the baseline on llvmpipe (LLVM 19.1, 256 bits)',
    )
    expect(incomparableReason(metric('size'), elsewhere, source)).toBeNull()
  })

  test('differences are written in the metric’s own manner', () => {
    expect(formatDifference(metric('size'), difference(metric('size'), 3, 9)!)).toBe('−66.7 %')
    expect(formatDifference(metric('task:reading'), difference(metric('task:reading'), 0.616, 0.628)!)).toBe('−1.20 pp')
    expect(formatDifference(metric('perplexity'), difference(metric('perplexity'), 1.6886, 1.6833)!)).toBe('+0.005300')
    expect(difference(metric('decode'), 5, 0)).toBeNull()
    expect([
      formatDifference(metric('tasks'), 1e-17),
      formatDifference(metric('size'), 0),
      formatDifference(metric('kld'), -0.001),
    ]).toEqual(['±0.00 pp', '±0.0 %', `−${metric('kld').format(0.001)}`])
  })

  test('ratios of speeds are of the job that measured both; differences of tasks are of the same items', () => {
    const versus = { baselineId: SAMPLE.id, decodeRatio: stats(1.5), prefillRatio: stats(0.9), timeToFirstTokenRatio: stats(1.1) }
    const beside: Entry = { ...w4, result: { ...w4.result!, throughput: { ...w4.result!.throughput!, versus } } }
    expect(differenceOf(metric('decode'), beside, source)).toBeCloseTo(0.5, 12)
    expect(differenceOf(metric('decode'), w4, source)).toBeCloseTo(117 / 62 - 1, 12)
    expect(glanceFacts(beside, source)).toContainEqual({ title: 'decode speed', text: '1.50×' })
    expect(differenceOf(metric('task:reading'), w4, source)).toBe(
      w4.result!.tasks.find((task) => task.name === 'reading')!.paired!.difference,
    )
    // nothing joins these two
    expect(differenceOf(metric('decode'), beside, w8)).toBeCloseTo(117 / 88 - 1, 12)
    // each took turns with the original, and that is the baseline's ratio the other way round
    expect(differenceOf(metric('decode'), beside, withRatio(w8, [1.2, 1.1, 1.3]))).toBeCloseTo(1.5 / 1.2 - 1, 12)
    expect(differenceOf(metric('decode'), source, beside)).toBeCloseTo(1 / 1.5 - 1, 12)
    expect(metric('decode').rival!(withRatio(w4, [2, 1.5, 3]), withRatio(w8, [1.2, 1, 1.5]))).toEqual({ value: 2 / 1.2, range: [1, 3] })
  })

  test('a server has speeds and scores, but no size', () => {
    const remote: Entry = { ...w4, model: { ...w4.model, origin: 'remote' } }
    expect([metric('size').read(remote), metric('bits').read(remote), metric('decode').read(remote)?.value]).toEqual([null, null, 117])
  })

  test('the best of a row; none where all are equal, alone, or within the winner’s uncertainty', () => {
    expect([...bestOf(metric('decode'), at(62, 88, 117))]).toEqual([2])
    expect([...bestOf(metric('kld'), at(0, 0.1, null))]).toEqual([0])
    expect([...bestOf(metric('task:reading'), at(0.7, 0.7, 0.6))]).toEqual([0, 1])
    expect([...bestOf(metric('decode'), at(5, 5))]).toEqual([])
    expect([...bestOf(metric('decode'), at(5, null))]).toEqual([])
    expect([
      ...bestOf(
        metric('task:reading'),
        entries.map((entry) => metric('task:reading').read(entry)),
      ),
    ]).toEqual([])
  })

  test('the best needs evidence: a mean of tasks within its error, a speed of another job and a drift of the original from itself win nothing', () => {
    const mean = metric('tasks').read(w8)!
    const halves = w8.result!.tasks.filter(({ primary }) => primary).map(({ interval: [low, high] }) => (high - low) / 2)
    const half = Math.sqrt(halves.reduce((sum, value) => sum + value ** 2, 0)) / halves.length
    expect(mean.range![0]).toBeCloseTo(mean.value - half, 9)
    expect([...bestOf(metric('tasks'), rivalsOf(metric('tasks'), entries, source))]).toEqual([])
    const drift = rivalsOf(metric('kld'), entries, source)
    expect(drift.map((rival) => rival === null)).toEqual([true, false, false])
    // Nobody measured these in turns.
    expect([...bestOf(metric('decode'), rivalsOf(metric('decode'), entries, source))]).toEqual([])
    const inTurns = [source, withRatio(w8, [1.3, 1.2, 1.5]), withRatio(w4, [1.9, 1.8, 2])]
    expect([...bestOf(metric('decode'), rivalsOf(metric('decode'), inTurns, source))]).toEqual([2])
    const shaky = [source, withRatio(w8, [1.3, 1.2, 2.5]), withRatio(w4, [1.9, 1.8, 2])]
    expect([...bestOf(metric('decode'), rivalsOf(metric('decode'), shaky, source))]).toEqual([])
    expect([...bestOf(metric('decode'), rivalsOf(metric('decode'), inTurns, inTurns[1]!))]).toEqual([2])
  })

  test('speeds of two jobs are told from those of one; a ratio of speeds has its spread', () => {
    expect([isOfOneJob(between(w4, source), between(source, w4)), isOfOneJob(between(w8, source), between(source, w4))]).toEqual([
      true,
      false,
    ])
    expect(glanceFacts(withRatio(w4, [1.4, 0.96, 1.8]), source).at(-1)).toEqual({ title: 'decode (0.96–1.8×)', text: '1.40×' })
  })

  test('bits per byte are as uncertain as the perplexity that they are made from', () => {
    const { value, range } = metric('bits-per-byte').read(w4)!
    const { standardError, tokens, bytes } = w4.result!.perplexity!
    expect(range![1] - value).toBeCloseTo((1.96 * standardError! * tokens) / bytes / Math.LN2, 9)
  })

  test('ends of a range share their unit', () => {
    expect(formatRange(metric('decode'), [172, 180])).toBe('172–180 tok/s')
    expect(formatRange(metric('task:reading'), [0.5, 0.625])).toBe('50.0–62.5 %')
    expect(formatRange(metric('ttft'), [900, 1200])).toBe(`${metric('ttft').format(900)}–${metric('ttft').format(1200)}`)
    expect(formatRange(metric('perplexity'), [1.44, 1.76])).toBe('1.440–1.760')
  })

  test('accuracies share a scale, the rest fill their own', () => {
    expect(barTop(metric('task:reading'), [metric('task:reading').read(source)])).toBe(1)
    expect(
      barTop(
        metric('size'),
        entries.map((entry) => metric('size').read(entry)),
      ),
    ).toBe(SAMPLE.weightBytes)
  })
})

function pointAt(id: string, x: number, y: number, error: number, onFrontier: boolean): Point {
  return { id, entry: w4, title: id, x, y, error: [error, error], radius: 6, onFrontier }
}

describe('scatter', () => {
  test('a point that is beaten within error bars only may be so by chance', () => {
    const better = { x: 'down', y: 'up' } as const
    expect(restsOnChance([pointAt('small', 3, 80.6, 5, true), pointAt('big', 9, 80, 5, false)], better)).toBe(true)
    expect(restsOnChance([pointAt('small', 3, 80.6, 0.1, true), pointAt('big', 9, 80, 0.1, false)], better)).toBe(false)
    expect(
      restsOnChance([pointAt('small', 3, 90, 1, true), pointAt('mid', 4, 80.6, 5, false), pointAt('big', 9, 80, 5, false)], better),
    ).toBe(false)
    expect(restsOnChance([pointAt('small', 3, 80, 5, true), pointAt('big', 9, 80.6, 5, true)], better)).toBe(false)
  })

  test('the frontier keeps what nothing beats on both axes', () => {
    const points = [
      { id: 'big', x: 9, y: 0 },
      { id: 'mid', x: 5, y: 1 },
      { id: 'worse', x: 6, y: 2 },
      { id: 'small', x: 3, y: 4 },
      { id: 'twin', x: 3, y: 4 },
    ]
    expect([...paretoFrontier(points, 'down', 'down')]).toEqual(['big', 'mid', 'small', 'twin'])
    expect([...paretoFrontier(points, 'down', 'up')]).toEqual(['small', 'twin'])
  })

  test('axes leave room, ticks are round, and nothing has no width', () => {
    expect(axisDomain([0, 1], 0.1)).toEqual([-0.1, 1.1])
    expect(axisDomain([5, 5], 0.1)).toEqual([4.5, 5.5])
    expect(niceTicks([-0.001, 0.0056], { floor: 0 })).toEqual([0, 0.002, 0.004])
    expect(niceTicks([2e6, 10e6], { count: 4 })).toEqual([2e6, 4e6, 6e6, 8e6, 10e6])
    expect(niceTicks([1024 ** 2, 4 * 1024 ** 2], { count: 3, unit: 1024 ** 2 })).toEqual([1, 2, 3, 4].map((mib) => mib * 1024 ** 2))
  })

  test('what is not measured or not comparable is left out and named', () => {
    const other: Entry = { ...w4, result: { ...w4.result!, protocolKeys: { ...w4.result!.protocolKeys, drift: 'elsewhere' } } }
    const reference: Entry = { ...source, result: { ...source.result!, protocolKeys: { ...source.result!.protocolKeys, drift: 'here' } } }
    const { points, left } = pointsOf({
      entries: [reference, { ...w8, result: null }, other],
      baseline: reference,
      source: reference,
      metrics: { x: metric('size'), y: metric('kld'), decode: metric('decode') },
    })
    expect(points.map((point) => point.id)).toEqual([SAMPLE.id])
    expect(left).toEqual([
      'Near-lossless 8-bit (not measured)',
      'Balanced 4-bit (measured under another protocol or on other data than the baseline)',
    ])
  })
})

describe('verdicts', () => {
  test('of the board count only against the baseline they were made with', () => {
    expect(boardJudgements(w4, SAMPLE.id).map(({ task, n, isShare, paired }) => [task, n, isShare, paired?.verdict])).toEqual(
      ['world_facts', 'reading', 'arithmetic', 'completion'].map((task) => [`${task} acc none`, 250, true, 'inconclusive']),
    )
    expect(boardJudgements(w4, SAMPLE_W8.id)).toEqual([])
    expect(boardJudgements(source, SAMPLE.id)).toEqual([])
  })
})

describe('tokens', () => {
  test('are shaded by steps, and what has no finite divergence is worst', () => {
    expect([0, 0.009, 0.01, 0.3, 0.5, 9, null].map(tokenLevel)).toEqual([0, 0, 1, 2, 3, 4, 4])
    expect(['', ' a', 'x\n', '\t'].map(shownText)).toEqual(['∅', ' a', 'x⏎\n', '⇥'])
  })
})

describe('at a glance', () => {
  test('says only what is measured', () => {
    expect(glanceFacts(w4, source)).toEqual([
      { title: 'of the size', text: '34 %' },
      { title: 'of task accuracy', text: '98.9 ± 1.5 %' },
      { title: 'same next token', text: '98.6 %' },
      { title: 'decode speed', text: '1.89×' },
    ])
    const fewer: Entry = { ...w4, result: { ...w4.result!, tasks: w4.result!.tasks.slice(0, 1) } }
    expect(glanceFacts(fewer, source)[1]?.title).toBe(`of accuracy, 1 of ${w4.result!.tasks.length} tasks`)
    expect(glanceFacts({ ...w4, result: null }, source)).toEqual([{ title: 'of the size', text: '34 %' }])
  })
})

describe('heat map', () => {
  const errors = w4.result!.tensorErrors
  test('rows follow the layer’s own order, columns the layers', () => {
    const grid = heatGrid(errors.toReversed(), 'sqnr')
    expect(grid.kinds).toEqual(['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'])
    expect(grid.layers).toEqual([0, 1, 2, 3, 4, 5])
    expect(grid.cells.get(cellKey('down_proj', 3))?.name).toBe('model.layers.3.mlp.down_proj.weight')
    const worst = Math.max(...errors.map((error) => heatValue(error, 'sqnr')!))
    expect(grid.range[1]).toBe(worst)
  })

  test('shares run from best to worst; an exact tensor has none', () => {
    expect([
      heatShare(0, [0, 10], false),
      heatShare(5, [0, 10], false),
      heatShare(10, [0, 10], false),
      heatShare(3, [3, 3], false),
    ]).toEqual([0, 0.5, 1, 0])
    expect([heatShare(0, [0, 1], true), heatShare(1, [0, 1], true)]).toEqual([0, 1])
    expect(heatShare(0.1, [0.01, 1], true)).toBeCloseTo(0.5, 10)
    expect(heatValue({ ...errors[0]!, sqnrDb: null }, 'sqnr')).toBeNull()
    expect(heatColor(0, 'light')).not.toBe(heatColor(1, 'light'))
  })
})

function find(name: string, ...stored: string[]): string | null {
  return storedName(
    name,
    stored.map((tensor) => ({ name: tensor })),
  )
}

test('a tensor is found under the name its folder stores it by', () => {
  expect([
    find('q_proj', 'q_proj.weight'),
    find('q_proj', 'q_proj.weight_packed', 'q_proj.weight_scale'),
    find('q_proj.weight', 'q_proj.weight_packed'),
    find('q_proj.weight', 'q_proj.weight'),
    find('q_proj', 'k_proj.weight'),
  ]).toEqual(['q_proj.weight', 'q_proj.weight_packed', 'q_proj.weight_packed', 'q_proj.weight', null])
})

describe('exports', () => {
  const table = { entries, baseline: source, source, metrics: [metric('size'), metric('decode')] }
  test('Markdown as printed, CSV as numbers, formulas disarmed', () => {
    expect(toMarkdown(table)).toBe(
      [
        '| Metric | Original | Near-lossless 8-bit | Balanced 4-bit |',
        '| :-- | --: | --: | --: |',
        '| Size of the weights | 9.32 MB | 5.22 MB | 3.20 MB |',
        `| Decode | ${['62.0', '88.0', '117'].map((text, i) => `${text} tok/s (${formatRange(metric('decode'), metric('decode').read(entries[i]!)!.range!)})`).join(' | ')} |`,
      ].join('\n'),
    )
    const hostile: Entry = { ...w4, model: { ...w4.model, name: '=cmd("x")' } }
    expect(toCsv({ ...table, entries: [source, hostile] }).split('\n')).toEqual([
      '"metric","Original","\'=cmd(""x"")","not comparable"',
      '"size",9315840,3199808,""',
      '"decode",62,117,""',
    ])
    const { result } = w4
    const elsewhere = { ...result!.provenance['throughput']!, adapter: 'another GPU' }
    const moved: Entry = { ...w4, result: { ...result!, provenance: { ...result!.provenance, throughput: elsewhere } } }
    expect(toCsv({ ...table, entries: [source, moved] })).toContain('"Balanced 4-bit: measured on another GPU, the baseline on')
    expect(toMarkdown({ ...table, entries: [source, moved] })).toContain('[1] Not comparable: measured on another GPU')
  })
})
