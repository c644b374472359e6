/**
 * Reads the Prometheus text exposition format 0.0.4, and as much of OpenMetrics as servers mix into it (exemplars, `# EOF`). The text comes from
 * another machine and is hostile until read: bounded in lines and label count, every number checked. Knows no metric by name.
 */
import { LatheError } from '../contract/errors.ts'

export interface Series {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** Series by metric name; histograms appear as their `_bucket`, `_sum` and `_count`. */
export type Scrape = ReadonlyMap<string, readonly Series[]>

/** A vLLM server of many engines has some thousands of series. */
const MOST_SERIES = 200_000
const MOST_LABELS = 64
const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*/
const LABEL = /^[a-zA-Z_][a-zA-Z0-9_]*/

/** Throws `monitor.invalid-metrics` naming the line. */
export function parsePrometheus(text: string): Scrape {
  const scrape = new Map<string, Series[]>()
  let count = 0
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const { name, series } = readSeries(line, index + 1)
    count += 1
    if (count > MOST_SERIES) throw invalid(index + 1, `there are more than ${MOST_SERIES} series`)
    const family = scrape.get(name)
    if (family === undefined) scrape.set(name, [series])
    else family.push(series)
  }
  return scrape
}

function readSeries(line: string, number: number): { readonly name: string; readonly series: Series } {
  const name = NAME.exec(line)?.[0]
  if (name === undefined) throw invalid(number, 'no metric name at its start')
  let at = name.length
  let labels: Record<string, string> = {}
  const brace = skipSpaces(line, at)
  if (line[brace] === '{') {
    const read = readLabels(line, brace + 1, number)
    labels = read.labels
    at = read.end
  }
  // after the value may come a timestamp, and after "#" an exemplar
  const [value = ''] = line.slice(at).trim().split(/\s+/)
  return { name, series: { labels, value: readNumber(value, number) } }
}

function readLabels(line: string, start: number, number: number): { readonly labels: Record<string, string>; readonly end: number } {
  const pairs: [string, string][] = []
  let at = skipSpaces(line, start)
  while (line[at] !== '}') {
    const name = LABEL.exec(line.slice(at))?.[0]
    if (name === undefined) throw invalid(number, 'a label has no name')
    at = skipSpaces(line, at + name.length)
    if (line[at] !== '=') throw invalid(number, `the label ${name} has no value`)
    at = skipSpaces(line, at + 1)
    if (line[at] !== '"') throw invalid(number, `the label ${name} is not quoted`)
    const { text, end } = readQuoted(line, at + 1, number)
    pairs.push([name, text])
    if (pairs.length > MOST_LABELS) throw invalid(number, `there are more than ${MOST_LABELS} labels`)
    at = skipSpaces(line, end)
    if (line[at] === ',') at = skipSpaces(line, at + 1)
    else if (line[at] !== '}') throw invalid(number, 'the labels do not end')
  }
  return { labels: Object.fromEntries(pairs), end: at + 1 }
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', '\\': '\\', '"': '"' }

function readQuoted(line: string, start: number, number: number): { readonly text: string; readonly end: number } {
  let text = ''
  for (let at = start; at < line.length; at++) {
    const character = line[at]
    if (character === '"') return { text, end: at + 1 }
    if (character === '\\') {
      at += 1
      const escaped = line[at]
      // an unknown escape stands for itself, as Prometheus reads it
      text += escaped === undefined ? '' : (ESCAPES[escaped] ?? `\\${escaped}`)
    } else {
      text += character
    }
  }
  throw invalid(number, 'a label value does not end')
}

function readNumber(text: string, number: number): number {
  if (/^[+-]?inf$/i.test(text)) return text.startsWith('-') ? -Infinity : Infinity
  if (/^nan$/i.test(text)) return Number.NaN
  const value = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN
  if (Number.isNaN(value)) throw invalid(number, `"${text.slice(0, 40)}" is no number`)
  return value
}

function skipSpaces(line: string, start: number): number {
  let at = start
  while (line[at] === ' ' || line[at] === '\t') at += 1
  return at
}

function invalid(line: number, what: string): LatheError {
  return new LatheError(
    'monitor.invalid-metrics',
    `The server's metrics can't be read: in line ${line}, ${what}.`,
    'Check that the address is that of a /metrics page in the Prometheus text format.',
  )
}
