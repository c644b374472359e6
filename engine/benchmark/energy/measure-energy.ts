/**
 * Energy of the engine's own requests, one at a time: prompt and answer as in the throughput benchmark, again and again for some seconds, since
 * power is read ten times a second and a request may take less. Runs after the timed rounds, so that reading power is in no speed.
 */
import type { Energy } from '../../contract/index.ts'
import { runOnce } from '../throughput.ts'
import type { ThroughputOptions, ThroughputSubject } from '../throughput.ts'
import { energyOf } from './energy-source.ts'
import type { EnergyChoice, EnergySource } from './energy-source.ts'
import { notMeasured } from './energy-trace.ts'

/** Thirty readings: the edges are then a few per cent. */
const MEASURE_MS = 3000
/** A sensor shows the load of some tenths of a second ago. */
const LEAD_IN_MS = 500
/** Other prompts than those of the rounds that were timed. */
const FIRST_ROUND = 10_000

export interface EnergyOptions extends Pick<ThroughputOptions, 'promptTokens' | 'generatedTokens' | 'signal'> {
  /** Milliseconds of the clock that the recordings use: performance.now(). */
  readonly now?: () => number
}

/** In the order of the subjects, which are measured one after the other. */
export async function measureEnergy(
  subjects: readonly Pick<ThroughputSubject, 'runtime'>[],
  choice: EnergyChoice,
  options: EnergyOptions,
): Promise<Energy[]> {
  const energies: Energy[] = []
  for (const subject of subjects) {
    energies.push('reason' in choice ? notMeasured(choice.reason) : await energyOfSubject(subject, choice, options))
  }
  return energies
}

async function energyOfSubject(
  { runtime }: Pick<ThroughputSubject, 'runtime'>,
  source: EnergySource,
  options: EnergyOptions,
): Promise<Energy> {
  const now = options.now ?? (() => performance.now())
  await using recording = await source.record()
  let round = FIRST_ROUND
  const repeat = async (ms: number): Promise<{ readonly fromMs: number; readonly toMs: number; readonly requests: number }> => {
    const fromMs = now()
    const first = round
    do {
      options.signal?.throwIfAborted()
      await runOnce(runtime, options, round++)
    } while (now() - fromMs < ms)
    return { fromMs, toMs: now(), requests: round - first }
  }
  if (source.method === 'power') await repeat(LEAD_IN_MS)
  const { fromMs, toMs, requests } = await repeat(MEASURE_MS)
  const window = await recording.between(fromMs, toMs)
  return energyOf(source, window, { requests, outputTokens: requests * options.generatedTokens })
}
