/**
 * How Lathe writes numbers: three significant digits, decimal units for disks as operating systems show them, binary units for memory.
 * Plain functions from numbers to text; components in ui/numbers.tsx give them their looks.
 */

export const MISSING = '—'

const DECIMAL_UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'] as const
const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const
const COUNT_UNITS = ['', ' K', ' M', ' B', ' T'] as const

const integerFormat = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 })

/** Three significant digits below 1000, grouped integers above, so that 12345 stays exact enough to compare. */
export function formatSignificant(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return MISSING
  const magnitude = Math.abs(value)
  if (magnitude === 0) return '0'
  // 999.6 would round up to four digits: hand it to the integer format as well.
  if (magnitude >= 10 ** digits - 0.5) return integerFormat.format(value)
  if (magnitude < 1e-4) return value.toExponential(1).replace('e-', 'e−').replace('-', '−')
  return value.toPrecision(digits).replace('-', '−')
}

function scale(value: number, base: number, units: readonly string[]): { value: number; unit: string } {
  let scaled = value
  let index = 0
  // The half keeps 999.7 kB from being printed as "1,000 kB".
  while (Math.abs(scaled) >= base - 0.5 && index < units.length - 1) {
    scaled /= base
    index += 1
  }
  return { value: scaled, unit: units[index] ?? '' }
}

export type BytesKind = 'disk' | 'memory'

export function formatBytes(bytes: number, kind: BytesKind = 'disk'): string {
  if (!Number.isFinite(bytes)) return MISSING
  const scaled = kind === 'disk' ? scale(bytes, 1000, DECIMAL_UNITS) : scale(bytes, 1024, BINARY_UNITS)
  const text = scaled.unit === 'B' ? integerFormat.format(scaled.value) : formatSignificant(scaled.value)
  return `${text} ${scaled.unit}`
}

/** Compact counts for parameters: 4.72 M, 1.24 B. */
export function formatCount(count: number): string {
  return formatCountTo(count, 3)
}

/** The same with another number of significant digits: 4.7 M. */
export function formatCountTo(count: number, digits: number): string {
  if (!Number.isFinite(count)) return MISSING
  if (Math.abs(count) < 1000) return integerFormat.format(count)
  const scaled = scale(count, 1000, COUNT_UNITS)
  return `${formatSignificant(scaled.value, digits)}${scaled.unit}`
}

/** Exact counts with separators: 151,936. */
export function formatInteger(count: number): string {
  return Number.isFinite(count) ? integerFormat.format(count) : MISSING
}

export function formatRate(value: number, unit: string): string {
  if (unit === 'B/s' || unit === 'bytes/s') return `${formatBytes(value, 'disk')}/s`
  return `${formatSignificant(value)} ${unit}`
}

/** Elapsed time as it is read aloud: 840 ms, 12.4 s, 3 min 05 s, 2 h 14 min. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return MISSING
  if (seconds < 0.9995) return `${formatSignificant(seconds * 1000)} ms`
  if (seconds < 59.95) return `${seconds < 9.95 ? seconds.toFixed(1) : Math.round(seconds)} s`
  const whole = Math.round(seconds)
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')} min`
}

/** A promise about the future is rounded until it cannot be wrong by much: "about 4 min left". */
export function formatEta(seconds: number): string {
  if (!Number.isFinite(seconds)) return ''
  if (seconds < 8) return 'a few seconds left'
  if (seconds < 55) return `about ${Math.ceil(seconds / 10) * 10} s left`
  if (seconds < 100) return 'about a minute left'
  if (seconds < 3300) return `about ${Math.round(seconds / 60)} min left`
  const hours = seconds / 3600
  return hours < 1.25 ? 'about an hour left' : `about ${hours < 10 ? (Math.round(hours * 2) / 2).toString() : Math.round(hours)} h left`
}

/** 0.9471 → "94.7 %". */
export function formatPercent(fraction: number, fractionDigits = 1): string {
  if (!Number.isFinite(fraction)) return MISSING
  return `${(fraction * 100).toFixed(fractionDigits).replace('-', '−')} %`
}

/** A difference of shares: 0.025 → "2.50 pp", with a true minus sign. */
export function formatPoints(fraction: number, fractionDigits = 2): string {
  return `${(fraction * 100).toFixed(fractionDigits).replace('-', '−')} pp`
}

/** Always signed, with a true minus sign; an exact zero is "±0". */
export function formatDelta(value: number, format: (magnitude: number) => string = formatSignificant): string {
  if (!Number.isFinite(value)) return MISSING
  if (value === 0) return '±0'
  return `${value > 0 ? '+' : '−'}${format(Math.abs(value))}`
}

const RELATIVE_STEPS: readonly (readonly [limitSeconds: number, divisor: number, unit: Intl.RelativeTimeFormatUnit])[] = [
  [3600, 60, 'minute'],
  [86_400, 3600, 'hour'],
  [2_592_000, 86_400, 'day'],
  [31_536_000, 2_592_000, 'month'],
  [Number.POSITIVE_INFINITY, 31_536_000, 'year'],
]
const relativeFormat = new Intl.RelativeTimeFormat('en', { numeric: 'auto' })

export function formatRelativeTime(iso: string, nowMs: number): string {
  const seconds = (nowMs - Date.parse(iso)) / 1000
  if (!Number.isFinite(seconds)) return MISSING
  if (seconds < 45) return 'just now'
  for (const [limit, divisor, unit] of RELATIVE_STEPS) {
    if (seconds < limit) return relativeFormat.format(-Math.max(1, Math.round(seconds / divisor)), unit)
  }
  return MISSING
}

const clockFormat = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })
const dateTimeFormat = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'short' })

export function formatDateTime(iso: string): string {
  const time = Date.parse(iso)
  return Number.isFinite(time) ? dateTimeFormat.format(time) : MISSING
}

/** "22:37:05": for lines that follow each other within a second or a day. */
export function formatClock(iso: string): string {
  const time = Date.parse(iso)
  return Number.isFinite(time) ? clockFormat.format(time) : MISSING
}

/** "1 tensor", "3 tensors", "2 bodies": the plural is given where an s is not enough. */
export function plural(count: number, singular: string, pluralForm = `${singular}s`): string {
  return `${integerFormat.format(count)} ${count === 1 ? singular : pluralForm}`
}
