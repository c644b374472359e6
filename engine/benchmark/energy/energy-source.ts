/** What can be read of a device's energy, whoever reads it. Implemented over nvidia-smi and over Linux' sysfs. */
import type { Energy, EnergyScope } from '../../contract/index.ts'
import { notMeasured, type EnergyWindow } from './energy-trace.ts'

export interface EnergyRecording {
  /** Between two times of performance.now() since `record()` resolved; waits for the reading that covers the end, a second or so at most. */
  between(fromMs: number, toMs: number): Promise<EnergyWindow>
  [Symbol.asyncDispose](): Promise<void>
}

export interface EnergySource {
  readonly scope: EnergyScope
  readonly counter: string
  readonly method: 'counter' | 'power'
  readonly intervalMs: number
  /** Reads from now on; resolves when the first reading is there, or when it is clear that none will come, which `between` then says. */
  record(): Promise<EnergyRecording>
}

/** The source that belongs to an adapter, or why there is none. */
export type EnergyChoice = EnergySource | { readonly reason: string }

export interface EnergyUse {
  readonly outputTokens: number
  readonly requests: number
}

export function energyOf(source: EnergySource, window: EnergyWindow, { outputTokens, requests }: EnergyUse): Energy {
  if (window.kind === 'not-measured') return window
  if (!(window.joules > 0)) return notMeasured(`${source.counter} did not move during the run.`)
  if (outputTokens === 0 || requests === 0) return notMeasured('No request was completed.')
  const { joules, seconds, samples } = window
  const { scope, counter, method, intervalMs } = source
  return {
    kind: 'measured',
    joules,
    seconds,
    outputTokens,
    requests,
    joulesPerOutputToken: joules / outputTokens,
    joulesPerRequest: joules / requests,
    tokensPerSecondPerWatt: outputTokens / joules,
    meanWatts: joules / seconds,
    scope,
    counter,
    method,
    samples,
    intervalMs,
    idleSubtracted: false,
  }
}
