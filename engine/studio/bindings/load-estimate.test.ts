/** What is admitted is what the FitBar shows and what a load takes. */
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { KvSetting } from '../../gpu/kv-format.ts'
import { bindEngine } from '../bind-engine.ts'
import type { OverheadPort } from '../ports.ts'
import { loadEstimateBytes } from './load-estimate.ts'

const DEMO = join(import.meta.dirname, '../../../assets/demo-model')

async function withEngine(overheads: OverheadPort, use: (engine: ReturnType<typeof bindEngine>) => Promise<void>): Promise<void> {
  const engine = bindEngine({ adapterId: 'reference', log: () => {}, onModelsChanged: () => {}, overheads })
  try {
    await use(engine)
  } finally {
    await engine.close()
  }
}

test.each([null, 5000, -5000])('is the fit estimate to the byte, with a measured overhead of %j', async (bytes) => {
  const overhead = bytes === null ? null : { bytes, loads: 3, newestAt: '2026-01-01T00:00:00.000Z' }
  await withEngine({ get: () => overhead, add: () => {} }, async ({ checkpoint, fit }) => {
    const facts = await checkpoint.inspect(DEMO)
    const { weightBytes, kvBytes, activationBytes, overheadBytes = 0 } = await fit.fit(facts, facts.weightBytes, 256)
    const estimate = loadEstimateBytes(facts, {
      contextTokens: 256,
      kvTokens: undefined,
      sequences: undefined,
      kvDtype: 'f16',
      software: true,
      overhead,
    })
    expect(estimate).toBe(weightBytes + kvBytes + activationBytes + overheadBytes)
    expect(overheadBytes).toBe(Math.max(0, bytes ?? 0))
  })
})

test.each<[KvSetting, number | undefined]>([
  ['f16', undefined],
  ['int8', 700],
])('counts weights and a %s cache as the load reports them', async (kvDtype, kvTokens) => {
  await withEngine({ get: () => null, add: () => {} }, async ({ checkpoint, models }) => {
    const facts = await checkpoint.inspect(DEMO)
    const load = { contextTokens: 96, kvDtype, kvTokens, maxSequences: 3 }
    using lease = await models.acquire({ modelId: 'demo', name: 'demo', folder: DEMO, ...load, signal: new AbortController().signal })
    const { weightBytes, kvBytes } = lease.runtime.info
    const none = { ...facts, config: {} }
    expect(loadEstimateBytes(none, { ...load, sequences: 3, software: true, overhead: null })).toBe(weightBytes + kvBytes)
  })
})
