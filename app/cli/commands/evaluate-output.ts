/** What `lathe eval` prints and writes: the fields of DESIGN §10, a table for people, and results files in lm-eval's form. */
import { access, constants, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { makeFolder } from '../../../engine/checkpoint/make-folder.ts'
import { LatheError } from '../../../engine/contract/index.ts'
import type { DriftResult, FreeTextDrift, PerplexityResult, TaskResult } from '../../../engine/contract/index.ts'
import { lmEvalResults, writeLmEvalFiles } from '../../../engine/evaluate/results-file.ts'
import type { PromptOptions } from '../../../engine/evaluate/tasks/prompts.ts'
import type { FolderTokenizer } from '../../../engine/studio/ports.ts'
import type { Arguments } from '../arguments.ts'
import { latheVersion } from '../assets.ts'
import { formatTable } from '../format.ts'
import type { MeasuredTasks } from './evaluate-tasks.ts'

export interface TextMeasurement {
  readonly perplexity: PerplexityResult
  readonly baseline: PerplexityResult | null
  readonly drift: DriftResult | null
}

export const NO_TASKS: MeasuredTasks = { results: [], baseline: new Map(), scored: [], groups: [] }
export const NO_TOKENS = { pad: null, eos: null, bos: null }

export function tokensOf(codec: FolderTokenizer) {
  const byRole = (role: string): readonly [string, number] | null => {
    const token = codec.info.specialTokens.find((candidate) => candidate.role === role)
    return token === undefined ? null : [token.text, token.id]
  }
  return { pad: byRole('pad'), eos: byRole('eos'), bos: byRole('bos') }
}

interface OutFacts {
  readonly name: string
  readonly path: string
  readonly device: string
  readonly contextLimit: number | null
  readonly dtype: string
  readonly parameters: number | null
  readonly tokens: ReturnType<typeof tokensOf>
  /** Its text; null where a server renders it unseen. */
  readonly chatTemplate: string | null
  readonly studio: Readonly<Record<string, unknown>>
}

/** Before anything is measured: the folder is there and can be written to. */
export async function prepareOut(args: Arguments): Promise<void> {
  const out = args.text('out')
  if (out === null) return
  const folder = resolve(out)
  const refuse = (cause: unknown): never => {
    throw new LatheError('disk.permission', `${folder} can't be written to.`, 'Choose another folder for --out.', { cause })
  }
  await makeFolder(folder).catch(refuse)
  if (!(await stat(folder)).isDirectory()) refuse(null)
  await access(folder, constants.W_OK).catch(refuse)
}

export async function writeOut(
  args: Arguments,
  tasks: MeasuredTasks,
  facts: OutFacts,
  run: { readonly prompts: PromptOptions; readonly limit: number | null; readonly began: Date },
): Promise<string[]> {
  const folder = args.text('out')
  if (folder === null) return []
  const results = lmEvalResults(
    {
      ...facts,
      modelName: facts.name,
      modelPath: facts.path,
      latheVersion: latheVersion(),
      platform: `${process.platform} ${process.arch}`,
      limit: run.limit,
      chatTemplate: run.prompts.chatTemplate ? (facts.chatTemplate ?? 'the server’s own') : null,
      systemInstruction: run.prompts.systemInstruction,
      fewshotAsMultiturn: run.prompts.chatTemplate && run.prompts.fewshotAsMultiturn,
      startedAt: run.began,
      seconds: (Date.now() - run.began.getTime()) / 1000,
    },
    tasks.scored,
    tasks.groups,
  )
  return writeLmEvalFiles(resolve(folder), results, tasks.scored, run.began)
}

const orNull = (result: PerplexityResult | null | undefined) => (result === null || result === undefined ? null : perplexityJson(result))

export function measuredJson(measured: TextMeasurement | null) {
  return {
    perplexity: orNull(measured?.perplexity),
    baseline_perplexity: orNull(measured?.baseline),
    drift: measured === null || measured.drift === null ? null : driftJson(measured.drift),
  }
}

function perplexityJson(result: PerplexityResult) {
  return {
    value: result.value,
    nll: result.nll,
    tokens: result.tokens,
    bits_per_byte: result.bitsPerByte,
    protocol: result.protocol,
    window: result.window,
    standard_error: result.standardError,
    dataset: result.dataset,
    note: result.note,
    without_drift: result.withoutDrift ?? null,
  }
}

function driftJson(drift: DriftResult) {
  return {
    kld_mean: drift.kldMean,
    kld_mean_standard_error: drift.kldMeanStandardError,
    kld_median: drift.kldMedian,
    kld_p90: drift.kldP90,
    kld_p95: drift.kldP95,
    kld_p99: drift.kldP99,
    kld_max: drift.kldMax,
    top1_agreement: drift.top1Agreement,
    flips: drift.flips,
    delta_p_mean: drift.deltaPMean,
    delta_p_rms: drift.deltaPRms,
    log_perplexity_ratio: drift.logPerplexityRatio,
    log_perplexity_ratio_standard_error: drift.logPerplexityRatioStandardError,
    tokens: drift.tokens,
    bounded_by_top: drift.boundedByTop ?? null,
  }
}

const Z_95 = 1.96

export function describe(measured: TextMeasurement | null, tasks: MeasuredTasks): string {
  const rows: string[][] = [['Measure', 'Value (95 %)', 'Baseline', 'Difference (95 %)', 'n', 'Verdict']]
  if (measured !== null) rows.push(...textRows(measured))
  for (const result of tasks.results) {
    const other = tasks.baseline.get(result.name) ?? null
    const isShare = result.chance !== null || /^acc|^exact_match$|^consistency$|_unsafe$|_safe$/.test(result.metric)
    const figure = isShare ? percent : (value: number | null) => show(value, 4)
    const points = isShare ? (value: number) => `${(value * 100).toFixed(1)} pp` : (value: number) => show(value, 4)
    rows.push([
      result.outputType === 'probe'
        ? result.title
        : `${result.task ?? result.name} (${result.metric}${result.filter === 'none' ? '' : `, ${result.filter}`})`,
      within(figure(result.value), result.interval, figure),
      other === null ? '' : figure(other.value),
      differenceText(result, points),
      `${result.n} items`,
      verdictText(result),
    ])
    const { freeText = null } = result
    if (freeText !== null && result.primary) {
      rows.push([
        `${result.task ?? result.name} (same text)`,
        within(percent(freeText.identicalShare), freeText.identicalInterval, percent),
        '',
        '',
        `${freeText.n} items`,
        partText(freeText),
      ])
    }
  }
  return formatTable(rows)
}

function textRows({ perplexity, baseline, drift }: TextMeasurement): string[][] {
  const { value, standardError } = perplexity
  // Of the logarithm, so that the interval is a ratio.
  const range =
    value === null || standardError === null
      ? null
      : ([value * Math.exp(-Z_95 * standardError), value * Math.exp(Z_95 * standardError)] as const)
  const rows = [
    [
      `Perplexity (${perplexity.protocol}, ${perplexity.window})`,
      within(show(value), range, show),
      baseline === null ? '' : show(baseline.value),
      '',
      `${perplexity.tokens} tokens`,
    ],
    ['Bits per byte', show(perplexity.bitsPerByte), baseline === null ? '' : show(baseline.bitsPerByte)],
  ]
  if (drift === null) return rows
  const tokens = `${drift.tokens} tokens`
  const around = (mean: number | null, error: number | null, most = Infinity) =>
    mean === null || error === null ? null : ([Math.max(0, mean - Z_95 * error), Math.min(most, mean + Z_95 * error)] as const)
  const { logPerplexityRatio: ratio, logPerplexityRatioStandardError: ratioError } = drift
  if (ratio !== null && ratio !== undefined) {
    const ends = ratioError === null || ratioError === undefined ? null : ([ratio - Z_95 * ratioError, ratio + Z_95 * ratioError] as const)
    rows.push(['Perplexity ratio, paired', '', '', within(`×${times(ratio)}`, ends, times), tokens])
  }
  return [
    ...rows,
    [
      drift.boundedByTop === null || drift.boundedByTop === undefined ? 'KLD mean' : 'KLD mean, at least',
      within(show(drift.kldMean, 3), around(drift.kldMean, drift.kldMeanStandardError), (end) => show(end, 3)),
      '',
      '',
      tokens,
    ],
    ['KLD 99 %', show(drift.kldP99, 3)],
    [
      'Top-1 agreement',
      within(percent(drift.top1Agreement), around(drift.top1Agreement, drift.top1AgreementStandardError, 1), percent),
      '',
      '',
      tokens,
    ],
  ]
}

function times(logarithm: number): string {
  return Math.exp(logarithm).toFixed(4)
}

/** "95.0 % (83.5–98.6 %)"; an interval without width is one that is not known. */
function within(value: string, interval: readonly [number, number] | null, figure: (end: number) => string): string {
  if (interval === null || !(interval[0] < interval[1])) return value
  return `${value} (${figure(interval[0]).replace(/ %$/, '')}–${figure(interval[1])})`
}

/** "−2.5 pp (−12.9 to +6.5 pp)" */
function differenceText({ paired }: TaskResult, unit: (value: number) => string): string {
  if (paired === null) return ''
  const signed = (value: number): string => (value > 0 ? `+${unit(value)}` : unit(value).replace('-', '−'))
  const { difference, interval } = paired
  if (!(interval[0] < interval[1])) return signed(difference)
  return `${signed(difference)} (${signed(interval[0]).replace(/ pp$/, '')} to ${signed(interval[1])})`
}

/** "first differs at token 14 (median), margin 0.21 nats there; edit distance 0.21" */
function partText({ unit, firstDifferenceMedian, editDistanceMean, divergenceMarginMedian }: FreeTextDrift): string {
  const margin = divergenceMarginMedian === null ? '' : `, margin ${divergenceMarginMedian.toFixed(2)} nats there`
  const where =
    firstDifferenceMedian === null
      ? ''
      : `first differs at ${unit === 'tokens' ? 'token' : 'character'} ${firstDifferenceMedian} (median)${margin}; `
  return `${where}edit distance ${editDistanceMean.toFixed(2)}`
}

/** "inconclusive at 1.0 pp, needs about 900 items; shows differences from 4.4 pp" */
function verdictText({ paired }: TaskResult): string {
  if (paired === null) return ''
  if (paired.standardError === null && paired.pairing === 'unpaired') return 'none: a standard error is not known'
  if (paired.verdict === null || paired.margin === null) return ''
  const needs = paired.itemsNeeded === null ? '' : `, needs about ${paired.itemsNeeded} items`
  const detectable =
    paired.minimumDetectableDifference === null
      ? ''
      : `; shows differences from ${(paired.minimumDetectableDifference * 100).toFixed(1)} pp`
  return `${paired.verdict} at ${(paired.margin * 100).toFixed(1)} pp${needs}${detectable}${paired.pairing === 'unpaired' ? ' (unpaired)' : ''}`
}

function show(value: number | null, digits = 5): string {
  return value === null ? 'n/a' : value.toPrecision(digits)
}

function percent(value: number | null): string {
  return value === null ? 'n/a' : `${(value * 100).toFixed(1)} %`
}
