import { describe, expect, test } from 'vitest'
import type { DriftResult, ModelSummary, PerplexityResult } from '../../../engine/contract/index.ts'
import { LIBRARY, PROVENANCE, RESULTS, SAMPLE, SAMPLE_W8 } from '../../test/fixtures.ts'
import { toMarkdown } from './export.ts'
import { glanceFacts } from './glance.tsx'
import { incomparableReason, metricsOf, printReading, type Entry, type Metric } from './metrics.ts'
import { entriesOf } from './queries.ts'
import { reportHtml } from './report/report.ts'
import { isSameProtocol } from './same-protocol.ts'

const family = LIBRARY.filter((model) => model.id === SAMPLE.id || model.parentId === SAMPLE.id)
const [plainSource, plainW8, plainW4] = entriesOf(family, RESULTS) as [Entry, Entry, Entry]
const KEY = 'perplexity:rolling:512:all:text@1'

/** As a studio of today records it. */
function recorded(entry: Entry): Entry {
  const result = entry.result!
  const drifts = result.drift === null ? [] : [result.drift]
  const protocolKeys = { ...result.protocolKeys, perplexity: `${KEY}:kv-f32`, drift: `drift:${KEY}:kv-f32` }
  return { ...entry, result: { ...result, perplexity: { ...result.perplexity!, tokenization: 'same' }, drifts, protocolKeys } }
}

const [source, w8, w4] = [recorded(plainSource), recorded(plainW8), recorded(plainW4)]

interface Told {
  readonly perplexity?: Partial<PerplexityResult>
  readonly drift?: Partial<DriftResult> | null
  readonly drifts?: readonly DriftResult[]
  readonly key?: string
}

function server(name: string, { perplexity = {}, drift = {}, drifts, key = KEY }: Told = {}): Entry {
  const model: ModelSummary = { ...SAMPLE_W8, id: `m-${name}`, name, origin: 'remote' }
  const own = drift === null ? null : { ...w8.result!.drift!, kldMean: 0.0031, boundedByTop: 20, ...drift }
  return {
    model,
    series: 3,
    isSource: false,
    result: {
      ...w8.result!,
      modelId: model.id,
      perplexity: { ...w8.result!.perplexity!, value: 1.7, ...perplexity },
      drift: own,
      drifts: [...(drifts ?? (own === null ? [] : [own]))],
      throughput: null,
      tasks: [],
      protocolKeys: { perplexity: `${key}:served`, drift: `drift:${key}:top20`, [`drift:${SAMPLE.id}`]: `drift:${key}:top20` },
      provenance: {
        perplexity: { ...PROVENANCE, adapter: 'remote: http://gpu:8000/v1', driver: 'acme-8b, vllm 0.25.1' },
        drift: { ...PROVENANCE, adapter: 'remote: http://gpu:8000/v1', driver: 'acme-8b, vllm 0.25.1' },
      },
    },
  }
}

function look(entries: readonly Entry[], baseline: Entry) {
  const metrics = new Map(metricsOf(entries, baseline).map((metric) => [metric.id, metric]))
  const cell = (id: string, entry: Entry): readonly [string | null, string | null] => {
    const metric: Metric = metrics.get(id)!
    const reading = metric.read(entry)
    return [reading === null ? null : printReading(metric, reading), incomparableReason(metric, entry, baseline)]
  }
  return { metrics, cell }
}

describe('a server beside local models', () => {
  test('has its perplexity in their row, and drift but for the divergence, which is a bound', () => {
    const far = server('far')
    const { cell, metrics } = look([source, w8, far], source)
    expect(cell('perplexity', far)).toEqual(['1.700', null])
    expect(cell('bits-per-byte', far)).toEqual(['0.1694', null])
    expect(cell('top1', far)).toEqual(['99.91 %', null])
    expect(cell('delta-p', far)[1]).toBeNull()
    expect(cell('kld', far)).toEqual([
      '≥ 0.00310',
      'a lower bound from the 20 most probable tokens of either engine, others here are whole divergences',
    ])
    expect(cell('kld', w8)[1]).toBeNull()
    expect(metrics.get('kld')!.read(far)).toMatchObject({ atLeast: true, provenance: { driver: 'acme-8b, vllm 0.25.1' } })
    expect(glanceFacts(far, source)).toEqual([{ title: 'same next token', text: '99.9 %' }])
  })

  test('bounds of as many tokens may meet; of fewer they are lower for that alone', () => {
    const [far, near] = [server('far'), server('near', { drift: { boundedByTop: 5 } })]
    expect(look([source, far], source).cell('kld', far)).toEqual(['≥ 0.00310', null])
    const { cell } = look([source, far, near], source)
    expect([cell('kld', far)[1], cell('kld', near)[1]]).toEqual([null, 'a lower bound from 5 tokens, others here are from 20'])
  })

  test('other tokens: perplexity is greyed, bits per byte only where other bytes were scored', () => {
    const reason = expect.stringContaining('other tokens than the baseline’s')
    const drift = 'far splits the text into 9 tokens, Original into 7 others.'
    const whole = server('far', { perplexity: { tokenization: 'other', withoutDrift: drift }, drift: null })
    const { cell, metrics } = look([source, whole], source)
    expect([cell('perplexity', whole), cell('bits-per-byte', whole), cell('kld', whole)]).toEqual([
      ['1.700', reason],
      ['0.1694', null],
      [null, null],
    ])
    expect(metrics.get('kld')!.missing?.(whole)).toBe(drift)
    const part = server('far', { perplexity: { tokenization: 'other', bytes: 77 }, drift: null })
    expect(look([source, part], source).cell('bits-per-byte', part)[1]).toMatch(/^of 77 bytes of the text/)
  })

  test('a shorter context makes other windows, and is named', () => {
    const short = server('far', { perplexity: { window: 254 }, key: KEY.replace('512', '254') })
    const reason = 'read in windows of 254 tokens, the baseline in windows of 512'
    const { cell } = look([source, short], source)
    expect([cell('perplexity', short)[1], cell('bits-per-byte', short)[1]]).toEqual([reason, reason])
  })

  test('only a server’s key is read without its engine', () => {
    expect(isSameProtocol(`${KEY}:kv-f32`, `${KEY}:served`)).toBe(true)
    expect(isSameProtocol(`drift:${KEY}:kv-f16`, `drift:${KEY}:top5`)).toBe(true)
    expect(isSameProtocol(`${KEY}:kv-f32`, `${KEY}:kv-f16`)).toBe(false)
    expect(isSameProtocol(`${KEY}:served`, `${KEY}x:served`)).toBe(false)
  })
})

describe('a server as the baseline', () => {
  const far = server('far')
  const fromFar: DriftResult = { ...w4.result!.drift!, baselineId: far.model.id, kldMean: 0.0042, top1Agreement: 0.97, boundedByTop: 20 }
  const measured: Entry = { ...w4, result: { ...w4.result!, drifts: [...w4.result!.drifts!, fromFar] } }

  test('drift is from it where it was measured from there; what was not is shown and greyed', () => {
    const { cell } = look([source, w8, measured, far], far)
    expect(cell('kld', far)).toEqual(['0', null])
    expect(cell('kld', measured)).toEqual(['≥ 0.00420', null])
    expect(cell('top1', measured)).toEqual(['97.00 %', null])
    expect(cell('kld', w8)[1]).toMatch(/from the original, not from the pinned baseline; “Measure again”/)
    expect(cell('kld', source)[0]).toBeNull()
    expect(glanceFacts(measured, far)).toContainEqual({ title: 'same next token', text: '97.0 %' })
    expect(glanceFacts(w8, far).map(({ title }) => title)).not.toContain('same next token')
  })

  test('as long as nobody was, the row is of the original, as on any board', () => {
    const { cell } = look([source, w8, w4, far], far)
    expect([cell('kld', source), cell('top1', w4), cell('kld', far)]).toEqual([
      ['0', null],
      ['98.62 %', null],
      ['≥ 0.00310', null],
    ])
    expect(cell('kld', w4)).toEqual(['0.00480', 'a whole divergence, the baseline’s is a lower bound'])
  })

  test('exports carry bounds, reasons and where the figures are from', () => {
    const entries = [source, measured, far]
    const metrics = metricsOf(entries, source).filter(({ id }) => id === 'kld' || id === 'perplexity')
    expect(toMarkdown({ entries, baseline: source, source, metrics }).split('\n').slice(2)).toEqual([
      '| Perplexity | 1.683 (1.663–1.704) | 1.689 (1.669–1.709) | 1.700 (1.680–1.720) |',
      '| KL divergence, mean | 0 | 0.00480 (0.00456–0.00504) | ≥ 0.00310 (0.00310–0.00310) [1] |',
      '',
      '[1] Not comparable: a lower bound from the 20 most probable tokens of either engine, others here are whole divergences.',
    ])
    const page = reportHtml({ name: 'Pebble', entries, baseline: source, source, runs: new Map(), madeAt: '2026-11-23T12:00:00.000Z' })
    expect(page).toContain('≥ 0.00310')
    expect(page).toContain('a lower bound from the 20 most probable tokens')
    expect(page).toContain('remote: http://gpu:8000/v1')
    expect(page).toContain('a server, http://gpu:8000/v1, acme-8b, vllm 0.25.1')
    expect(page).toContain('acme-8b, vllm 0.25.1')
    expect(page).toContain('&quot;boundedByTop&quot;: 20')
  })
})
