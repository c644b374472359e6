/**
 * Typed, bounded reads of config.json. A config is hostile until proven otherwise: every number that sizes an allocation or a loop passes
 * through here. Errors are `checkpoint.invalid-config` with the key and the value found.
 */
import { LatheError } from '../contract/errors.ts'

export type Config = Readonly<Record<string, unknown>>

/** Present and not null: many writers spell absence as null. */
export function has(config: Config, key: string): boolean {
  return config[key] !== undefined && config[key] !== null
}

/** A whole number in [min, max]; `fallback` where the key is absent, an error if there is none. */
export function readInteger(
  config: Config,
  key: string,
  bounds: { readonly min: number; readonly max: number; readonly fallback?: number },
): number {
  if (!has(config, key) && bounds.fallback !== undefined) return bounds.fallback
  const value = config[key]
  if (typeof value === 'number' && Number.isInteger(value) && value >= bounds.min && value <= bounds.max) return value
  throw invalid(key, value, `a whole number from ${bounds.min} to ${bounds.max}`)
}

/** A finite number in [min, max]. */
export function readNumber(
  config: Config,
  key: string,
  bounds: { readonly min: number; readonly max: number; readonly fallback?: number },
): number {
  if (!has(config, key) && bounds.fallback !== undefined) return bounds.fallback
  const value = config[key]
  if (typeof value === 'number' && value >= bounds.min && value <= bounds.max) return value
  throw invalid(key, value, `a number from ${bounds.min} to ${bounds.max}`)
}

export function readBoolean(config: Config, key: string, fallback: boolean): boolean {
  if (!has(config, key)) return fallback
  const value = config[key]
  if (typeof value === 'boolean') return value
  throw invalid(key, value, 'true or false')
}

export function readString(config: Config, key: string): string | null {
  if (!has(config, key)) return null
  const value = config[key]
  if (typeof value === 'string') return value
  throw invalid(key, value, 'a string')
}

export function readObject(config: Config, key: string): Config | null {
  if (!has(config, key)) return null
  const value = config[key]
  if (isObject(value)) return value
  throw invalid(key, value, 'an object')
}

export function readStrings(config: Config, key: string): readonly string[] | null {
  if (!has(config, key)) return null
  const value = config[key]
  if (Array.isArray(value) && value.every((entry) => typeof entry === 'string')) return value
  throw invalid(key, value, 'a list of strings')
}

export function isObject(value: unknown): value is Config {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function invalid(key: string, value: unknown, expected: string): LatheError {
  // Long enough to recognise the value, short enough for one line of an error card.
  const found = value === undefined ? 'missing' : (JSON.stringify(value) ?? String(value)).slice(0, 60)
  return new LatheError(
    'checkpoint.invalid-config',
    `config.json: "${key}" must be ${expected}, found ${found}.`,
    'Check that config.json belongs to this checkpoint and is complete.',
  )
}
