/** `/studio/fit` over HTTP against the studio's own server: the figures are those of the procedure behind the page's FitBars. */
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { CAPACITY_DEFAULTS } from '../contract/index.ts'
import type { BindOptions, OverheadPort } from './ports.ts'
import { createFakeEngine } from './test/fake-engine.ts'
import { openStudio, type OpenStudio } from './test/open-studio.ts'
import { useTemporaryFolders } from './test/temporary-folder.ts'

const temporaryFolder = useTemporaryFolders()
const DEMO = join(import.meta.dirname, '../../assets/demo-model')
const KEY = 'secret-key'

let open: OpenStudio | null = null
afterEach(async () => open?.studio.close())

interface FitAnswer {
  readonly [key: string]: unknown
  readonly predicted: Readonly<Record<string, number>>
}

async function refused(response: Response): Promise<unknown[]> {
  const { error } = (await response.json()) as { error: { param: string | null } }
  return [response.status, error.param]
}

test('tells what the page’s FitBar tells, for served models and for others of the library', async () => {
  const engine = createFakeEngine()
  let overheads: OverheadPort | null = null
  const bind = (options: BindOptions) => {
    overheads = options.overheads ?? null
    return engine.bind(options)
  }
  open = await openStudio(temporaryFolder(), { ...engine, bind })
  const { client } = open
  const demo = await client.models.import({ path: DEMO })
  const sample = await client.models.importSample()
  const view = await client.server.start({
    modelIds: [demo.id],
    host: '127.0.0.1',
    port: 0,
    apiKey: KEY,
    corsOrigins: [],
    idleUnloadMinutes: null,
    contextTokens: 512,
    parallel: 4,
    kvDtype: 'int8',
  })
  const at = new URL('/studio/fit', view.url!)
  const headers = { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' }
  const get = (query: Record<string, string> = {}): Promise<Response> => fetch(`${at}?${new URLSearchParams(query)}`, { headers })
  const post = (body: object): Promise<Response> => fetch(at, { method: 'POST', headers, body: JSON.stringify(body) })
  expect((await fetch(at)).status).toBe(401)

  const usual = (await (await get()).json()) as FitAnswer
  const plan = await client.capacity.plan({
    ...CAPACITY_DEFAULTS,
    subject: { kind: 'model', modelId: demo.id },
    contextTokens: 512,
    concurrency: 4,
    exactConcurrency: true,
    kvElement: 'int8',
    promptTokens: 256,
    outputTokens: 128,
  })
  const { parts, fit, limits, gpu } = plan
  const best = plan.schemes.find((option) => option.scheme.id === plan.bestSchemeId)
  expect(usual).toMatchObject({
    model: view.models[0]!.name,
    context: 512,
    concurrency: 4,
    kv_dtype: 'int8',
    verdict: fit.verdict,
    predicted: { weight_bytes: fit.weightBytes, kv_bytes: fit.kvBytes, logit_bytes: parts.logitBytes, resident_bytes: 0 },
    overhead: { source: 'assumed', bytes: 0, loads: 0, newest: null },
    budget: { bytes: fit.budgetBytes, source: gpu.memorySource },
    solves: { context: limits.context, concurrency: limits.concurrency, scheme: best === undefined ? null : { id: best.scheme.id } },
    // the fake engine's load
    measured: { weight_bytes: 100, kv_bytes: 10, other_bytes: 1, total_bytes: 111 },
  })
  const { total_bytes: total, margin_bytes: _margin, ...each } = usual.predicted
  expect(Object.values(each).reduce((sum, bytes) => sum + bytes, 0)).toBe(total)
  expect(each['activation_bytes']! + each['logit_bytes']!).toBe(fit.activationBytes)

  // What loads on this adapter took beyond their plan, of another driver's nothing.
  const { adapters } = await client.system.hardware()
  const adapter = adapters.find((candidate) => candidate.selected)!
  overheads!.add({ id: adapter.id, driver: 'an older one' }, 1e9)
  for (const bytes of [5000, 1e12, 4000]) overheads!.add(adapter, bytes)
  const learnt = (await (await get()).json()) as FitAnswer
  expect(learnt).toMatchObject({ predicted: { fixed_overhead_bytes: 5000 }, overhead: { source: 'measured', bytes: 5000, loads: 3 } })
  expect(learnt.predicted['total_bytes']).toBe(total! + 5000)

  // A model that is not served, by its name; the served one is in use and stays.
  const other = (await (
    await post({ model: sample.name, context: 64, concurrency: 2, kv_dtype: 'int8/f16', scheme: 'w4a16-g128' })
  ).json()) as FitAnswer
  expect(other).toMatchObject({
    model: sample.name,
    scheme: 'W4A16 g128',
    context: 64,
    concurrency: 2,
    kv_dtype: 'int8/f16',
    predicted: { resident_bytes: 111 },
    measured: null,
    loaded: [{ name: demo.name, bytes: 111, in_use: true }],
  })
  const elsewhere = (await (await get({ device: 'rtx-4090', context: '1024' })).json()) as FitAnswer
  expect(elsewhere).toMatchObject({
    device: { name: 'RTX 4090', software: false },
    verdict: 'fits',
    fits: true,
    budget: { free_bytes: null },
  })

  expect(
    await Promise.all(
      [
        get({ model: 'nobody' }),
        get({ context: '0' }),
        post({ concurrency: 1.5 }),
        get({ context: '' }),
        get({ kv_dtype: 'int9' }),
        get({ scheme: 'w1a1' }),
        get({ device: 'voodoo-2' }),
      ].map(async (response) => refused(await response)),
    ),
  ).toEqual([
    [404, 'model'],
    [400, 'context'],
    [400, 'concurrency'],
    [400, 'context'],
    [400, 'kv_dtype'],
    [400, 'scheme'],
    [400, 'device'],
  ])
})
