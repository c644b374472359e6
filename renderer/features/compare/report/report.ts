/**
 * The board as one web page to send: charts, tables, verdicts, the recipe of each variant, and all of the data. It opens from disk with the network
 * off, holds no script and refers to nothing outside itself. Paths of this computer stay here.
 */
import { formatBytes, formatDateTime, formatInteger, formatSignificant, formatPoints } from '../../../lib/format.ts'
import { barTop } from '../bar-top.ts'
import { bestOf, rivalsOf } from '../best.ts'
import {
  differenceOf,
  formatDifference,
  formatRange,
  incomparableReason,
  metricsOf,
  printReading,
  type Entry,
  type Metric,
  type MetricGroup,
} from '../metrics.ts'
import { entryTitle } from '../series.tsx'
import { boardJudgements, type Judgement } from '../use-judgements.ts'
import { barChart, frontierChart, layerChart } from './charts.ts'
import { html, type Markup } from './markup.ts'
import { withoutPaths } from './without-paths.ts'
import { REPORT_STYLE } from './style.ts'

export interface ReportInput {
  readonly name: string
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
  /** Against this baseline, as they stand on the screen; absent = those that the board itself holds. */
  readonly judgements?: readonly Judgement[]
  /** run.json of the variants that Lathe made, by model id, without its lists of tensors. */
  readonly runs: ReadonlyMap<string, Readonly<Record<string, unknown>>>
  readonly madeAt: string
}

const GROUPS: readonly MetricGroup[] = ['Size', 'Quality', 'Tasks', 'Speed', 'Served']
const CHARTED: readonly MetricGroup[] = ['Size', 'Quality', 'Tasks', 'Speed']
/** Worst tensors named beside each map. */
const WORST = 8

/** Everything measured, with protocol and provenance, so that it can be checked or drawn again. */
export function reportJson({ name, entries, baseline, judgements, runs, madeAt }: ReportInput): string {
  return JSON.stringify(
    {
      format: 'lathe-comparison',
      version: 1,
      madeAt,
      model: name,
      baseline: baseline.model.name,
      verdicts: judgements ?? judgementsOf(entries, baseline),
      models: entries.map(({ model: { path: _path, ...model }, result }) => ({
        ...model,
        result,
        run: withoutPaths(runs.get(model.id) ?? null),
      })),
    },
    null,
    2,
  )
}

export function reportHtml(input: ReportInput): string {
  const { name, entries, baseline, source, madeAt } = input
  const all = metricsOf(entries, baseline).filter((metric) => entries.some((entry) => metric.read(entry) !== null))
  const byId = new Map(all.map((metric) => [metric.id, metric]))
  const x = byId.get('size') ?? byId.get('peak') ?? byId.get('decode')
  const y = byId.get('kld') ?? byId.get('perplexity') ?? all.find((metric) => metric.group === 'Tasks')
  const frontier =
    x === undefined || y === undefined ? null : frontierChart({ entries, baseline, source, x, y, decode: byId.get('decode') })
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width" />
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'" />
        <title>${name}: comparison</title>
        <style>
          ${{ html: REPORT_STYLE }}
        </style>
      </head>
      <body>
        <h1>${name}: comparison</h1>
        <p class="muted">
          Made by Lathe on ${formatDateTime(madeAt)}. Everything is compared with ${entryTitle(baseline, source)}; ranges are 95 % intervals
          or the slowest and fastest run.
        </p>
        ${frontier}
        <h2>All figures</h2>
        ${figuresTable({ entries, baseline, source, metrics: all })} ${verdictsTable(input)}
        <h2>Side by side</h2>
        <div class="bars">
          ${all.filter((metric) => CHARTED.includes(metric.group)).map((metric) => barsOf(metric, entries, baseline, source))}
        </div>
        ${layersSection(entries, source)}
        <h2>How each was made</h2>
        ${entries.map((entry) => recipeOf(entry, source, input.runs.get(entry.model.id) ?? null))}
        <h2>Where the figures come from</h2>
        <ul class="muted">
          ${provenanceLines(entries, source).map((line) => html`<li>${line}</li>`)}
        </ul>
        <details>
          <summary>Data (JSON)</summary>
          <pre>${reportJson(input)}</pre>
        </details>
      </body>
    </html> `
  return page.html
}

interface TableInput {
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
  readonly metrics: readonly Metric[]
}

function figuresTable({ entries, baseline, source, metrics }: TableInput): Markup {
  const rows = GROUPS.map((group) => {
    const inGroup = metrics.filter((metric) => metric.group === group)
    if (inGroup.length === 0) return null
    return html`<tr class="group">
        <th colspan="${entries.length + 1}" scope="rowgroup">${group}</th>
      </tr>
      ${inGroup.map((metric) => figureRow(metric, entries, baseline))}`
  })
  return html`<div class="wide">
    <table>
      <thead>
        <tr>
          <th scope="col">Metric</th>
          ${entries.map((entry) => html`<th scope="col">${entryTitle(entry, source)}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>
  </div>`
}

function figureRow(metric: Metric, entries: readonly Entry[], baseline: Entry): Markup {
  const reasons = entries.map((entry) => incomparableReason(metric, entry, baseline))
  const best = bestOf(metric, rivalsOf(metric, entries, baseline))
  return html`<tr>
    <th scope="row">${metric.title}</th>
    ${entries.map((entry, index) => {
      const reading = metric.read(entry)
      const missing = metric.missing?.(entry) ?? null
      if (reading === null)
        return missing === null ? html`<td>—</td>` : html`<td class="not-comparable">not measured<span class="range">${missing}</span></td>`
      const reason = reasons[index] ?? null
      if (reason !== null)
        return html`<td class="not-comparable" title="Not comparable: ${reason}">
          ${printReading(metric, reading)}<span class="range">not comparable: ${reason}</span>
        </td>`
      const delta = entry === baseline ? null : differenceOf(metric, entry, baseline)
      return html`<td class="${best.has(index) ? 'best' : ''}">
        ${printReading(metric, reading)}${delta === null ? null : html`<span class="delta">${formatDifference(metric, delta)}</span>`}${reading.range === null ? null : html`<span class="range">${formatRange(metric, reading.range)}</span>`}
      </td>`
    })}
  </tr>`
}

const VERDICTS = { 'non-inferior': 'as good', worse: 'worse', inconclusive: 'can’t tell' } as const

function judgementsOf(entries: readonly Entry[], baseline: Entry): readonly Judgement[] {
  return entries.flatMap((entry) => (entry === baseline ? [] : boardJudgements(entry, baseline.model.id)))
}

function verdictsTable({ entries, baseline, source, judgements = judgementsOf(entries, baseline) }: ReportInput): Markup | null {
  const others = entries.filter((entry) => entry !== baseline)
  const tasks = [...new Map(judgements.map((judgement) => [judgement.task, judgement.title]))]
  const margin = judgements.find(({ paired }) => paired !== null)?.paired?.margin ?? null
  if (!judgements.some(({ paired }) => paired !== null)) return null
  return html`<h2>As good as ${entryTitle(baseline, source)}?</h2>
    <p class="muted">
      Non-inferiority on the same items${margin === null ? '' : `, allowed loss ${formatSignificant(margin * 100)} points`}, one-sided 95 %.
      Beside each difference: the smallest that so many items show with 80 % power.
    </p>
    <div class="wide">
      <table>
        <thead>
          <tr>
            <th scope="col">Task</th>
            ${others.map((entry) => html`<th scope="col">${entryTitle(entry, source)}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${tasks.map(
            ([task, title]) =>
              html`<tr>
                <th scope="row">${title}</th>
                ${others.map((entry) => {
                  const judgement = judgements.find((candidate) => candidate.task === task && candidate.modelId === entry.model.id)
                  const paired = judgement?.paired ?? null
                  if (judgement === undefined || paired === null || paired.verdict === null) return html`<td>—</td>`
                  const unit = (value: number): string => (judgement.isShare ? formatPoints(value, 1) : formatSignificant(value))
                  const detectable = paired.minimumDetectableDifference
                  return html`<td>
                    <span class="verdict ${paired.verdict}">${VERDICTS[paired.verdict]}</span
                    ><span class="range"
                      >${unit(paired.difference)} (${unit(paired.interval[0])} to ${unit(paired.interval[1])});
                      ${formatInteger(judgement.n)} items${detectable === null ? '' : `, detectable ${unit(detectable)}`}</span
                    >
                  </td>`
                })}
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`
}

function barsOf(metric: Metric, entries: readonly Entry[], baseline: Entry, source: Entry | undefined): Markup {
  const rows = entries.map((entry) => ({
    title: entryTitle(entry, source),
    series: entry.series,
    reading: metric.read(entry),
    reason: incomparableReason(metric, entry, baseline),
  }))
  const top = barTop(
    metric,
    rows.map((row) => (row.reason === null ? row.reading : null)),
  )
  const printed = rows.map(({ reading, ...row }) => ({
    ...row,
    value: reading?.value ?? null,
    text: reading === null ? null : printReading(metric, reading),
  }))
  return barChart({ metric, rows: printed, top })
}

function layersSection(entries: readonly Entry[], source: Entry | undefined): Markup | null {
  const measured = entries.filter((entry) => (entry.result?.tensorErrors.length ?? 0) > 0)
  if (measured.length === 0) return null
  return html`<h2>Error of every layer</h2>
    <p class="muted">SQNR of each stored tensor against its source; deeper is worse.</p>
    ${measured.map((entry) => {
      const errors = entry.result?.tensorErrors ?? []
      const worst = errors.toSorted((one, other) => other.relativeError - one.relativeError).slice(0, WORST)
      return html`<h3>${entryTitle(entry, source)}</h3>
        ${layerChart(errors)}
        <p class="muted">
          Worst:
          ${worst.map((error) => `${error.name} (${error.sqnrDb === null ? 'exact' : `${formatSignificant(error.sqnrDb)} dB`})`).join(', ')}
        </p>`
    })}`
}

function recipeOf({ model, ...entry }: Entry, source: Entry | undefined, run: Readonly<Record<string, unknown>> | null): Markup {
  const rows: readonly (readonly [string, string] | null)[] = [
    ...(model.origin === 'folder' ? weightsRows(model) : [originRow(model, entry.result)]),
    model.presetId === null ? null : ['Preset', model.presetId],
    ['Added', formatDateTime(model.createdAt)],
  ]
  return html`<h3>${entryTitle({ model, ...entry }, source)}</h3>
    <dl>
      ${rows.map((row) =>
        row === null
          ? null
          : html`<dt>${row[0]}</dt>
              <dd>${row[1]}</dd>`,
      )}
    </dl>
    ${
      run === null
        ? null
        : html`<details>
            <summary>Recipe and hashes</summary>
            <pre>${JSON.stringify(withoutPaths(run), null, 2)}</pre>
          </details>`
    }`
}

function weightsRows({ scheme, parameters, weightBytes }: Entry['model']): readonly (readonly [string, string])[] {
  return [
    ['Stored as', scheme],
    ['Parameters', formatInteger(parameters)],
    ['Weights', `${formatBytes(weightBytes)} (${formatInteger(weightBytes)} bytes)`],
  ]
}

/** Of weights elsewhere nothing is known but who was asked. */
function originRow({ origin }: Entry['model'], result: Entry['result']): readonly [string, string] {
  const from = Object.values(result?.provenance ?? {}).at(-1)
  if (origin === 'published') return ['Origin', 'a published results file']
  return ['Origin', from === undefined ? 'a server' : `a server, ${from.adapter.replace(/^remote: /, '')}, ${from.driver}`]
}

function provenanceLines(entries: readonly Entry[], source: Entry | undefined): readonly string[] {
  const nameOf = (part: string, parts: readonly string[]): string | null => {
    // "drift" is one of those that name their baseline.
    if (part === 'drift' && parts.some((other) => other.startsWith('drift:'))) return null
    const from = part.startsWith('drift:') ? entries.find(({ model }) => part === `drift:${model.id}`) : undefined
    return from === undefined ? part : `drift from ${entryTitle(from, source)}`
  }
  return entries.flatMap((entry) =>
    Object.entries(entry.result?.provenance ?? {}).flatMap(([part, from], _, all) => {
      const name = nameOf(
        part,
        all.map(([other]) => other),
      )
      if (name === null) return []
      return [
        `${entryTitle(entry, source)}, ${name}: ${from.adapter} (${from.adapterType}), ${from.driver}, Lathe ${from.latheVersion}, ${from.platform}, ${formatDateTime(from.measuredAt)}; ${entry.result?.protocolKeys[part] ?? ''}`,
      ]
    }),
  )
}
