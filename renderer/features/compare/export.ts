/** The board's table as text to take away, Markdown or CSV; and saving a file. */
import { formatRange, incomparableReason, printReading, type Entry, type Metric } from './metrics.ts'
import { entryTitle } from './series.tsx'

interface TableInput {
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
  readonly metrics: readonly Metric[]
}

/** What stands under the table: cells that are marked, and why. */
class Footnotes {
  readonly #texts: string[] = []

  /** The mark; equal texts share one. */
  mark(text: string): string {
    const known = this.#texts.indexOf(text)
    const number = known >= 0 ? known + 1 : this.#texts.push(text)
    return ` [${number}]`
  }

  get lines(): readonly string[] {
    return this.#texts.map((text, index) => `[${index + 1}] ${text}`)
  }
}

function printedCell(metric: Metric, entry: Entry, baseline: Entry, notes: Footnotes): string {
  const reading = metric.read(entry)
  const missing = metric.missing?.(entry) ?? null
  if (reading === null) return missing === null ? '—' : `not measured${notes.mark(`Not measured: ${missing}`)}`
  const reason = incomparableReason(metric, entry, baseline)
  const range = reading.range === null ? '' : ` (${formatRange(metric, reading.range)})`
  return `${printReading(metric, reading)}${range}${reason === null ? '' : notes.mark(`Not comparable: ${reason}.`)}`
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
  const { entries, baseline, metrics } = table
  const notes = new Footnotes()
  const rows = metrics.map((metric) => [metric.title, ...entries.map((entry) => printedCell(metric, entry, baseline, notes))])
  const header = ['Metric', ...table.entries.map((entry) => entryTitle(entry, table.source))]
  return [
    markdownLine(header),
    markdownLine(header.map((_, index) => (index === 0 ? ':--' : '--:'))),
    ...rows.map(markdownLine),
    ...notes.lines.flatMap((line) => ['', line]),
  ].join('\n')
}

/**
 * Numbers as they are, not as they are printed; units are the metric's base units (bytes, tokens per second, milliseconds, fractions). The last column
 * names the entries whose number must not be compared with the baseline's, and why.
 */
export function toCsv({ entries, baseline, source, metrics }: TableInput): string {
  const rows = metrics.map((metric) => {
    const notes = entries.flatMap((entry) => {
      const reason = metric.read(entry) === null ? null : incomparableReason(metric, entry, baseline)
      return reason === null ? [] : [`${entryTitle(entry, source)}: ${reason}`]
    })
    return [quoteCsv(metric.id), ...entries.map((entry) => metric.read(entry)?.value.toString() ?? ''), quoteCsv(notes.join('; '))].join(
      ',',
    )
  })
  const head = ['metric', ...entries.map((entry) => entryTitle(entry, source)), 'not comparable']
  return [head.map(quoteCsv).join(','), ...rows].join('\n')
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
