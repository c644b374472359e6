/**
 * Reading values out of a recipe that somebody wrote by hand: each reader names the place where it found something else. Nothing is ignored;
 * an unknown key is an error with the nearest known one.
 */
import { LatheError } from '../contract/errors.ts'
import { nearestName } from './nearest-name.ts'

export type Json = Readonly<Record<string, unknown>>

export function object(value: unknown, where: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(where, `is ${show(value)}; a mapping is needed`)
  return value as Json
}

/** One name or a list of them, none empty. */
export function names(value: unknown, where: string): readonly string[] {
  const list: unknown[] = typeof value === 'string' ? [value] : Array.isArray(value) ? value : []
  if (list.length === 0 || !list.every((entry): entry is string => typeof entry === 'string' && entry !== '')) {
    throw invalid(where, `is ${show(value)}; a list of names is needed`)
  }
  return list
}

/** As `names`, and empty where the key is absent, null or an empty list. */
export function optionalNames(json: Json, key: string, where: string): readonly string[] {
  const value = json[key] ?? []
  return Array.isArray(value) && value.length === 0 ? [] : names(value, `${where}.${key}`)
}

export interface NumberRange {
  readonly least: number
  readonly most: number
  /** What an absent or null key means; null = the key must be there. */
  readonly absent: number | null
  readonly whole?: boolean
}

export function numberIn(json: Json, key: string, where: string, range: NumberRange): number {
  const value = json[key] ?? range.absent
  if (value === null) throw invalid(where, `needs "${key}"`)
  const { least, most, whole = false } = range
  if (typeof value !== 'number' || !(value >= least && value <= most) || (whole && !Number.isInteger(value))) {
    throw invalid(`${where}.${key}`, `is ${show(value)}; ${whole ? 'a whole number from ' : ''}${least} to ${most} is possible`)
  }
  return value
}

/** One of `choices`; an absent or null key means `absent`. */
export function choice<T extends string | boolean>(json: Json, key: string, where: string, choices: readonly T[], absent: T): T {
  const value = json[key] ?? absent
  const found = choices.find((each) => each === value)
  if (found !== undefined) return found
  const nearest =
    typeof value === 'string'
      ? nearestName(
          value,
          choices.filter((each) => typeof each === 'string'),
        )
      : null
  throw new LatheError(
    'compress.invalid-recipe',
    `${where}.${key} is ${show(value)}; ${choices.map(show).join(' or ')} is possible.`,
    nearest === null ? 'Correct the recipe, or choose a preset.' : `Did you mean "${nearest}"?`,
    { data: { place: `${where}.${key}` } },
  )
}

/** Refuses what Lathe would have to ignore. An absent key is always accepted. */
export function only(json: Json, key: string, accepted: readonly unknown[], where: string): void {
  const value = json[key]
  if (value === undefined || accepted.includes(value)) return
  throw invalid(`${where}.${key}`, `is ${show(value)}; this version of Lathe runs only ${accepted.map(show).join(' or ')}`)
}

export function refuseUnknownKeys(json: Json, known: readonly string[], where: string): void {
  const unknown = Object.keys(json).find((key) => !known.includes(key))
  if (unknown !== undefined) throw unknownKey(where, unknown, known)
}

export function unknownKey(where: string, key: string, known: readonly string[]): LatheError {
  const nearest = nearestName(key, known)
  const hint =
    nearest !== null
      ? `Did you mean "${nearest}"?`
      : known.length > 0
        ? `Known here: ${known.join(', ')}.`
        : 'Remove it: it takes no options.'
  const data = { place: `${where}.${key}` }
  return new LatheError('compress.invalid-recipe', `${where}: "${key.slice(0, 80)}" is not known.`, hint, { data })
}

/** `where` goes along as `data.place`, so that an editor finds the line. */
export function invalid(where: string, why: string): LatheError {
  return new LatheError('compress.invalid-recipe', `${where} ${why}.`, 'Correct the recipe, or choose a preset.', {
    data: { place: where },
  })
}

export function show(value: unknown): string {
  return (JSON.stringify(value) ?? 'missing').slice(0, 60)
}
