/** The board's table as text to take away, Markdown or CSV; and saving a file. */
import type { Entry, Metric } from './metrics.ts'
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
      if (reading !== null) return metric.format(reading.value)
      return (metric.missing?.(entry) ?? null) === null ? '—' : 'not measured'
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

/** Hands the text to the browser's or the shell's download. */
export function saveFile(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }))
  const link = document.createElement('a')
  link.href = url
  link.download = name.replaceAll(/[\\/:*?"<>|]/g, '-')
  link.click()
  URL.revokeObjectURL(url)
}
