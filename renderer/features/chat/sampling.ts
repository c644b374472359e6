/** Sampling options as a person edits them: defaults, and text fields that stand for "off", "random" or "no limit" when empty. */
import type { Sampling } from '../../../engine/contract/index.ts'

/** What the engine gives a new thread; a chat that has no thread yet starts from the same. */
export const DEFAULT_SAMPLING: Sampling = { temperature: 0.7, topK: 40, topP: 0.95, minP: 0, seed: null, maxTokens: null, stop: [] }

/** The contract's limit on stop texts. */
export const MAX_STOPS = 16

export function isDefaultSampling(sampling: Sampling): boolean {
  return JSON.stringify({ ...DEFAULT_SAMPLING, ...sampling }) === JSON.stringify(DEFAULT_SAMPLING)
}

/** A whole number of at least `least`; null for an empty field; undefined for anything else, which must not be sent. */
export function parseOptionalInteger(text: string, least: number): number | null | undefined {
  const trimmed = text.trim()
  if (trimmed === '') return null
  if (!/^\d+$/.test(trimmed)) return undefined
  const value = Number(trimmed)
  return Number.isSafeInteger(value) && value >= least ? value : undefined
}

/** One stop text per line; `\n` stands for a line break inside one. */
export function parseStops(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .slice(0, MAX_STOPS)
    .map((line) => line.replaceAll(String.raw`\n`, '\n'))
}

export function formatStops(stops: readonly string[]): string {
  return stops.map((stop) => stop.replaceAll('\n', String.raw`\n`)).join('\n')
}

export function temperatureText(temperature: number): string {
  if (temperature === 0) return 'always the likeliest word'
  return temperature < 0.5 ? 'focused' : temperature <= 1 ? 'balanced' : 'adventurous'
}
