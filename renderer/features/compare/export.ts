/** The board as text to take away: Markdown, CSV, JSON, and one self-contained web page without scripts. Pure functions, and one that saves a file. */
import { formatDateTime } from '../../lib/format.ts'
import { metricsOf, type Entry, type Metric } from './metrics.ts'
import { entryTitle } from './series.tsx'

interface TableInput {
  readonly entries: readonly Entry[]
  readonly source: Entry | undefined
  readonly metrics: readonly Metric[]
}

function printedRows({ entries, metrics }: TableInput): readonly (readonly string[])[] {
  return metrics.map((metric) => [
    metric.title,
    ...entries.map((entry) => {
      const reading = metric.read(entry)
      return reading === null ? '—' : metric.format(reading.value)
    }),
  ])
}

function escapeMarkdown(cell: string): string {
  return cell.replaceAll('|', '\\|')
}

function markdownLine(cells: readonly string[]): string {
  return `| ${cells.map(escapeMarkdown).join(' | ')} |`
}

/** A leading =, +, - or @ would be run as a formula by a spreadsheet. */
function quoteCsv(cell: string): string {
  return `"${(/^[=+\-@]/.test(cell) ? `'${cell}` : cell).replaceAll('"', '""')}"`
}

export function toMarkdown(table: TableInput): string {
  const header = ['Metric', ...table.entries.map((entry) => entryTitle(entry, table.source))]
  return [
    markdownLine(header),
    markdownLine(header.map((_, index) => (index === 0 ? ':--' : '--:'))),
    ...printedRows(table).map(markdownLine),
  ].join('\n')
}

/** Numbers as they are, not as they are printed; units are the metric's base units (bytes, tokens per second, milliseconds, fractions). */
export function toCsv({ entries, source, metrics }: TableInput): string {
  const rows = metrics.map((metric) =>
    [quoteCsv(metric.id), ...entries.map((entry) => metric.read(entry)?.value.toString() ?? '')].join(','),
  )
  return [['"metric"', ...entries.map((entry) => quoteCsv(entryTitle(entry, source)))].join(','), ...rows].join('\n')
}

interface Report {
  readonly name: string
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
}

/** Everything measured, with protocol and provenance, so that it can be checked or drawn again. Paths stay at home. */
export function reportJson({ name, entries, baseline }: Report): string {
  return JSON.stringify(
    {
      format: 'lathe-comparison',
      version: 1,
      model: name,
      baseline: baseline.model.name,
      models: entries.map(({ model: { path: _path, ...model }, result }) => ({ ...model, result })),
    },
    null,
    2,
  )
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}

export function reportHtml(report: Report): string {
  const { name, entries, source } = report
  const table = { entries, source, metrics: metricsOf(entries).filter((metric) => entries.some((entry) => metric.read(entry) !== null)) }
  const cell = (text: string, tag: 'td' | 'th') => `<${tag}>${escapeHtml(text)}</${tag}>`
  const header = ['Metric', ...entries.map((entry) => entryTitle(entry, source))].map((text) => cell(text, 'th')).join('')
  const rows = printedRows(table)
    .map((cells) => `<tr>${cells.map((text, index) => cell(text, index === 0 ? 'th' : 'td')).join('')}</tr>`)
    .join('\n')
  const provenance = [
    ...new Set(
      entries.flatMap((entry) =>
        Object.entries(entry.result?.provenance ?? {}).map(
          ([part, from]) =>
            `${entryTitle(entry, source)}, ${part}: ${from.adapter} (${from.adapterType}), ${from.driver}, Lathe ${from.latheVersion}, ${formatDateTime(from.measuredAt)}`,
        ),
      ),
    ),
  ]
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${escapeHtml(name)}: comparison</title>
<style>body{font:14px/1.5 system-ui,sans-serif;max-width:60rem;margin:3rem auto;padding:0 1rem;color:#1b1f27}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .6rem;border-bottom:1px solid #dfe2e7;text-align:right}th:first-child{text-align:left;font-weight:500}thead th{font-weight:600}li,pre{color:#5a616d;font-size:12px}pre{white-space:pre-wrap;overflow-wrap:anywhere}</style></head>
<body><h1>${escapeHtml(name)}: comparison</h1><table><thead><tr>${header}</tr></thead><tbody>
${rows}
</tbody></table><h2>Where the figures come from</h2><ul>${provenance.map((line) => `<li>${escapeHtml(line)}</li>`).join('')}</ul>
<details><summary>Data</summary><pre>${escapeHtml(reportJson(report))}</pre></details></body></html>
`
}

/** Hands the text to the browser's or the shell's download. */
export function saveFile(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }))
  const link = document.createElement('a')
  link.href = url
  link.download = name.replaceAll(/[\\/:*?"<>|]/g, '-')
  link.click()
  URL.revokeObjectURL(url)
}
