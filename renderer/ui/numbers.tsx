/**
 * Every number on screen goes through one of these: tabular figures, one way of rounding, a unit in a quieter tone, "—" for what is missing.
 * A measurement takes `provenance` and shows it on hover; an estimate takes `estimate` (its source) and looks different.
 */
import type { ReactNode } from 'react'
import type { Estimate, Provenance } from '../../engine/contract/index.ts'
import { classNames } from '../lib/class-names.ts'
import {
  MISSING,
  formatBytes,
  formatCount,
  formatCountTo,
  formatDateTime,
  formatDelta,
  formatDuration,
  formatInteger,
  formatPercent,
  formatRate,
  formatSignificant,
  type BytesKind,
} from '../lib/format.ts'
import { Info } from './info.tsx'
import styles from './numbers.module.css'

export interface MeasuredWith {
  readonly provenance: Provenance
  /** Further facts for the card, e.g. {Samples: "5 runs, 1 warm-up"}. */
  readonly details?: Readonly<Record<string, string>>
}

export interface FigureProps {
  /** How an estimate was obtained, e.g. "formula". Absent for measurements. */
  readonly estimate?: string | undefined
  readonly measured?: MeasuredWith | undefined
  /** Why there is no value, shown as "n/a". */
  readonly reason?: string | undefined
  readonly className?: string | undefined
}

/** The common frame: `text` is a formatted number, its unit split off at the last space. */
export function Figure({ text, estimate, measured, reason, className }: FigureProps & { readonly text: string | null }) {
  if (text === null || text === MISSING) {
    if (reason === undefined) return <span className={classNames(styles.missing, className)}>{MISSING}</span>
    return (
      <Info card={reason} className={styles.missing} label={`Not available: ${reason}`}>
        n/a
      </Info>
    )
  }
  const value = <FigureText text={estimate === undefined ? text : `≈ ${text}`} />
  const classes = classNames(styles.figure, estimate !== undefined && styles.estimate, className)
  if (measured !== undefined) {
    return (
      <Info className={classes} card={<ProvenanceCard {...measured} />}>
        {value}
      </Info>
    )
  }
  if (estimate !== undefined) {
    return (
      <Info
        className={classes}
        card={
          <>
            <strong>Estimate</strong>, not measured. Source: {estimate}.
          </>
        }
      >
        {value}
      </Info>
    )
  }
  return <span className={classes}>{value}</span>
}

function FigureText({ text }: { readonly text: string }): ReactNode {
  const match = /^(.*\d) (\D+)$/.exec(text)
  if (match === null) return text
  return (
    <>
      {match[1]}
      <span className={styles.unit}> {match[2]}</span>
    </>
  )
}

/** Where it ran: a device and its driver here, or a server and what it says of itself. */
function deviceRows({ adapter, adapterType, driver }: MeasuredWith['provenance']): Record<string, string> {
  const address = /^remote: (.*)$/.exec(adapter)?.[1]
  if (address !== undefined) return { Server: address, ...(driver === '' ? {} : { 'Model there': driver }) }
  return { Device: adapterType === 'software' ? `${adapter} (software adapter)` : adapter, Driver: driver }
}

export function ProvenanceCard({ provenance, details = {} }: MeasuredWith) {
  const rows = {
    ...deviceRows(provenance),
    ...details,
    Measured: formatDateTime(provenance.measuredAt),
    Lathe: `${provenance.latheVersion} on ${provenance.platform}`,
  }
  return (
    <>
      <strong>Measured</strong>
      <dl className={styles.provenance}>
        {Object.entries(rows).map(([name, value]) => (
          <div key={name} style={{ display: 'contents' }}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </>
  )
}

type Maybe = number | null | undefined

function textOr(value: Maybe, format: (value: number) => string): string | null {
  return value === null || value === undefined ? null : format(value)
}

export function Bytes({ value, kind = 'disk', ...figure }: FigureProps & { readonly value: Maybe; readonly kind?: BytesKind }) {
  return <Figure text={textOr(value, (bytes) => formatBytes(bytes, kind))} {...figure} />
}

/** Compact by default (4.72 M); `exact` writes every digit. */
export function Count({ value, exact = false, ...figure }: FigureProps & { readonly value: Maybe; readonly exact?: boolean }) {
  return <Figure text={textOr(value, exact ? formatInteger : formatCount)} {...figure} />
}

export function Rate({ value, unit = 'tok/s', ...figure }: FigureProps & { readonly value: Maybe; readonly unit?: string }) {
  return <Figure text={textOr(value, (rate) => formatRate(rate, unit))} {...figure} />
}

export function Duration({ seconds, ...figure }: FigureProps & { readonly seconds: Maybe }) {
  return <Figure text={textOr(seconds, formatDuration)} {...figure} />
}

export function Percent({ fraction, digits = 1, ...figure }: FigureProps & { readonly fraction: Maybe; readonly digits?: number }) {
  return <Figure text={textOr(fraction, (value) => formatPercent(value, digits))} {...figure} />
}

export function Significant({
  value,
  unit,
  digits = 3,
  ...figure
}: FigureProps & { readonly value: Maybe; readonly unit?: string; readonly digits?: number }) {
  return (
    <Figure
      text={textOr(value, (number) =>
        unit === undefined ? formatSignificant(number, digits) : `${formatSignificant(number, digits)} ${unit}`,
      )}
      {...figure}
    />
  )
}

/** From here on seven figures and a unit would not fit where a range stands. */
const COMPACT_FROM = 100_000

function twoDigits(value: number): string {
  if (value >= COMPACT_FROM) return formatCountTo(Number(value.toPrecision(2)), 2)
  return formatSignificant(Number(value.toPrecision(2)), value < 99.5 ? 2 : 3)
}

/** Both ends of an estimate, two digits each: more would promise too much. */
export function EstimateRange({
  value,
  unit,
  source,
}: {
  readonly value: Estimate | null
  readonly unit: string
  readonly source: string
}) {
  const text = value === null ? null : `${twoDigits(value.low)}–${twoDigits(value.high)}${unit === '' ? '' : ` ${unit}`}`
  return <Figure text={text} estimate={source} />
}

/** A signed difference. Colour only where one direction is better; the sign says the same without it. */
export function Delta({
  value,
  format = formatSignificant,
  better,
  ...figure
}: FigureProps & { readonly value: Maybe; readonly format?: (magnitude: number) => string; readonly better?: 'up' | 'down' }) {
  const direction = value === null || value === undefined || value === 0 || better === undefined ? null : value > 0 === (better === 'up')
  return (
    <Figure
      text={textOr(value, (number) => formatDelta(number, format))}
      {...figure}
      className={classNames(figure.className, direction === true && styles.better, direction === false && styles.worse)}
    />
  )
}
