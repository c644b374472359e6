import { afterEach, describe, expect, test } from 'vitest'
import type { QualityCheck } from '../contract/index.ts'
import { changeBetween } from './quality-watch.ts'
import { FAKE_PRESET } from './test/fake-engine.ts'
import { jobIn, openStudio, type OpenStudio } from './test/open-studio.ts'
import { useTemporaryFolders } from './test/temporary-folder.ts'

const temporaryFolder = useTemporaryFolders()
let open: OpenStudio | null = null
afterEach(async () => {
  await open?.studio.close()
  open = null
})

const CHECK: QualityCheck = {
  at: '2026-11-23T00:00:00.000Z',
  kldMean: 0.004,
  top1Agreement: 0.99,
  adapter: 'a GPU',
  driver: '1',
  latheVersion: '1.0.0',
}

describe('a change', () => {
  test('on the same machine is anything beyond rounding, and points at the files', () => {
    expect(changeBetween(CHECK, { ...CHECK })).toBeNull()
    expect(changeBetween(CHECK, { ...CHECK, kldMean: 0.004 * 1.0005 })).toBeNull()
    expect(changeBetween(CHECK, { ...CHECK, kldMean: 0.0041 })).toBe(
      'The mean divergence went from 0.00400 to 0.00410. Device, driver and Lathe are the same: look at the files.',
    )
    expect(changeBetween(CHECK, { ...CHECK, kldMean: null })).toContain('no longer a number')
  })

  test('on another driver may be small, and names the driver', () => {
    const newer = { ...CHECK, driver: '2' }
    expect(changeBetween(CHECK, { ...newer, kldMean: 0.0041 })).toBeNull()
    expect(changeBetween(CHECK, { ...newer, kldMean: 0.008 })).toContain('Other than at first: the driver (1 → 2).')
  })
})

test('a watched variant is measured when it is due, through an ordinary job', async () => {
  open = await openStudio(temporaryFolder())
  const { client } = open
  const source = await client.models.importSample()
  const [job] = await client.optimize.start({
    modelId: source.id,
    presetIds: [FAKE_PRESET.id],
    outputFolder: null,
    evaluate: { perplexity: false, tasks: false, throughput: false },
    seed: 0,
  })
  const { variantId } = await jobIn(client, job!.id, 'succeeded')
  await expect(client.monitor.setWatch({ modelId: source.id, everyHours: 1 })).rejects.toMatchObject({ data: { code: 'request.invalid' } })
  const [watch] = await client.monitor.setWatch({ modelId: variantId!, everyHours: 24 })
  expect(watch).toMatchObject({ modelId: variantId, everyHours: 24, checks: [], state: 'waiting' })
  const check = (await client.jobs.list()).find((candidate) => candidate.kind === 'evaluate')
  await jobIn(client, check!.id, 'succeeded')
  const [checked] = await client.monitor.watches()
  expect(checked?.checks.length).toBe(1)
  expect(Date.parse(checked!.nextAt!) - Date.parse(checked!.checks[0]!.at)).toBeLessThanOrEqual(24 * 3_600_000)
  expect(await client.monitor.setWatch({ modelId: variantId!, everyHours: null })).toEqual([])
})
