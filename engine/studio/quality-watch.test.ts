import { createServer } from 'node:http'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
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
  answers: null,
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

describe('a model on a server', () => {
  const servers: Server[] = []
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections()
      server.close()
    }
  })

  /** Gives every letter a log-probability, or refuses to. `state.model` is what it has behind its one name. */
  async function serve(state: { model: number; scores: boolean }): Promise<string> {
    const server = createServer(async (request, response) => {
      let text = ''
      for await (const chunk of request) text += String(chunk)
      const send = (status: number, value: unknown): void => {
        response.writeHead(status, { 'content-type': 'application/json' })
        response.end(JSON.stringify(value))
      }
      if (request.url === '/v1/models') return send(200, { data: [{ id: 'm', max_model_len: 4096 }] })
      if (request.url !== '/v1/completions' || !state.scores) return send(404, { error: { message: 'log-probabilities are off' } })
      const letters = [...String((JSON.parse(text) as { readonly prompt: string }).prompt)]
      const logprob = (letter: string): number => -((letter.charCodeAt(0) * state.model) % 31) / 10
      const logprobs = {
        token_logprobs: letters.map((letter, i) => (i === 0 ? null : logprob(letter))),
        top_logprobs: letters.map((letter, i) => (i === 0 ? null : { [letter]: logprob(letter) })),
        text_offset: letters.map((_, i) => i),
      }
      send(200, { choices: [{ text: '', logprobs }] })
    })
    servers.push(server)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  }

  test('is asked a bundled task, another model behind its name is flagged, and the schedule outlives a restart', async () => {
    const folder = temporaryFolder()
    const state = { model: 1, scores: true }
    const url = await serve(state)
    open = await openStudio(folder)
    const { client } = open
    const remote = await client.remotes.add({ parentId: null, url, model: null, name: 'far', apiKeyVariable: null })
    await client.monitor.setWatch({ modelId: remote.id, everyHours: 24 })
    const jobs = async () => (await client.jobs.list()).filter((job) => job.modelId === remote.id)
    const again = async () => {
      const [job] = await client.results.evaluateTasks({ modelIds: [remote.id], options: { tasks: ['reading'], limit: 40 } })
      await jobIn(client, job!.id, 'succeeded')
    }
    await jobIn(client, (await jobs())[0]!.id, 'succeeded')
    const [first] = await client.monitor.watches()
    expect(first).toMatchObject({ state: 'waiting', reason: null })
    expect(first?.checks).toMatchObject([{ kldMean: null, answers: { task: 'reading', changed: 0, logprobShift: 0 } }])
    await again()
    expect((await client.monitor.watches())[0]).toMatchObject({ state: 'steady', reason: null })
    state.model = 7
    await again()
    const [changed] = await client.monitor.watches()
    expect(changed).toMatchObject({ state: 'changed', reason: expect.stringContaining('another model, quantization or template') })
    expect(changed!.checks.map(({ answers }) => answers!.logprobShift! > 0.1)).toEqual([false, false, true])

    await open.studio.close()
    open = await openStudio(folder)
    expect(await open.client.monitor.watches()).toEqual([changed])
  })

  test('that gives no log-probabilities says so', async () => {
    const url = await serve({ model: 1, scores: false })
    open = await openStudio(temporaryFolder())
    const { client } = open
    const remote = await client.remotes.add({ parentId: null, url, model: null, name: 'far', apiKeyVariable: null })
    await client.monitor.setWatch({ modelId: remote.id, everyHours: 24 })
    const [job] = await client.jobs.list()
    await jobIn(client, job!.id, 'failed')
    expect((await client.monitor.watches())[0]).toMatchObject({
      checks: [],
      state: 'waiting',
      reason: expect.stringMatching(/^The last try failed: /),
    })
  })
})
