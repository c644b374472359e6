/** Energy as metrics of the board: of the engine's own requests, and of each load. Where no counter was read, the reason stands in its place. */
import { ENERGY_SCOPES } from '../../../engine/contract/index.ts'
import type { Energy } from '../../../engine/contract/index.ts'
import { formatSignificant } from '../../lib/format.ts'
import type { Entry, Metric, Reading } from './metrics.ts'
import { measured } from './reading.ts'

function joulesPerToken(joules: number): string {
  return joules < 0.1 ? `${formatSignificant(joules * 1000)} mJ/token` : `${formatSignificant(joules)} J/token`
}

interface EnergyMetricOptions {
  readonly id: string
  readonly title: string
  readonly group: Metric['group']
  readonly protocol: string
  readonly of: (entry: Entry) => Energy | null
  readonly details: (entry: Entry) => Readonly<Record<string, string>>
}

export function energyMetric({ id, title, group, protocol, of, details }: EnergyMetricOptions): Metric {
  return {
    id,
    title,
    group,
    term: 'energy',
    better: 'down',
    format: joulesPerToken,
    delta: 'relative',
    protocol,
    perAdapter: true,
    read: (entry) => {
      const energy = of(entry)
      return energy?.kind === 'measured' ? energyReading(entry, protocol, energy, details(entry)) : null
    },
    missing: (entry) => {
      const energy = of(entry)
      return energy?.kind === 'not-measured' ? energy.reason : null
    },
    basis: (entry) => {
      const energy = of(entry)
      return energy?.kind === 'measured' ? `read from ${energy.counter} (${ENERGY_SCOPES[energy.scope]})` : null
    },
  }
}

function energyReading(
  entry: Entry,
  protocol: string,
  energy: Extract<Energy, { kind: 'measured' }>,
  details: Readonly<Record<string, string>>,
): Reading | null {
  return measured(entry, protocol, energy.joulesPerOutputToken, {
    details: {
      'Per request': `${formatSignificant(energy.joulesPerRequest)} J`,
      'Tokens per second and watt': formatSignificant(energy.tokensPerSecondPerWatt),
      'Mean power': `${formatSignificant(energy.meanWatts)} W`,
      Covers: `${ENERGY_SCOPES[energy.scope]}, whoever used it; idle power ${energy.idleSubtracted ? '' : 'not '}subtracted`,
      Counter: `${energy.counter}, ${energy.method === 'power' ? 'integrated from' : 'difference over'} ${energy.samples} readings every ${energy.intervalMs} ms`,
      Measured: `${energy.requests} requests, ${energy.outputTokens} tokens in ${formatSignificant(energy.seconds)} s`,
      ...details,
    },
  })
}
