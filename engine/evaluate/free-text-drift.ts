/**
 * How far a model's greedy answers moved from a baseline's on the same items (specs/evaluation.md §6.2): how many are the same to the byte, where the
 * others part, how far ahead the baseline's choice was there, which tells a near-tie from a change of mind, and how much would have to be edited.
 * Places are of the generated tokens where both models told them; else, and for lengths, the baseline's tokenizer reads the finished text again, or
 * code points are counted where no tokenizer is known. Pure; knows nothing of tasks.
 */
import type { FreeTextDrift } from '../contract/index.ts'
import { divergenceOf } from './answer-trace.ts'
import type { AnswerTrace } from './answer-trace.ts'
import { meanWithError, quantileOfSorted, wilsonInterval } from './statistics.ts'

/** Answers are compared by edits up to here: a million cells a pair, some milliseconds. Identity and the first difference see all of them. */
export const MAX_EDIT_UNITS = 1024

export interface AnswerPair {
  readonly baseline: string
  readonly candidate: string
  /** null or absent: not known. */
  readonly baselineTrace?: AnswerTrace | null
  readonly candidateTrace?: AnswerTrace | null
}

type Encode = (text: string) => ArrayLike<number>

/** Tokenizers of the two models, without added special tokens; null = unknown. */
export interface Encoders {
  readonly baseline: Encode | null
  readonly candidate: Encode | null
}

/** null without pairs. */
export function freeTextDrift(baselineId: string, pairs: readonly AnswerPair[], encoders: Encoders): FreeTextDrift | null {
  if (pairs.length === 0) return null
  const encode = encoders.baseline
  const unitsOf = encode ?? codePoints
  const differences: number[] = []
  const distances: number[] = []
  const margins: number[] = []
  let cutItems = 0
  for (const pair of pairs) {
    const { baseline, candidate } = pair
    if (baseline === candidate) {
      distances.push(0)
      continue
    }
    const before = unitsOf(baseline)
    const after = unitsOf(candidate)
    const divergence = tracedDivergence(pair, encode === null ? null : { before, after }, encoders.candidate)
    differences.push(encode !== null && divergence !== null ? divergence.place : firstDifference(before, after))
    if (divergence !== null && divergence.margin !== null) margins.push(divergence.margin)
    distances.push(normalizedEditDistance(before, after))
    if (Math.max(before.length, after.length) > MAX_EDIT_UNITS) cutItems++
  }
  const identical = pairs.length - differences.length
  return {
    baselineId,
    n: pairs.length,
    identical,
    identicalShare: identical / pairs.length,
    identicalInterval: wilsonInterval(identical, pairs.length),
    unit: encode === null ? 'characters' : 'tokens',
    firstDifferenceMedian: differences.length === 0 ? null : median(differences),
    editDistanceMean: meanWithError(distances).mean,
    editDistanceMedian: median(distances),
    cutItems,
    divergenceMarginMedian: margins.length === 0 ? null : median(margins),
    divergenceMarginItems: margins.length,
  }
}

/** `units`: both answers as the baseline's tokenizer splits them; null without one. */
function tracedDivergence(
  { baseline, candidate, baselineTrace, candidateTrace }: AnswerPair,
  units: { readonly before: ArrayLike<number>; readonly after: ArrayLike<number> } | null,
  encode: Encode | null,
) {
  if (baselineTrace === null || baselineTrace === undefined || candidateTrace === null || candidateTrace === undefined) return null
  const splitsAs = (known: ArrayLike<number>, text: string): boolean => {
    const other = encode?.(text)
    return other !== undefined && known.length === other.length && firstDifference(known, other) === known.length
  }
  const isSame = units !== null && splitsAs(units.before, baseline) && splitsAs(units.after, candidate)
  return divergenceOf(baselineTrace, candidateTrace, isSame)
}

function codePoints(text: string): number[] {
  return Array.from(text, (character) => character.codePointAt(0) ?? 0)
}

function median(values: readonly number[]): number {
  return quantileOfSorted(
    values.toSorted((a, b) => a - b),
    0.5,
  )
}

/** Index of the first unit that differs, from 0; the shorter one's length where it only ends earlier. */
export function firstDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const shorter = Math.min(a.length, b.length)
  for (let i = 0; i < shorter; i++) if (a[i] !== b[i]) return i
  return shorter
}

/** Levenshtein's distance of the first `MAX_EDIT_UNITS` units of each, divided by the longer one's length: 0 = the same, 1 = nothing in common. */
export function normalizedEditDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const rows = Math.min(a.length, MAX_EDIT_UNITS)
  const columns = Math.min(b.length, MAX_EDIT_UNITS)
  const longer = Math.max(rows, columns)
  if (longer === 0) return 0
  let above = Uint32Array.from({ length: columns + 1 }, (_, column) => column)
  let current = new Uint32Array(columns + 1)
  for (let row = 1; row <= rows; row++) {
    current[0] = row
    for (let column = 1; column <= columns; column++) {
      const replaced = (above[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1)
      current[column] = Math.min(replaced, (above[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1)
    }
    const done = current
    current = above
    above = done
  }
  return (above[columns] ?? 0) / longer
}
