/**
 * What is planned for a load, against the ledger of a real adapter after it: weights and cache to the byte, the rest to 0.3 %, and what is missing of
 * it learnt from the first load, so that the plan of another one is right to a few hundred bytes.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { measuredOverhead } from '../capacity/overhead.ts'
import { CAPACITY_DEFAULTS, kvElementsOf } from '../contract/index.ts'
import { testBackends } from '../gpu/test/adapters.ts'
import type { KvSetting } from '../gpu/kv-format.ts'
import { bindEngine } from './bind-engine.ts'
import { machineHere } from './capacity-machine.ts'
import { subjectOfFolder } from './capacity-subject.ts'
import { planCapacity } from '../capacity/planner.ts'

const DEMO = join(import.meta.dirname, '../../assets/demo-model')
/** Made elsewhere: inputs of products are rounded, which takes buffers of its own. */
const ROUNDED = join(import.meta.dirname, '../../../shared/data/models')
const lavapipe = (await testBackends()).find(({ adapter }) => adapter === 'llvmpipe')

test.skipIf(lavapipe === undefined)('a plan is what the device then holds, and learns what it lacked', async () => {
  const errors: number[] = []
  const learnt = () => measuredOverhead(errors.map((bytes) => ({ bytes, measuredAt: 'now' })))
  const overheads = { get: learnt, add: (_adapter: object, bytes: number) => void errors.push(bytes) }
  const engine = bindEngine({ adapterId: 'llvmpipe', log: () => {}, onModelsChanged: () => {}, overheads })
  const subject = subjectOfFolder('demo', await engine.checkpoint.inspect(DEMO))

  /** Error of the plan's total made just before the load. */
  async function errorOf(contextTokens: number, kvDtype: KvSetting, parallel: number | null): Promise<number> {
    const machine = await machineHere({ ...engine, calibrationOf: () => null, overheadOf: learnt }, 'demo')
    const exact = parallel === null ? {} : { concurrency: parallel, exactConcurrency: true as const }
    const asked = { ...CAPACITY_DEFAULTS, ...kvElementsOf(kvDtype), ...exact, contextTokens }
    const { parts } = planCapacity({ ...asked, subject: { kind: 'model', modelId: 'demo' } }, subject, machine)
    const room = parallel === null ? {} : { maxSequences: parallel, kvTokens: parallel * contextTokens }
    using lease = await engine.models.acquire({
      modelId: 'demo',
      name: 'demo',
      folder: DEMO,
      contextTokens,
      kvDtype,
      signal: new AbortController().signal,
      ...room,
    })
    const { weightBytes, kvBytes, otherBytes } = lease.runtime.info
    expect([parts.weightBytes, parts.kvBytes]).toEqual([weightBytes, kvBytes])
    expect(Math.abs(parts.activationBytes - otherBytes)).toBeLessThan(0.003 * otherBytes)
    return otherBytes - parts.activationBytes - (parts.overheadBytes ?? 0)
  }

  try {
    const first = await errorOf(1024, 'f16', null)
    // norms, widened to f32 as they are uploaded, and buffers that bindings need to exist
    expect(errors).toEqual([first])
    await engine.models.unload('demo')
    const second = await errorOf(256, 'int8/int4', 3)
    expect(Math.abs(second)).toBeLessThan(512)
    expect(Math.abs(second)).toBeLessThan(Math.abs(first) / 10)
  } finally {
    await engine.models.unload('demo')
    await engine.close()
  }
})

test.skipIf(lavapipe === undefined || !existsSync(ROUNDED)).each(['llmcompressor-w8a8', 'llmcompressor-fp8-dynamic'])(
  'the rounded inputs of %s are counted',
  async (name) => {
    const errors: number[] = []
    const overheads = { get: () => null, add: (_adapter: object, bytes: number) => void errors.push(bytes) }
    const engine = bindEngine({ adapterId: 'llvmpipe', log: () => {}, onModelsChanged: () => {}, overheads })
    try {
      const load = { modelId: name, name, folder: join(ROUNDED, name), contextTokens: 64, kvDtype: 'f16' } as const
      using lease = await engine.models.acquire({ ...load, signal: new AbortController().signal })
      expect(lease.runtime.info.otherBytes).toBeGreaterThan(1e6)
    } finally {
      await engine.models.unload(name)
      await engine.close()
    }
    expect(errors).toHaveLength(1)
    // the norms again
    expect(Math.abs(errors[0]!)).toBeLessThan(8192)
  },
)
