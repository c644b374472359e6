/** What is planned for a load, against the ledger of a real adapter after it: weights and cache to the byte, the rest to 0.3 %. */
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { planCapacity } from '../capacity/planner.ts'
import { CAPACITY_DEFAULTS, kvElementsOf } from '../contract/index.ts'
import { testBackends } from '../gpu/test/adapters.ts'
import type { KvSetting } from '../gpu/kv-format.ts'
import { openRuntime } from '../runtime/open-runtime.ts'
import { inspectModelFolder } from './bindings/checkpoint.ts'
import { subjectOfFolder } from './capacity-subject.ts'

const DEMO = join(import.meta.dirname, '../../assets/demo-model')
const backends = await testBackends()
const device = backends.find(({ adapter }) => adapter.includes('llvmpipe'))

test.skipIf(device === undefined)('a plan is what the device then holds', async () => {
  await using backend = await device!.open()
  const facts = await inspectModelFolder(DEMO)
  for (const [contextTokens, kvDtype, parallel] of [
    [1024, 'f16', null],
    [256, 'int8/int4', 3],
  ] as const satisfies readonly [number, KvSetting, number | null][]) {
    const room = parallel === null ? {} : { maxSequences: parallel, kvTokens: parallel * contextTokens }
    const runtime = await openRuntime({ source: DEMO, backend, modelId: 'demo', contextTokens, kvDtype, fixedTokenBudget: 16, ...room })
    const { weightBytes, kvBytes, otherBytes } = runtime.info
    await runtime[Symbol.asyncDispose]()
    const { parts } = planCapacity(
      {
        ...CAPACITY_DEFAULTS,
        ...kvElementsOf(kvDtype),
        ...(parallel !== null && { concurrency: parallel, exactConcurrency: true as const }),
        subject: { kind: 'model', modelId: 'demo' },
        contextTokens,
      },
      subjectOfFolder('demo', facts),
      { title: 'lavapipe', device: null, calibration: null, memoryBytes: null, software: true },
    )
    expect([parts.weightBytes, parts.kvBytes]).toEqual([weightBytes, kvBytes])
    // beyond the plan: norms, widened to f32 as they are uploaded
    expect(Math.abs(parts.activationBytes - otherBytes)).toBeLessThan(0.003 * otherBytes)
  }
})
