/**
 * How far a model's greedy answers moved from a baseline's on the same items (specs/evaluation.md §6.2): how many are the same to the byte, where the
 * others part, and how much would have to be edited. Lengths and places are counted in tokens of the baseline's tokenizer, which reads the finished
 * text again, or in code points where no tokenizer is known. Pure; knows nothing of tasks.
 * The margin between the two most probable tokens where the answers part, which tells a near-tie from a change of mind, is not known here: answers
 * are kept without log-probabilities, so the field is null.
 */
import type { FreeTextDrift } from '../contract/index.ts'
import { meanWithError, quantileOfSorted, wilsonInterval } from './statistics.ts'

/** Answers are compared by edits up to here: a million cells a pair, some milliseconds. Identity and the first difference see all of them. */
export const MAX_EDIT_UNITS = 1024

export interface AnswerPair {
  readonly baseline: string
  readonly candidate: string
}

/** null without pairs. `encode` is the baseline's tokenizer, without added special tokens; null = unknown. */
export function freeTextDrift(
  baselineId: string,
  pairs: readonly AnswerPair[],
  encode: ((text: string) => ArrayLike<number>) | null,
): FreeTextDrift | null {
  if (pairs.length === 0) return null
  const unitsOf = encode ?? codePoints
  const differences: number[] = []
  const distances: number[] = []
  let cutItems = 0
  for (const { baseline, candidate } of pairs) {
    if (baseline === candidate) {
      distances.push(0)
      continue
    }
    const before = unitsOf(baseline)
    const after = unitsOf(candidate)
    differences.push(firstDifference(before, after))
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
    divergenceMarginMedian: null,
  }
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
