/** What "auto" means for the KV cache: the type that the checkpoint names, unless somebody asks for another. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { CAPACITY_DEFAULTS } from '../../contract/index.ts'
import type { CapacityRequest } from '../../contract/index.ts'
import type { KvWish } from '../../gpu/kv-format.ts'
import { bindEngine } from '../bind-engine.ts'
import { planForFolder } from '../capacity.ts'
import { useTemporaryFolders } from '../test/temporary-folder.ts'

const temporaryFolder = useTemporaryFolders()
const DEMO = join(import.meta.dirname, '../../../assets/demo-model')

/** The demo model under a config that names a cache. */
function demoNaming(scheme: object | null): string {
  const folder = join(temporaryFolder(), 'model')
  cpSync(DEMO, folder, { recursive: true })
  const path = join(folder, 'config.json')
  const config = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
  const quantization = { quant_method: 'compressed-tensors', format: 'dense', config_groups: {}, ignore: [], kv_cache_scheme: scheme }
  writeFileSync(path, JSON.stringify({ ...config, quantization_config: quantization }))
  return folder
}

const FP8 = { num_bits: 8, type: 'float', strategy: 'tensor', dynamic: false, symmetric: true }

test('a load follows the checkpoint unless told otherwise, and says so', async () => {
  const folder = demoNaming(FP8)
  const engine = bindEngine({ adapterId: 'reference', log: () => {}, onModelsChanged: () => {} })
  try {
    const { kvCacheDtype, architecture } = await engine.checkpoint.inspect(folder)
    expect([kvCacheDtype, architecture.kvCacheDtype]).toEqual(['fp8', 'fp8'])
    const loadedAs = async (kvDtype: KvWish): Promise<unknown[]> => {
      const model = { modelId: `as ${kvDtype}`, name: 'demo', folder }
      using lease = await engine.models.acquire({ ...model, contextTokens: 64, kvDtype, signal: new AbortController().signal })
      const { info } = lease.runtime
      const shown = engine.models.loaded().find(({ modelId }) => modelId === model.modelId)!
      return [info.kvDtype, info.checkpointKvDtype, shown.kvDtype, shown.kvNamedByCheckpoint ?? false]
    }
    expect(await loadedAs('auto')).toEqual(['fp8', 'fp8', 'fp8', true])
    expect(await loadedAs('f16')).toEqual(['f16', 'fp8', 'f16', false])
    expect(await loadedAs('fp8')).toEqual(['fp8', 'fp8', 'fp8', true])
    const planned = async (kvElement: CapacityRequest['kvElement']): Promise<unknown[]> => {
      const request: CapacityRequest = { ...CAPACITY_DEFAULTS, subject: { kind: 'model', modelId: 'm' }, kvElement, contextTokens: 64 }
      const plan = await planForFolder(engine, { modelId: 'm', name: 'demo', folder }, request)
      return [plan.request.kvElement, plan.subject.kvElement, plan.fit.kvBytes]
    }
    const [automatic, asked, wide] = [await planned('auto'), await planned('fp8'), await planned('f16')]
    expect(automatic).toEqual(asked)
    expect([wide[0], wide[1], Number(wide[2]) > Number(asked[2])]).toEqual(['f16', 'fp8', true])
  } finally {
    await engine.close()
  }
})

test('no name, or one that is no FP8, is 16 bits', async () => {
  const { checkpoint } = bindEngine({ adapterId: 'reference', log: () => {}, onModelsChanged: () => {} })
  const folders = [DEMO, demoNaming(null), demoNaming({ ...FP8, type: 'int' })]
  expect(await Promise.all(folders.map(async (folder) => (await checkpoint.inspect(folder)).kvCacheDtype))).toEqual([null, null, null])
})
