/** Numbers and tables for a terminal. */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const

/** Three significant digits, never in powers of ten: "9.31", "1,480". */
export function formatSignificant(value: number): string {
  const text = value.toPrecision(3)
  return text.includes('e+') ? Number(text).toLocaleString('en-US') : text
}

/** Decimal units as disks have them, three significant digits: "9.31 MB". */
export function formatBytes(bytes: number): string {
  const exponent = bytes < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(bytes) / 3))
  const value = bytes / 1000 ** exponent
  return `${exponent === 0 ? value : formatSignificant(value)} ${UNITS[exponent]}`
}

export function formatCount(count: number): string {
  if (count < 1e6) return count.toLocaleString('en-US')
  return count < 1e9 ? `${formatSignificant(count / 1e6)} M` : `${formatSignificant(count / 1e9)} B`
}

export function formatSeconds(seconds: number): string {
  if (seconds < 60) return `${seconds.toPrecision(3)} s`
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`
}

/** Columns padded to their widest cell; the first row is the head. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths: number[] = []
  for (const row of rows) for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length)
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** "name  value" lines. */
export function formatFacts(facts: readonly (readonly [string, string])[]): string {
  return formatTable(facts)
}
