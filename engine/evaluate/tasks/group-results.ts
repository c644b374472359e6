/**
 * Group scores over the tasks that were run: size-weighted or equal-weight means with lm-eval's pooled error (specs/evaluation.md §3), and their comparison
 * with a baseline's on the same items, task by task (§9). Pure.
 */
import type { PairedComparison, TaskResult } from '../../contract/index.ts'
import { comparePairedGroup } from '../paired.ts'
import { pooledStandardError, stratifiedStandardError, Z95 } from '../statistics.ts'
import { sha256 } from './prompts.ts'
import { pairedPart, resultName } from './score-task.ts'
import type { ScoredTask } from './score-task.ts'
import type { GroupConfig } from './task-config.ts'
import type { Figure } from './task-metrics.ts'

export interface GroupBaseline {
  readonly id: string
  /** Of the same items; a task that is missing leaves its groups uncompared. */
  readonly scored: readonly ScoredTask[]
}

/** A task's figure in a group's score. */
interface Part {
  readonly figure: Figure
  readonly member: ScoredTask
  readonly weight: number
}

export function groupResults(
  group: GroupConfig,
  scored: readonly ScoredTask[],
  membersOf: (name: string) => readonly string[],
  baseline: GroupBaseline | null,
  margin: number | null,
): TaskResult[] {
  const members = scored.filter(({ task }) => group.members.some((name) => membersOf(name).includes(task.name)))
  const scores = group.aggregates.flatMap(({ metric, weightBySize, filters }) => {
    const found = members.flatMap((member) =>
      member.figures
        .filter((figure) => figure.metric === metric && (filters === null || filters.includes(figure.filter)))
        .map((figure) => ({ figure, member })),
    )
    return Array.from(Map.groupBy(found, ({ figure }) => figure.filter).values(), (parts) => ({
      weightBySize,
      parts: weighted(parts, weightBySize),
    }))
  })
  return scores.flatMap(({ parts, weightBySize }, index) =>
    resultOf(group, parts, { isPrimary: index === 0, weightBySize, baseline, margin }),
  )
}

function weighted(parts: readonly Omit<Part, 'weight'>[], bySize: boolean): Part[] {
  const total = parts.reduce((sum, { figure }) => sum + figure.values.length, 0)
  return parts.map((part) => ({ ...part, weight: bySize ? part.figure.values.length / total : 1 / parts.length }))
}

interface Setting {
  readonly isPrimary: boolean
  readonly weightBySize: boolean
  readonly baseline: GroupBaseline | null
  readonly margin: number | null
}

function resultOf(group: GroupConfig, parts: readonly Part[], { isPrimary, weightBySize, baseline, margin }: Setting): TaskResult[] {
  const [first] = parts
  if (first === undefined) return []
  const { metric, filter, higherIsBetter } = first.figure
  const sum = (of: (part: Part) => number): number => parts.reduce((total, part) => total + of(part), 0)
  const value = sum(({ figure, weight }) => weight * figure.value)
  const standardError = pooledStandardError(parts.map(({ figure }) => ({ standardError: figure.standardError, n: figure.values.length })))
  // lm-eval's error, which its files and readers expect, is that of weights by size; the interval is of the weights that are.
  const error = stratifiedStandardError(parts.map(({ figure, weight }) => ({ weight, standardError: figure.standardError })))
  const half = Z95 * (error ?? 0)
  const [least, most] = parts.every(({ figure }) => figure.aggregation === 'share') ? [0, 1] : [-Infinity, Infinity]
  const chances = parts.map(({ figure, member }) => (figure.aggregation === 'share' ? member.chance : null))
  const chance = chances.includes(null) ? null : parts.reduce((total, { weight }, i) => total + weight * (chances[i] ?? 0), 0)
  return [
    {
      name: resultName(group.name, metric, filter, isPrimary),
      title: isPrimary ? group.title : `${group.title} (${metric}${filter === 'none' ? '' : `, ${filter}`})`,
      metric,
      value,
      standardError,
      interval: [Math.max(least, value - half), Math.min(most, value + half)],
      n: sum(({ figure }) => figure.values.length),
      chance,
      paired: baseline === null ? null : pairedGroup(parts, baseline, chance, margin),
      dataset: `${group.name}@${sha256(parts.map(({ member }) => member.dataset).join('')).slice(0, 12)}`,
      task: group.name,
      filter,
      higherIsBetter,
      fewshot: null,
      outputType: 'group',
      primary: isPrimary,
      origin: 'measured',
      hasSamples: false,
      note: `${parts.length} tasks, ${weightBySize ? 'weighted by size' : 'each alike'}; the error ignores what varies between tasks`,
      members: parts.map(({ member, weight }) => ({ task: member.task.name, weight })),
    },
  ]
}

function pairedGroup(
  parts: readonly Part[],
  baseline: GroupBaseline,
  chance: number | null,
  margin: number | null,
): PairedComparison | null {
  const compared = parts.flatMap(({ figure, member, weight }) => {
    const other = baseline.scored.find(({ task, dataset }) => task.name === member.task.name && dataset === member.dataset)
    const part = other === undefined ? null : pairedPart(figure, member, { id: baseline.id, scored: other }, weight)
    return part === null ? [] : [part]
  })
  if (compared.length < parts.length) return null
  return comparePairedGroup(compared, {
    baselineId: baseline.id,
    higherIsBetter: parts[0]?.figure.higherIsBetter ?? true,
    // A margin is of means; perplexities have none.
    margin: compared.every(({ scores }) => scores !== null) ? margin : null,
    chance,
  })
}
