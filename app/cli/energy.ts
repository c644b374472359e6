/** Energy of a run on the command line: fields for scripts, one line for people. */
import { ENERGY_SCOPES } from '../../engine/contract/index.ts'
import type { Energy } from '../../engine/contract/index.ts'

/** `joules_per_token` is of output tokens, prompts included in the energy; null with the reason beside it where nothing was read. */
export function energyJson(energy: Energy | undefined) {
  const measured = energy?.kind === 'measured' ? energy : null
  return {
    joules_per_token: measured?.joulesPerOutputToken ?? null,
    joules_per_request: measured?.joulesPerRequest ?? null,
    tokens_per_second_per_watt: measured?.tokensPerSecondPerWatt ?? null,
    energy:
      measured === null
        ? null
        : {
            joules: measured.joules,
            seconds: measured.seconds,
            mean_watts: measured.meanWatts,
            output_tokens: measured.outputTokens,
            requests: measured.requests,
            scope: measured.scope,
            counter: measured.counter,
            method: measured.method,
            samples: measured.samples,
            interval_ms: measured.intervalMs,
            idle_subtracted: measured.idleSubtracted,
          },
    energy_not_measured: energy?.kind === 'not-measured' ? energy.reason : null,
  }
}

export function describeEnergy(energy: Energy | undefined): string {
  if (energy === undefined) return 'energy not measured'
  if (energy.kind === 'not-measured') return `energy not measured: ${energy.reason.replace(/\.$/, '')}`
  const { joulesPerOutputToken, joulesPerRequest, tokensPerSecondPerWatt, meanWatts, scope, counter, samples, intervalMs } = energy
  return [
    `energy ${digits(joulesPerOutputToken)} J/output token, ${digits(joulesPerRequest)} J/request, ${digits(tokensPerSecondPerWatt)} tok/s/W`,
    `at ${digits(meanWatts)} W (${ENERGY_SCOPES[scope]}, ${counter}, ${samples} readings every ${intervalMs} ms, idle ${energy.idleSubtracted ? '' : 'not '}subtracted)`,
  ].join(' ')
}

function digits(value: number): string {
  return String(Number(value.toPrecision(3)))
}
