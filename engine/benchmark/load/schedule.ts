/**
 * When requests are due (specs/benchmark.md §1.1, §5): absolute times from the start, never "so long after the last", so that a stalled server
 * can't slow the schedule down. One generator makes all gaps of a run.
 */
import { readFile } from 'node:fs/promises'
import { LatheError } from '../../contract/errors.ts'
import { createIndexSampler } from '../../evaluate/random.ts'

/** Due times in ms, ascending from 0. */
export function constantSchedule(requests: number, ratePerSecond: number): number[] {
  return Array.from({ length: requests }, (_, i) => (i * 1000) / ratePerSecond)
}

/** Exponential gaps of mean 1/rate. */
export function poissonSchedule(requests: number, ratePerSecond: number, seed: number): number[] {
  const pick = createIndexSampler(seed)
  let at = 0
  return Array.from({ length: requests }, (_, i) => {
    if (i > 0) at += (-Math.log1p(-pick(0x100000000) / 0x100000000) * 1000) / ratePerSecond
    return at
  })
}

export interface TraceEntry {
  readonly atMs: number
  readonly promptTokens: number
  readonly outputTokens: number
}

/** A trace longer than this is a log, not a benchmark. */
const MAX_TRACE = 100_000

/**
 * Recorded arrivals: JSON lines with `timestamp` (ms; or `arrival_time`/`at_s`, seconds), `input_length` and `output_length` (also
 * `prompt_tokens`/`output_tokens`), as Mooncake's traces have them; GuideLLM's have the same names with `timestamp` in seconds, so that 1000 is their
 * scale. `timeScale` 2 replays at half the speed.
 */
export function parseTrace(name: string, text: string, timeScale: number): TraceEntry[] {
  const entries = text.split('\n').flatMap((line, index): TraceEntry[] => {
    if (line.trim() === '') return []
    const fail = (problem: string): never => {
      throw new LatheError(
        'evaluate.invalid-data',
        `${name}, line ${index + 1}: ${problem}.`,
        'Each line is {"timestamp": ms, "input_length": tokens, "output_length": tokens}.',
      )
    }
    let value: unknown
    try {
      value = JSON.parse(line)
    } catch {
      return fail('not valid JSON')
    }
    if (typeof value !== 'object' || value === null) return fail('not a JSON object')
    const record = value as Readonly<Record<string, unknown>>
    const number = (...keys: readonly string[]): number | null => {
      const found = keys
        .map((key) => record[key])
        .find((candidate) => typeof candidate === 'number' && Number.isFinite(candidate) && candidate >= 0)
      return typeof found === 'number' ? found : null
    }
    const milliseconds = number('timestamp', 'timestamp_ms')
    const seconds = number('arrival_time', 'at_s')
    const at = milliseconds ?? (seconds === null ? null : seconds * 1000)
    const input = number('input_length', 'prompt_tokens', 'input_tokens')
    const output = number('output_length', 'output_tokens', 'completion_tokens')
    if (at === null || input === null || output === null) return fail('has no arrival or no lengths')
    return [{ atMs: at * timeScale, promptTokens: Math.max(1, Math.round(input)), outputTokens: Math.max(1, Math.round(output)) }]
  })
  if (entries.length === 0 || entries.length > MAX_TRACE) {
    throw new LatheError(
      'evaluate.invalid-data',
      `${name} has ${entries.length} requests; 1 to ${MAX_TRACE} can be replayed.`,
      'Choose another trace.',
    )
  }
  const sorted = entries.toSorted((a, b) => a.atMs - b.atMs)
  const first = sorted[0]?.atMs ?? 0
  return sorted.map((entry) => ({ ...entry, atMs: entry.atMs - first }))
}

export async function readTrace(path: string, timeScale = 1): Promise<TraceEntry[]> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new LatheError('evaluate.invalid-data', `${path} can't be read.`, 'Check the path.', { cause })
  })
  return parseTrace(path, text, timeScale)
}
