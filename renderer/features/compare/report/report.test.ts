import { describe, expect, test } from 'vitest'
import { LIBRARY, RESULTS, SAMPLE, SAMPLE_W4 } from '../../../test/fixtures.ts'
import type { Entry } from '../metrics.ts'
import { entriesOf } from '../queries.ts'
import { html } from './markup.ts'
import { boardJudgements } from '../use-judgements.ts'
import { reportHtml, reportJson, type ReportInput } from './report.ts'
import { withoutPaths } from './without-paths.ts'

const family = LIBRARY.filter((model) => model.id === SAMPLE.id || model.parentId === SAMPLE.id)
const entries = entriesOf(family, RESULTS)
const [source, w8, w4] = entries as [Entry, Entry, Entry]
const HOSTILE = '</title><script src="https://evil.example/x.js">alert(1)</script><img src=x onerror=alert(1)>'
const hostile: Entry = {
  ...w4,
  model: { ...w4.model, name: HOSTILE, scheme: '"><svg onload=alert(1)>' },
  result: { ...w4.result!, tensorErrors: [{ ...w4.result!.tensorErrors[0]!, name: HOSTILE, kind: HOSTILE }] },
}
const run = { preset: 'balanced-4bit', seed: 0, source: { name: 'Pebble', folder: '/home/ada/models/pebble' }, recipe: HOSTILE }
const input: ReportInput = {
  name: `A & B ${HOSTILE}`,
  entries: [source, w8, hostile],
  baseline: source,
  source,
  runs: new Map([[SAMPLE_W4.id, run]]),
  madeAt: '2026-11-23T12:00:00.000Z',
}

function parsed(text: string): Document {
  return new DOMParser().parseFromString(text, 'text/html')
}

describe('the report', () => {
  const text = reportHtml(input)
  const page = parsed(text)

  test('needs nothing but itself: no scripts, no resources, no links out', () => {
    expect(page.querySelectorAll('script, link, img, iframe, object, embed, base, audio, video, source, form').length).toBe(0)
    const attributes = [...page.querySelectorAll('*')].flatMap((element) => [...element.attributes])
    expect(attributes.filter(({ name }) => /^(src|srcset|href|xlink:href|action|data|poster|on.*)$/.test(name))).toEqual([])
    expect(
      attributes.filter(({ value }) => /https?:|\/\/|url\(/.test(value) && !value.includes('evil.example')).map(({ value }) => value),
    ).toEqual([])
    expect(page.querySelector('style')!.textContent).not.toMatch(/url\(|@import|http/)
    expect(page.querySelector('meta[http-equiv]')?.getAttribute('content')).toBe("default-src 'none'; style-src 'unsafe-inline'")
  })

  test('shows a hostile name as text wherever it stands', () => {
    expect(page.title).toBe(`A & B ${HOSTILE}: comparison`)
    expect(page.querySelector('h1')!.textContent).toBe(`A & B ${HOSTILE}: comparison`)
    expect([...page.querySelectorAll('thead th')].map((cell) => cell.textContent)).toContain(HOSTILE)
    expect([...page.querySelectorAll('rect title')].some((title) => title.textContent?.includes(HOSTILE))).toBe(true)
    expect(page.querySelectorAll('svg[onload]').length).toBe(0)
  })

  test('has the chart, the figures, the verdicts, the map, the recipe and the data', () => {
    expect([...page.querySelectorAll('h2')].map((heading) => heading.textContent)).toEqual([
      'All figures',
      'As good as Original?',
      'Side by side',
      'Error of every layer',
      'How each was made',
      'Where the figures come from',
    ])
    expect(page.querySelectorAll('figure svg path').length).toBe(3)
    expect(page.body.textContent).toContain('can’t tell')
    const data = JSON.parse([...page.querySelectorAll('pre')].at(-1)!.textContent!) as {
      readonly models: readonly { readonly name: string }[]
    }
    expect(data.models.map((model) => model.name)).toEqual([SAMPLE.name, w8.model.name, HOSTILE])
  })

  test('takes the verdicts of the screen with it, also against another baseline than the original', () => {
    const [judgement] = boardJudgements(w8, SAMPLE.id)
    const other: ReportInput = { ...input, baseline: w8, judgements: [{ ...judgement!, modelId: SAMPLE.id }] }
    expect(reportHtml({ ...input, baseline: w8 })).not.toContain('As good as')
    expect(parsed(reportHtml(other)).body.textContent).toContain('As good as Near-lossless 8-bit?')
    expect(JSON.parse(reportJson(other))).toMatchObject({
      baseline: w8.model.name,
      verdicts: [{ modelId: SAMPLE.id, title: judgement!.title }],
    })
  })

  test('leaves paths at home', () => {
    expect(text).not.toContain('/home/ada')
    expect(reportJson(input)).not.toContain('/home/ada')
    expect(withoutPaths({ a: '/home/ada/x', b: 'C:\\Users\\Ada\\y', c: ['plain', 'file:///z/w'], d: 3 })).toEqual({
      a: '…/x',
      b: '…/y',
      c: ['plain', '…/w'],
      d: 3,
    })
    expect(withoutPaths(Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`t${index}`, 1])))).toBe('300 entries')
  })
})

test('markup escapes what it is given and keeps what is markup', () => {
  const inner = html`<b>${'<i>'}</b>`
  expect(html`<p title="${'"\'&'}">${inner}${[inner, null]}${null}${3}</p>`.html).toBe(
    '<p title="&quot;&#39;&amp;"><b>&lt;i&gt;</b><b>&lt;i&gt;</b>3</p>',
  )
})
