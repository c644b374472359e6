/**
 * How near a model stays to another, and how well it predicts: the metrics of the evaluation text. Perplexities meet only where the same tokens were
 * read, bits per byte where the same bytes were; drift is from the pinned baseline where anybody was measured from it, else from the original. What two
 * engines tell of their most probable tokens is a lower bound of the divergence, and is never put beside a whole one.
 */
import type { DriftResult } from '../../../engine/contract/index.ts'
import { formatInteger, formatPercent, formatSignificant, formatPoints } from '../../lib/format.ts'
import type { Entry, Metric, Reading } from './metrics.ts'
import { fact, measured, Z_95 } from './reading.ts'
import { protocolReason } from './same-protocol.ts'

export function qualityMetrics(entries: readonly Entry[], baseline: Entry | undefined): readonly Metric[] {
  const reference = driftReference(entries, baseline)
  return [perplexityMetric(reference), bitsPerByteMetric(), ...driftMetrics(entries, reference)]
}

/** Whom the board's drift is measured from: the pinned baseline where anybody was, else the original (null). */
export function driftReference(entries: readonly Entry[], baseline: Entry | undefined): Entry | null {
  if (baseline === undefined || baseline.isSource) return null
  return entries.some((entry) => entry !== baseline && driftFrom(entry, baseline) !== null) ? baseline : null
}

/** null = from the original. */
export function driftFrom(entry: Entry, reference: Entry | null): DriftResult | null {
  if (reference === null || reference.isSource) return entry.result?.drift ?? null
  return entry.result?.drifts?.find(({ baselineId }) => baselineId === reference.model.id) ?? null
}

function perplexityMetric(reference: Entry | null): Metric {
  return {
    id: 'perplexity',
    title: 'Perplexity',
    group: 'Quality',
    term: 'perplexity',
    better: 'down',
    format: (value) => formatSignificant(value, 4),
    delta: 'absolute',
    protocol: 'perplexity',
    perAdapter: false,
    incomparable: (entry, baseline) => windowsReason(entry, baseline) ?? tokensReason(entry, baseline),
    read: (entry) => {
      const perplexity = entry.result?.perplexity ?? null
      if (perplexity === null) return null
      const { value, standardError } = perplexity
      return measured(entry, 'perplexity', value, {
        // The standard error is of ln(perplexity), so the interval is a ratio.
        range:
          value === null || standardError === null
            ? null
            : [value * Math.exp(-Z_95 * standardError), value * Math.exp(Z_95 * standardError)],
        rangeMeaning: '95 %, bootstrap over windows',
        details: { ...textDetails(entry), ...ratioDetails(driftFrom(entry, reference), reference) },
      })
    },
  }
}

function bitsPerByteMetric(): Metric {
  return {
    id: 'bits-per-byte',
    title: 'Bits per byte',
    group: 'Quality',
    term: 'bits-per-byte',
    better: 'down',
    format: (value) => formatSignificant(value, 4),
    delta: 'absolute',
    protocol: 'perplexity',
    perAdapter: false,
    // Another tokenizer is no matter where the same bytes were scored.
    incomparable: (entry, baseline) => windowsReason(entry, baseline) ?? bytesReason(entry, baseline),
    read: (entry) => {
      const { bitsPerByte = null, standardError = null, tokens = 0, bytes = 0 } = entry.result?.perplexity ?? {}
      // The error is of the mean log-likelihood of a token, in nats.
      const error = standardError === null || bytes === 0 ? null : (standardError * tokens) / bytes / Math.LN2
      return measured(entry, 'perplexity', bitsPerByte, {
        range: rangeOf(bitsPerByte, error, [0, Infinity]),
        rangeMeaning: '95 %, bootstrap over windows',
        details: textDetails(entry),
      })
    },
  }
}

function textDetails(entry: Entry): Record<string, string> {
  const perplexity = entry.result?.perplexity ?? null
  if (perplexity === null) return {}
  const { dataset, protocol, window, tokens, bytes, note } = perplexity
  return {
    Text: dataset,
    Protocol: `${protocol}, window ${window}`,
    Scored: `${formatInteger(tokens)} tokens, ${formatInteger(bytes)} bytes`,
    ...(note === null ? {} : { Note: note }),
  }
}

/** The ratio of two perplexities of the same tokens is known far better than either. */
function ratioDetails(drift: DriftResult | null, reference: Entry | null): Record<string, string> {
  const { logPerplexityRatio: ratio = null, logPerplexityRatioStandardError: error = null } = drift ?? {}
  if (ratio === null) return {}
  const range = error === null ? '' : ` (${Math.exp(ratio - Z_95 * error).toFixed(4)}–${Math.exp(ratio + Z_95 * error).toFixed(4)})`
  return { [reference === null ? 'To original' : 'To baseline']: `×${Math.exp(ratio).toFixed(4)}${range}, paired` }
}

function windowsReason(entry: Entry, baseline: Entry): string | null {
  const [mine, theirs] = [entry.result?.perplexity, baseline.result?.perplexity]
  if (mine && theirs && mine.dataset === theirs.dataset && mine.protocol === theirs.protocol && mine.window !== theirs.window)
    return `read in windows of ${mine.window} tokens, the baseline in windows of ${theirs.window}`
  return protocolReason('perplexity', entry, baseline)
}

function readsSameTokens(entry: Entry, baseline: Entry): boolean {
  const [mine, theirs] = [entry.result?.perplexity, baseline.result?.perplexity]
  if (!mine || !theirs) return true
  if (mine.tokenization !== undefined && theirs.tokenization !== undefined) return mine.tokenization === theirs.tokenization
  // Older results do not tell.
  return mine.tokens === theirs.tokens && mine.bytes === theirs.bytes
}

function tokensReason(entry: Entry, baseline: Entry): string | null {
  if (readsSameTokens(entry, baseline)) return null
  return 'other tokens than the baseline’s: a perplexity per token is then of another quantity, bits per byte may be compared'
}

function bytesReason(entry: Entry, baseline: Entry): string | null {
  const [mine, theirs] = [entry.result?.perplexity, baseline.result?.perplexity]
  if (!mine || !theirs || readsSameTokens(entry, baseline)) return null
  if (mine.protocol === 'rolling' && mine.bytes === theirs.bytes) return null
  return `of ${formatInteger(mine.bytes)} bytes of the text, the baseline’s of ${formatInteger(theirs.bytes)} others: the tokens are not the same`
}

function driftMetrics(entries: readonly Entry[], reference: Entry | null): readonly Metric[] {
  const isReference = (entry: Entry): boolean => (reference === null ? entry.isSource : entry === reference)
  /** From the reference; else from the original, to be shown and not compared. */
  const driftOf = (entry: Entry): DriftResult | null => driftFrom(entry, reference) ?? entry.result?.drift ?? null
  const key = reference === null ? 'drift' : `drift:${reference.model.id}`
  const shown = entries.filter((entry) => !isReference(entry)).flatMap((entry) => driftFrom(entry, reference) ?? [])
  const hasWhole = shown.some(({ boundedByTop = null }) => boundedByTop === null)
  const mostListed = Math.max(0, ...shown.map(({ boundedByTop }) => boundedByTop ?? 0))
  const read = (
    entry: Entry,
    itself: number,
    of: (drift: DriftResult) => Omit<Partial<Reading>, 'value'> & { readonly value: number | null },
  ): Reading | null => {
    if (isReference(entry)) return reference === null && !isMeasured(entry) ? null : fact(itself)
    const drift = driftOf(entry)
    if (drift === null) return null
    const { value, ...more } = of(drift)
    return measured(entry, driftFrom(entry, reference) === null ? 'drift' : key, value, more)
  }
  const elsewhere = (entry: Entry): string | null =>
    reference !== null && !isReference(entry) && driftFrom(entry, reference) === null
      ? 'its drift is from the original, not from the pinned baseline; “Measure again” takes it from there'
      : null
  const incomparable = (entry: Entry, baseline: Entry): string | null =>
    elsewhere(entry) ?? (reference === null ? protocolReason('drift', entry, baseline) : null)
  const boundReason = (entry: Entry, baseline: Entry): string | null => {
    if (isReference(entry)) return null
    const listed = driftOf(entry)?.boundedByTop ?? null
    const beside = isReference(baseline) ? listed : (driftOf(baseline)?.boundedByTop ?? null)
    // A pinned server whose drift is from the original is itself a bound.
    if (listed === null) return beside === null ? null : 'a whole divergence, the baseline’s is a lower bound'
    if (hasWhole) return `a lower bound from the ${listed} most probable tokens of either engine, others here are whole divergences`
    return listed < mostListed ? `a lower bound from ${listed} tokens, others here are from ${mostListed}` : null
  }
  const shared = {
    group: 'Quality',
    protocol: 'drift',
    perAdapter: false,
    incomparable,
    missing: whyWithoutDrift,
    isDefined: isReference,
  } as const
  const divergence = { ...shared, term: 'kld', better: 'down', unit: 'nats', delta: 'absolute' } as const
  return [
    {
      ...divergence,
      id: 'kld',
      title: 'KL divergence, mean',
      format: (value) => formatSignificant(value),
      incomparable: (entry, baseline) => incomparable(entry, baseline) ?? boundReason(entry, baseline),
      read: (entry) =>
        read(entry, 0, (drift) => ({
          value: drift.kldMean,
          ...boundOf(drift),
          range: rangeOf(drift.kldMean, drift.kldMeanStandardError, [0, Infinity]),
          rangeMeaning: (drift.boundedByTop ?? null) === null ? '95 %' : '95 % of the bound',
          details: driftDetails(drift),
        })),
    },
    {
      ...divergence,
      id: 'kld99',
      title: 'KL divergence, 99th percentile',
      format: (value) => formatSignificant(value),
      incomparable: (entry, baseline) => incomparable(entry, baseline) ?? boundReason(entry, baseline),
      read: (entry) => read(entry, 0, (drift) => ({ value: drift.kldP99, ...boundOf(drift), details: driftDetails(drift) })),
    },
    {
      ...shared,
      id: 'top1',
      title: 'Top-1 agreement',
      term: 'top1',
      better: 'up',
      format: (value) => formatPercent(value, 2),
      delta: 'points',
      read: (entry) =>
        read(entry, 1, ({ top1Agreement, top1AgreementStandardError, flips, tokens }) => ({
          value: top1Agreement,
          range: rangeOf(top1Agreement, top1AgreementStandardError, [-Infinity, 1]),
          rangeMeaning: '95 %',
          details: flips === null ? {} : { Flips: `${formatInteger(flips)} of ${formatInteger(tokens)} tokens` },
        })),
    },
    {
      ...shared,
      id: 'delta-p',
      title: 'Δp of the text’s tokens, RMS',
      term: 'delta-p',
      better: 'down',
      format: (value) => formatPercent(value, 2),
      delta: 'points',
      read: (entry) =>
        read(entry, 0, ({ deltaPRms, deltaPMean, deltaPP1, deltaPP99 }) => ({
          value: deltaPRms,
          details: {
            ...(deltaPMean === null ? {} : { Mean: points(deltaPMean) }),
            ...(deltaPP1 === null || deltaPP99 === null ? {} : { '1 % and 99 %': `${points(deltaPP1)} and ${points(deltaPP99)}` }),
          },
        })),
    },
  ]
}

/** A model does not drift from itself: its zero is a definition, and stands only where drift is measured at all. */
function isMeasured(entry: Entry): boolean {
  return entry.result !== null && entry.result.perplexity !== null
}

function whyWithoutDrift(entry: Entry): string | null {
  if ((entry.result?.drift ?? null) !== null) return null
  return entry.result?.perplexity?.withoutDrift ?? null
}

function boundOf({ boundedByTop = null }: DriftResult): Pick<Reading, 'atLeast'> {
  return boundedByTop === null ? {} : { atLeast: true }
}

function rangeOf(value: number | null, error: number | null, [least, most]: readonly [number, number]): readonly [number, number] | null {
  if (value === null || error === null) return null
  return [Math.max(least, value - Z_95 * error), Math.min(most, value + Z_95 * error)]
}

function driftDetails({ dataset, tokens, boundedByTop = null }: DriftResult): Record<string, string> {
  return {
    Text: dataset,
    Tokens: formatInteger(tokens),
    ...(boundedByTop === null
      ? {}
      : { Bound: `at least this much: the ${boundedByTop} most probable tokens of either engine and the text’s own, the rest as one` }),
  }
}

function points(value: number): string {
  return `${value < 0 ? '−' : '+'}${formatPoints(Math.abs(value))}`
}
