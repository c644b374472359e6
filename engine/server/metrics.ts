/**
 * A small Prometheus registry: counters, gauges, histograms, and the text exposition format 0.0.4. Series are created up front with value 0,
 * so that a scrape before the first request already shows them (specs/runtime.md §16). Which metrics a server has is `serving-metrics.ts`'s
 * business.
 */

export type Labels = Readonly<Record<string, string>>

/** One metric and its series. */
export interface Family {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly lines: () => string[]
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}="${escapeLabel(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

/** Prometheus spells infinities its own way; everything else is JavaScript's shortest form. */
function numberText(value: number): string {
  if (value === Infinity) return '+Inf'
  if (value === -Infinity) return '-Inf'
  return String(value)
}

export interface Counter {
  add(amount: number, labels?: Labels): void
  value(labels?: Labels): number
}

export interface Histogram {
  observe(value: number): void
  /** Number of observations. */
  count(): number
}

export class MetricsRegistry {
  readonly #families: Family[] = []
  readonly #common: Labels

  /** `common` labels stand on every series; a label value may not hold spaces, since load tools split lines on them. */
  constructor(common: Labels) {
    for (const [key, value] of Object.entries(common)) {
      if (/\s/.test(value)) throw new RangeError(`The metric label ${key} holds a space: "${value}"`)
    }
    this.#common = common
  }

  /** Exposed as `<name>_total`. `series` lists the label sets that exist from the start. */
  counter(name: string, help: string, series: readonly Labels[] = [{}]): Counter {
    const values = new Map<string, number>()
    const keyOf = (labels: Labels): string => labelText({ ...this.#common, ...labels })
    for (const labels of series) values.set(keyOf(labels), 0)
    this.#families.push({
      name: `${name}_total`,
      help,
      type: 'counter',
      lines: () => [...values].map(([labels, value]) => `${name}_total${labels} ${numberText(value)}`),
    })
    return {
      add: (amount, labels = {}) => {
        if (!(amount >= 0)) throw new RangeError(`A counter only grows; ${name} was given ${amount}`)
        const key = keyOf(labels)
        values.set(key, (values.get(key) ?? 0) + amount)
      },
      value: (labels = {}) => values.get(keyOf(labels)) ?? 0,
    }
  }

  /** A counter that somebody else keeps, read at each scrape. */
  counterFrom(name: string, help: string, read: () => number, labels: Labels = {}): void {
    const text = labelText({ ...this.#common, ...labels })
    this.#addLine(`${name}_total`, help, 'counter', () => `${name}_total${text} ${numberText(read())}`)
  }

  /** One line per entry of what is read at each scrape. */
  counters(name: string, help: string, read: () => readonly (readonly [Labels, number])[]): void {
    const lines = (): string[] =>
      read().map(([labels, value]) => `${name}_total${labelText({ ...this.#common, ...labels })} ${numberText(value)}`)
    this.#families.push({ name: `${name}_total`, help, type: 'counter', lines })
  }

  /** Read at each scrape. */
  gauge(name: string, help: string, read: () => number, labels: Labels = {}): void {
    const text = labelText({ ...this.#common, ...labels })
    this.#addLine(name, help, 'gauge', () => `${name}${text} ${numberText(read())}`)
  }

  /** Series of one name stand together, whenever they were added. */
  #addLine(name: string, help: string, type: 'counter' | 'gauge', line: () => string): void {
    const existing = this.#families.findIndex((family) => family.name === name)
    const family = this.#families[existing]
    if (family === undefined) this.#families.push({ name, help, type, lines: () => [line()] })
    else this.#families[existing] = { ...family, lines: () => [...family.lines(), line()] }
  }

  /** `bounds` ascending upper bounds, `+Inf` added. */
  histogram(name: string, help: string, bounds: readonly number[]): Histogram {
    const counts = Array.from({ length: bounds.length + 1 }, () => 0)
    let sum = 0
    this.#families.push({
      name,
      help,
      type: 'histogram',
      lines: () => {
        let cumulative = 0
        const buckets = [...bounds, Infinity].map((bound, index) => {
          cumulative += counts[index] ?? 0
          return `${name}_bucket${labelText({ ...this.#common, le: numberText(bound) })} ${cumulative}`
        })
        const labels = labelText(this.#common)
        return [...buckets, `${name}_sum${labels} ${numberText(sum)}`, `${name}_count${labels} ${cumulative}`]
      },
    })
    return {
      observe: (value) => {
        const at = bounds.findIndex((bound) => value <= bound)
        const index = at === -1 ? bounds.length : at
        counts[index] = (counts[index] ?? 0) + 1
        sum += value
      },
      count: () => counts.reduce((total, count) => total + count, 0),
    }
  }

  get families(): readonly Family[] {
    return this.#families
  }
}

/**
 * The whole scrape, ending in a newline as the format demands. Several registries may have the same families: each is described once, with the
 * series of all of them together.
 */
export function exposition(registries: readonly MetricsRegistry[]): string {
  const byName = Map.groupBy(
    registries.flatMap((registry) => registry.families),
    (family) => family.name,
  )
  const lines = [...byName].flatMap(([name, families]) => [
    `# HELP ${name} ${families[0]?.help ?? ''}`,
    `# TYPE ${name} ${families[0]?.type ?? 'untyped'}`,
    ...families.flatMap((family) => family.lines()),
  ])
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`
}

export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'
