/**
 * Items of two models that are the same by their content, wherever and in whatever order they were answered: what is left when one side is published
 * or was limited otherwise. Says how many were left out; a paired comparison is of the rest.
 */
import type { PairedComparison, SampleRow, TaskResult } from '../contract/index.ts'
import { comparePaired } from './paired.ts'

export interface MatchedItems {
  readonly baseline: number[]
  readonly candidate: number[]
  /** Items whose judged answer differs. */
  readonly changed: number
  /** Whether both were asked in the same words; items without words are taken to be. */
  readonly samePrompts: boolean
  /** log p of the right choice, where both tell it. */
  readonly logLikelihoods: { readonly baseline: number[]; readonly candidate: number[] } | null
}

/** By content, the n-th copy of an item with the n-th; null where no two are the same. */
export function matchItems(baseline: readonly SampleRow[], candidate: readonly SampleRow[], metric: string): MatchedItems | null {
  const known = new Map(keyed(baseline))
  const pairs = keyed(candidate).flatMap(([key, own]) => {
    const other = known.get(key)
    return other === undefined || !Number.isFinite(own.metrics[metric]) || !Number.isFinite(other.metrics[metric]) ? [] : [{ own, other }]
  })
  if (pairs.length === 0) return null
  const value = (row: SampleRow): number => row.metrics[metric] ?? Number.NaN
  const likelihoods = pairs.map(({ own, other }) => [goldLogprob(other), goldLogprob(own)] as const)
  const known_ = likelihoods.every(([before, after]) => before !== null && after !== null)
  return {
    baseline: pairs.map(({ other }) => value(other)),
    candidate: pairs.map(({ own }) => value(own)),
    changed: pairs.filter(({ own, other }) => own.answer.trim() !== other.answer.trim()).length,
    samePrompts: pairs.every(({ own, other }) => own.prompt === '' || other.prompt === '' || own.prompt === other.prompt),
    logLikelihoods: known_
      ? { baseline: likelihoods.map(([before]) => before ?? 0), candidate: likelihoods.map(([, after]) => after ?? 0) }
      : null,
  }
}

function keyed(rows: readonly SampleRow[]): [string, SampleRow][] {
  const seen = new Map<string, number>()
  return rows.map((row) => {
    const copy = seen.get(row.docHash) ?? 0
    seen.set(row.docHash, copy + 1)
    return [`${row.docHash}:${copy}`, row]
  })
}

function goldLogprob(row: SampleRow): number | null {
  const index = row.choices.findIndex((choice) => choice.trim() === row.target.trim())
  return index < 0 ? null : (row.logprobs[index] ?? null)
}

export interface PublishedSide {
  readonly id: string
  readonly rows: readonly SampleRow[]
  /** Documents that it answered. */
  readonly n: number
}

/** A measured figure beside a published one on the items that both have; null where there are none, and then only totals can be compared. */
export function compareWithPublished(
  own: Pick<TaskResult, 'metric' | 'higherIsBetter' | 'chance' | 'n'>,
  rows: readonly SampleRow[],
  published: PublishedSide,
  options: { readonly margin: number | null; readonly isShare: boolean },
): (PairedComparison & { readonly items: number }) | null {
  const matched = matchItems(published.rows, rows, own.metric)
  if (matched === null) return null
  const items = matched.candidate.length
  const warnings = [
    'The baseline is published: another engine answered, with its own kernels and number types.',
    ...(items === own.n && items === published.n
      ? []
      : [`Compared on the ${items} items that both have, of ${own.n} here and ${published.n} there.`]),
    ...(matched.samePrompts ? [] : ['The two models were asked in different words (another chat template).']),
  ]
  const { samePrompts: _samePrompts, ...scores } = matched
  return {
    ...comparePaired({
      ...scores,
      baselineId: published.id,
      higherIsBetter: own.higherIsBetter,
      margin: options.margin,
      chance: own.chance,
      hasRecovery: options.isShare,
      warnings,
    }),
    items,
  }
}
