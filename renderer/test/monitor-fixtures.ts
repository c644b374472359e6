/** A server's course as the engine tells it: a first sample with gauges only, then a load that comes and goes. */
import type { MonitorSample, QualityWatch } from '../../engine/contract/index.ts'

export function monitorSamples(count: number, startMs: number): MonitorSample[] {
  const none = { p50: null, p90: null, p99: null }
  return Array.from({ length: count }, (_, index) => {
    const load = 0.5 + 0.4 * Math.sin(index / 9)
    const first = index === 0
    const latency = (base: number) => (first ? none : { p50: base * load, p90: base * load * 1.8, p99: base * load * 3.1 })
    return {
      at: new Date(startMs + index * 2000).toISOString(),
      running: Math.round(24 * load),
      waiting: Math.max(0, Math.round(12 * (load - 0.6))),
      kvUsage: 0.15 + 0.7 * load,
      firstTokenMs: latency(180),
      interTokenMs: latency(24),
      endToEndMs: latency(3200),
      promptTokensPerSecond: first ? null : 2400 * load,
      generatedTokensPerSecond: first ? null : 900 * load,
      requestsPerSecond: first ? null : 4 * load,
      cacheHitRate: first ? null : 0.35 + 0.1 * load,
      draftAcceptance: first ? null : 0.72,
      preemptionsPerSecond: first ? null : 0,
    }
  })
}

export function watchFixtures(modelId: string): QualityWatch[] {
  const check = {
    top1Agreement: 0.986,
    adapter: 'llvmpipe (LLVM 19.1, 256 bits)',
    driver: 'lavapipe 25.1',
    latheVersion: '0.1.0',
    answers: null,
  }
  return [
    {
      modelId,
      everyHours: 24,
      checks: [0.0048, 0.0048, 0.0048, 0.0061].map((kldMean, day) => ({ ...check, kldMean, at: `2026-11-${20 + day}T06:00:00.000Z` })),
      nextAt: '2026-11-24T06:00:00.000Z',
      state: 'changed',
      reason: 'The mean divergence went from 0.00480 to 0.00610. Device, driver and Lathe are the same: look at the files.',
    },
  ]
}
