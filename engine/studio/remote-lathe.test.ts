/** The real engine asked over its own server: what the board says of a Lathe elsewhere is what it says of the folder behind it. Random weights, f64. */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeRandomModel } from '../compress/testing/random-model.ts'
import { bindEngine } from './bind-engine.ts'
import { composeStudio } from './compose.ts'
import type { Studio } from './compose.ts'
import { clientOf, jobIn } from './test/open-studio.ts'
import type { StudioClient } from './test/open-studio.ts'
import { useTemporaryFolders } from './test/temporary-folder.ts'

const temporaryFolder = useTemporaryFolders()
const ASSETS = join(import.meta.dirname, '../../assets')
const SHAPE = { layers: 1, hidden: 32, intermediate: 48, heads: 2, kvHeads: 1 } as const
const TEXT_ONLY = { perplexity: true, tasks: false, throughput: false } as const
let studio: Studio
let client: StudioClient
let folder = ''

beforeAll(async () => {
  folder = temporaryFolder()
  const data = join(folder, 'assets', 'demo-eval')
  mkdirSync(data, { recursive: true })
  // The reference adapter reads two windows of 64 tokens of it.
  writeFileSync(join(data, 'perplexity.txt'), readFileSync(join(ASSETS, 'demo-eval', 'perplexity.txt'), 'utf8').slice(0, 1200))
  cpSync(join(ASSETS, 'calibration'), join(folder, 'assets', 'calibration'), { recursive: true })
  studio = await composeStudio(
    {
      dataFolder: join(folder, 'data'),
      assetsFolder: join(folder, 'assets'),
      shell: 'headless',
      version: '1.2.3',
      log: () => {},
      adapterId: 'reference',
    },
    bindEngine,
  )
  client = clientOf(studio)
})
afterAll(() => studio.close())

test('a Lathe elsewhere has the figures of the folder behind it', async () => {
  const path = join(folder, 'original')
  await writeRandomModel(path, { ...SHAPE, seed: 1 })
  const { id } = await client.models.import({ path })
  const measured = async (modelId: string) => {
    const [job] = await client.results.evaluate({ modelIds: [modelId], evaluate: TEXT_ONLY })
    const ended = await jobIn(client, job!.id, 'succeeded', 'failed')
    expect(ended.error).toBeNull()
    return (await client.results.board({ modelId: id })).results.find((set) => set.modelId === modelId)!
  }
  const local = await measured(id)
  const served = await client.server.start({
    modelIds: [id],
    host: '127.0.0.1',
    port: 0,
    corsOrigins: [],
    idleUnloadMinutes: null,
  })
  const url = served.url ?? ''
  const { apiKey } = await client.server.key()
  const { id: remoteId } = await client.remotes.add({ parentId: id, url, model: null, name: 'Elsewhere', apiKeyVariable: null, apiKey })
  const remote = await measured(remoteId)

  const [here, there] = [local.perplexity!, remote.perplexity!]
  expect(there).toMatchObject({ tokens: 128, window: 64, bytes: here.bytes, tokenization: here.tokenization, dataset: here.dataset })
  expect(there.value! / here.value!).toBeCloseTo(1, 6)
  expect(there.bitsPerByte! / here.bitsPerByte!).toBeCloseTo(1, 6)
  expect(remote.drift).toMatchObject({ baselineId: id, top1Agreement: 1, flips: 0, boundedByTop: 20, hasTokens: true })
  for (const figure of [remote.drift!.kldMean, remote.drift!.kldMax, remote.drift!.deltaPRms, remote.drift!.logPerplexityRatio])
    expect(Math.abs(figure!)).toBeLessThan(1e-6)
  expect(remote.provenance['drift']).toMatchObject({ adapter: `remote: ${url}`, driver: expect.stringMatching(/, lathe 1\.2\.3$/) })
  expect(JSON.stringify(await client.results.board({ modelId: id }))).not.toContain(apiKey)
  expect((await client.results.tokens({ modelId: remoteId, limit: 3 })).rows).toHaveLength(3)
})
