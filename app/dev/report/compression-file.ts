/**
 * What the compression table has measured so far: one JSON line per row, appended as it is measured, so that an interrupted run goes on where it
 * stopped, and the table is printed from the file alone. Knows neither models nor devices.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { wilsonInterval } from '../../../engine/evaluate/statistics.ts'
import type { LossTable } from '../../../engine/compress/mixed-precision/scheme-map.ts'

/** Rows of equal settings stand in one table. */
export interface TableSettings {
  readonly windows: number
  readonly window: number
  readonly items: number
  readonly samples: number
  readonly sequenceLength: number
}

export interface MeasuredRow {
  readonly kind: 'row'
  readonly model: string
  readonly settings: TableSettings
  /** The adapter's id, and whether it is software. */
  readonly device: string
  readonly software: boolean
  /** Rows measured at the same time on the machine, this one included: they share its cores and its adapter. */
  readonly atOnce: number
  readonly group: string
  readonly name: string
  readonly bytes: number
  readonly perplexity: number
  readonly kld: number
  readonly agreement: number
  /** Per task item '1' where the answer was right; empty without tasks. */
  readonly right: string
  /** null for the original. */
  readonly seconds: number | null
  readonly rssBytes: number | null
  readonly gpuBytes: number | null
}

/** Losses of single units, from which automatic maps are chosen. */
export interface MeasuredLosses {
  readonly kind: 'losses'
  readonly model: string
  readonly settings: TableSettings
  readonly seconds: number
  readonly table: LossTable
}

/** A row that could not be run, and why; tried again by the next run. */
export interface FailedRow {
  readonly kind: 'failed'
  readonly model: string
  readonly settings: TableSettings
  readonly group: string
  readonly name: string
  readonly reason: string
}

export type TableRecord = MeasuredRow | MeasuredLosses | FailedRow

function keyOf(record: TableRecord): string {
  const name = record.kind === 'losses' ? 'losses' : `${record.group} ${record.name}`
  return JSON.stringify([record.model, Object.entries(record.settings).sort(([a], [b]) => (a < b ? -1 : 1)), name])
}

export class RowsFile {
  readonly #path: string | null
  readonly #records = new Map<string, TableRecord>()

  /** Reads what is there; null keeps rows in memory only. A last line that a kill cut off is ignored. */
  constructor(path: string | null) {
    this.#path = path
    if (path === null || !existsSync(path)) return
    const text = readFileSync(path, 'utf8')
    for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) if (line !== '') this.#keep(JSON.parse(line) as TableRecord)
    if (text !== '' && !text.endsWith('\n')) appendFileSync(path, '\n')
  }

  get records(): readonly TableRecord[] {
    return [...this.#records.values()]
  }

  add(record: TableRecord): void {
    this.#keep(record)
    if (this.#path !== null) appendFileSync(this.#path, `${JSON.stringify(record)}\n`)
  }

  row(model: string, settings: TableSettings, group: string, name: string): MeasuredRow | null {
    const found = this.#records.get(keyOf({ kind: 'failed', model, settings, group, name, reason: '' }))
    return found?.kind === 'row' ? found : null
  }

  losses(model: string, settings: TableSettings): LossTable | null {
    const empty = { units: [], losses: [] }
    const found = this.#records.get(keyOf({ kind: 'losses', model, settings, seconds: 0, table: empty }))
    return found?.kind === 'losses' ? found.table : null
  }

  #keep(record: TableRecord): void {
    const key = keyOf(record)
    // A failure never hides a figure that an earlier run measured.
    if (record.kind === 'failed' && this.#records.get(key)?.kind === 'row') return
    this.#records.set(key, record)
  }
}

function megabytes(bytes: number | null, digits = 0): string {
  return bytes === null ? '—' : (bytes / 1e6).toFixed(digits)
}

function percent(value: number): string {
  return (100 * value).toFixed(1)
}

/** Markdown, one table per model and settings, in the order of `order` (names of rows); rows it does not name come last. */
export function printTables(records: readonly TableRecord[], order: (model: string) => readonly string[]): string {
  const lines: string[] = []
  const sections = Map.groupBy(records, ({ model, settings }) => JSON.stringify([model, settings]))
  for (const section of sections.values()) {
    const [first] = section
    if (first === undefined) continue
    const wanted = order(first.model)
    const place = ({ group, name }: { group: string; name: string }): number => {
      const at = wanted.indexOf(`${group} ${name}`)
      return at === -1 ? wanted.length : at
    }
    const rows = section.filter((record) => record.kind === 'row').toSorted((a, b) => place(a) - place(b))
    const original = rows.find(({ group }) => group === 'Original') ?? null
    lines.push(...header(first.model, first.settings, rows), ...rows.map((row) => tableLine(row, original)), '')
    for (const record of section) {
      if (record.kind === 'failed') lines.push(`Not measured: ${record.group} ${record.name}: ${record.reason}`, '')
      if (record.kind === 'losses')
        lines.push(`Losses of ${record.table.units.length} units for the automatic maps: ${record.seconds.toFixed(0)} s.`, '')
    }
  }
  return lines.join('\n')
}

function header(model: string, settings: TableSettings, rows: readonly MeasuredRow[]): readonly string[] {
  const items = rows.find(({ right }) => right !== '')?.right.length ?? 0
  const devices = [...new Set(rows.map(({ device, software }) => `${device}${software ? ' (software)' : ''}`))].join(', ')
  const most = Math.max(1, ...rows.map(({ atOnce }) => atOnce))
  const { windows, window, samples, sequenceLength } = settings
  return [
    `### ${model}`,
    '',
    `${devices}; perplexity over at most ${windows} windows of ${window}${items > 0 ? `; ${items} task items` : ''}; calibrated on at most ${samples} samples of ${sequenceLength} tokens${most > 1 ? `; up to ${most} rows at a time` : ''}.`,
    '',
    `| scheme | algorithm | MB | perplexity | KLD (nats) | top-1 |${items > 0 ? ' tasks [95 %] | recovery |' : ''} seconds | peak RSS MB | device MB |`,
    `|---|---|--:|--:|--:|--:|${items > 0 ? '--:|--:|' : ''}--:|--:|--:|`,
  ]
}

function tableLine(row: MeasuredRow, original: MeasuredRow | null): string {
  let tasks = ''
  if (row.right !== '') {
    const correct = rightOf(row)
    const [low, high] = wilsonInterval(correct, row.right.length)
    const recovery = original === null || rightOf(original) === 0 ? '—' : `${percent(correct / rightOf(original))} %`
    tasks = ` ${percent(correct / row.right.length)} [${percent(low)}, ${percent(high)}] | ${recovery} |`
  }
  const seconds = row.seconds === null ? '—' : row.seconds.toFixed(1)
  return `| ${row.group} | ${row.name} | ${megabytes(row.bytes, 2)} | ${row.perplexity.toFixed(4)} | ${row.kld.toFixed(5)} | ${(100 * row.agreement).toFixed(2)} % |${tasks} ${seconds} | ${megabytes(row.rssBytes)} | ${megabytes(row.gpuBytes)} |`
}

function rightOf({ right }: MeasuredRow): number {
  let count = 0
  for (const answer of right) if (answer === '1') count++
  return count
}
