/** Every procedure of the contract through an in-process client: outputs fit their schemas (the server checks them), failures are LATHE. */
import { existsSync, readFileSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { safe } from '@orpc/server'
import { afterEach, describe, expect, it } from 'vitest'
import { CAPACITY_DEFAULTS, contract, DEFAULT_CALIBRATION, ErrorSchema, LatheError } from '../contract/index.ts'
import { CACHE_TYPES } from '../runtime/cache-cost.ts'
import { DEFAULT_SAMPLING } from './chat.ts'
import { openDatabase } from './store/database.ts'
import { FAKE_PRESET } from './test/fake-engine.ts'
import { jobIn, openStudio, record } from './test/open-studio.ts'
import type { OpenStudio } from './test/open-studio.ts'
import { useTemporaryFolders } from './test/temporary-folder.ts'
import { writeTinyModel } from './test/tiny-model.ts'

const temporaryFolder = useTemporaryFolders()
const opened: OpenStudio[] = []
afterEach(async () => {
  for (const { studio } of opened.splice(0)) await studio.close()
})

async function start(folder = temporaryFolder()) {
  const open = await openStudio(folder)
  opened.push(open)
  return { ...open, folder }
}

/** A client that notes which procedures were called, so that one without a test is found. */
function noting<T extends object>(client: T, called: Set<string>, path: readonly string[] = []): T {
  return new Proxy(client, {
    get: (target, key) => {
      const value = Reflect.get(target, key) as unknown
      if (typeof key !== 'string' || (typeof value !== 'object' && typeof value !== 'function')) return value
      return noting(value as object, called, [...path, key])
    },
    apply: (target, self, args) => {
      called.add(path.join('.'))
      return Reflect.apply(target as never, self, args)
    },
  })
}

const NO_EVALUATION = { perplexity: false, tasks: false, throughput: false }
const EVALUATION = { perplexity: true, tasks: true, throughput: true }

describe('the contract', () => {
  it('is kept by every procedure', async () => {
    const { client: plain, folder, studio, engine } = await start()
    const called = new Set<string>()
    const client = noting(plain, called)
    const events = await record(client)

    expect(await client.system.info()).toMatchObject({ version: '1.2.3', dataFolder: join(folder, 'data'), shell: 'headless' })
    expect((await client.system.hardware()).adapters[0]?.id).toBe('fake')
    expect((await client.system.benchmark()).copyGigabytesPerSecond).toBe(1)
    expect(await client.settings.get()).toMatchObject({ theme: 'system', contextTokens: 4096 })
    expect(await client.settings.update({ theme: 'dark' })).toMatchObject({ theme: 'dark', contextTokens: 4096 })
    expect(await client.settings.update({ contextTokens: 512 })).toMatchObject({ theme: 'dark', contextTokens: 512 })

    expect((await client.files.browse({ path: join(folder, 'assets') })).entries.map((entry) => [entry.name, entry.isModel])).toEqual([
      ['calibration', false],
      ['demo-eval', false],
      ['demo-model', true],
    ])

    const sample = await client.models.importSample()
    expect(sample).toMatchObject({ name: 'Tiny demo', isSample: true, status: 'ready' })
    const model = await client.models.import({ path: writeTinyModel(join(folder, 'tiny')) })
    expect((await client.models.list()).map((entry) => entry.name)).toEqual(['Tiny demo', 'tiny'])
    const modelId = model.id
    expect((await client.models.get({ modelId })).tensorCount).toBe(11)
    expect(await client.models.tensors({ modelId })).toHaveLength(11)
    expect((await client.models.tensorStats({ modelId, name: 'model.norm.weight' })).count).toBe(4)
    const costs = await Array.fromAsync(await client.models.cacheCosts({ modelId }))
    // The fake scores the same whatever its cache holds.
    expect(costs.flatMap((event) => (event.kind === 'cost' ? [[event.cost.kvDtype, event.cost.kldMean, event.cost.sameTop]] : []))).toEqual(
      CACHE_TYPES.map((type) => [type, 0, 1]),
    )
    expect((await client.models.rename({ modelId, name: 'Renamed' })).name).toBe('Renamed')
    expect((await client.models.tokenizer({ modelId })).vocabSize).toBe(16)
    expect((await client.models.tokenize({ modelId, text: 'ab' })).tokens).toHaveLength(2)
    expect((await client.models.renderChat({ modelId, messages: [{ role: 'user', content: 'x' }] })).text).toBe('user: x\n')
    await client.models.remove({ modelId })
    expect((await client.models.restore({ modelId })).id).toBe(modelId)
    renameSync(join(folder, 'tiny'), join(folder, 'moved'))
    expect((await client.models.locate({ modelId, path: join(folder, 'moved') })).path).toBe(join(folder, 'moved'))

    const [prediction] = await client.optimize.presets({ modelId, contextTokens: 64 })
    expect(prediction).toMatchObject({ preset: { id: 'balanced-4bit' }, predicted: { fit: { verdict: 'fits' } }, blockedBy: null })
    const request = { modelId, presetIds: [FAKE_PRESET.id], outputFolder: null, evaluate: EVALUATION, seed: 0 }
    expect(await client.optimize.preflight(request)).toMatchObject({
      outputFolder: join(folder, 'data', 'variants'),
      problems: [],
      warnings: [],
    })
    const [job] = await client.optimize.start(request)
    const jobId = job!.id
    expect(await client.jobs.list()).toMatchObject([{ id: jobId, title: 'Renamed → Balanced 4-bit' }])
    const finished = await jobIn(plain, jobId, 'succeeded', 'failed')
    expect(finished).toMatchObject({ state: 'succeeded', error: null, progress: 1 })
    expect(finished.phases.map((phase) => [phase.id, phase.state])).toEqual(
      ['read', 'quantize', 'write', 'verify', 'perplexity', 'tasks', 'throughput'].map((phase) => [phase, 'done']),
    )
    expect((await client.jobs.get({ jobId })).variantId).toBe(finished.variantId)
    expect((await client.jobs.log({ jobId })).some((line) => /Short evaluation/.test(line.text))).toBe(true)

    expect((await client.optimize.schemes()).map(({ id }) => id)).toContain('W4A16')
    const { yaml } = await client.optimize.presetRecipe({ presetId: FAKE_PRESET.id })
    expect((await client.optimize.checkRecipe({ modelId, yaml, contextTokens: 64 })).recipe?.form).toMatchObject({ algorithm: 'rtn' })
    const form = { algorithm: 'gptq' as const, scheme: 'W4A16', groupSize: null, ignore: [] }
    expect((await client.optimize.writeRecipe(form)).yaml).toContain('GPTQModifier')
    expect((await client.optimize.schemeMap({ modelId, choice: { yaml } })).units).toHaveLength(4)
    expect((await client.optimize.inspectCalibration({ modelId, calibration: DEFAULT_CALIBRATION })).documents).toBe(3)
    const search = { modelId, target: { kind: 'loss' as const, bound: 1 }, schemes: ['W4A16 channel'], measure: 'weights' as const }
    expect((await Array.fromAsync(await client.optimize.automatic(search))).at(-1)).toMatchObject({ kind: 'done' })
    expect(await client.optimize.raise({ variantId: finished.variantId!, module: 'model.layers.0.self_attn.q_proj' })).toMatchObject({
      modelId,
      from: 'W4A16 channel',
      to: 'W8A16 channel',
    })

    const board = await client.results.board({ modelId })
    expect(board.models.map((entry) => entry.name)).toEqual(['Renamed', 'Renamed · Balanced 4-bit'])
    const [source, variant] = board.results
    expect(source).toMatchObject({ drift: null, perplexity: { tokens: 1120 }, throughput: { prefillTokensPerSecond: { n: 3 } } })
    expect(source!.throughput!.energy).toEqual({ kind: 'not-measured', reason: 'The fake adapter has no counter.' })
    expect(variant?.drift).toMatchObject({ baselineId: modelId, tokens: 1120 })
    expect(variant?.drift?.kldMean).toBeGreaterThan(0)
    expect(variant?.perplexity?.value).toBeGreaterThan(source!.perplexity!.value!)
    expect(variant?.protocolKeys['perplexity']).toBe(source?.protocolKeys['perplexity'])
    expect(Object.entries(variant!.protocolKeys).filter(([, key]) => !key.includes('kv-f32'))).toEqual([
      ['compression', 'compression:weights'],
    ])
    expect(variant?.tasks.map((task) => [task.name, task.n, task.paired?.baselineId])).toEqual(
      ['reading', 'arithmetic', 'completion'].map((name) => [name, 3, modelId]),
    )
    expect(variant?.tensorErrors).toMatchObject([{ kind: 'up_proj', sqnrDb: 20 }])
    expect(Object.keys(variant!.provenance).toSorted()).toEqual(Object.keys(variant!.protocolKeys).toSorted())

    const variantId = finished.variantId!
    const compared = await client.results.compare({ baselineId: modelId, modelId: variantId, margin: 0.5 })
    expect(compared.map(({ task, paired }) => [task, paired?.pairing, paired?.margin])).toEqual(
      ['reading', 'arithmetic', 'completion'].map((name) => [name, 'paired', 0.5]),
    )
    const samples = await client.results.samples({ modelId: variantId, task: 'reading', baselineId: modelId })
    expect(samples).toMatchObject({ total: 3, items: 3 })
    expect(samples.rows[0]?.baselineLogprobs).toHaveLength(samples.rows[0]!.choices.length)
    const tokens = await client.results.tokens({ modelId: variantId, limit: 3, sort: 'kld' })
    expect(tokens).toMatchObject({ baselineId: modelId, total: 1120 })
    expect(tokens.rows[0]?.kld).toBeCloseTo(variant!.drift!.kldMax!, 6)

    const own = join(folder, 'own.jsonl')
    writeFileSync(own, '{"question":"one","choices":["a","b"],"answer":0}\n{"question":"two","choices":["a","b"],"answer":1}\n')
    const [asked] = await client.results.evaluateTasks({
      modelIds: [variantId],
      options: { tasks: [own], probes: ['robustness'], margin: 0.2 },
    })
    expect(await jobIn(plain, asked!.id, 'succeeded', 'failed')).toMatchObject({ state: 'succeeded', error: null })
    const [sourceTasks, variantTasks] = (await client.results.board({ modelId })).results.map((set) =>
      set.tasks.filter((entry) => entry.task === 'own' || entry.outputType === 'probe'),
    )
    expect(variantTasks!.map((entry) => [entry.name, entry.n, entry.paired?.baselineId])).toEqual(
      ['own', 'own:acc_norm', 'robustness:own', 'robustness:own:worst_acc'].map((name) => [name, 2, modelId]),
    )
    expect(sourceTasks!.map((entry) => entry.paired)).toEqual([null, null, null, null])

    const published = join(folder, 'results.json')
    writeFileSync(published, JSON.stringify({ results: { own: { 'acc,none': 0.5, 'acc_stderr,none': 0.1 } }, model_name: 'org/paper' }))
    const paper = await client.results.importPublished({ modelId, path: published })
    expect(paper).toMatchObject({ name: 'paper (published)', parentId: modelId, origin: 'published' })
    expect(
      (await client.results.compare({ baselineId: paper.id, modelId: variantId, margin: 0.1 })).map(({ paired }) => paired?.pairing),
    ).toContain('unpaired')

    const loaded = await client.benchmarks.start({
      modelId: variantId,
      profile: 'synchronous',
      requests: 2,
      promptTokens: 3,
      outputTokens: 2,
    })
    expect(await jobIn(plain, loaded.id, 'succeeded', 'failed')).toMatchObject({ state: 'succeeded', error: null })
    expect((await client.results.board({ modelId })).results[1]?.served).toMatchObject({
      target: 'in-process',
      runs: [{ completed: 2, failed: 0, energy: { kind: 'not-measured', reason: 'The fake adapter has no counter.' } }],
    })
    expect((await client.benchmarks.export({ modelId: variantId, format: 'csv' })).text).toMatch(/^profile,/)
    expect(await client.benchmarks.latencies({ modelId: variantId, convention: 'vllm' })).toEqual([
      {
        profile: 'synchronous',
        concurrency: 1,
        rate: null,
        latencies: {
          ttft_ms: expect.objectContaining({ n: 2 }),
          tpot_ms: expect.objectContaining({ n: 2 }),
          itl_ms: null,
          e2el_ms: expect.objectContaining({ n: 2 }),
        },
      },
    ])

    const server = createServer((_request, response) => {
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ data: [{ id: 'far', max_model_len: 64 }] }))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const remote = await client.remotes.add({
      parentId: modelId,
      url: `http://127.0.0.1:${port}`,
      model: null,
      name: null,
      apiKeyVariable: null,
    })
    server.close()
    expect(remote).toMatchObject({ name: `far at 127.0.0.1:${port}`, origin: 'remote', parentId: modelId })
    await client.remotes.setKey({ modelId: remote.id, apiKey: null })
    for (const entry of [remote, paper]) await client.models.remove({ modelId: entry.id })
    expect((await client.results.board({ modelId })).models).toHaveLength(2)

    expect(engine.cards.map((card) => card.folder)).toEqual([join(folder, 'data', 'variants', 'Renamed-balanced-4bit')])
    expect(engine.cards[0]?.evaluation.rows.map((row) => row.metric)).toEqual([
      'Perplexity (rolling, window 512)',
      'KL divergence, mean',
      'Same most probable token',
      'Reading (acc)',
      'Arithmetic (acc)',
      'Completion (acc)',
      'Decode, tokens per second',
    ])

    const [again] = await client.results.evaluate({ modelIds: [finished.variantId!], evaluate: { ...NO_EVALUATION, throughput: true } })
    await jobIn(plain, again!.id, 'succeeded')
    for (const done of [again!, asked!, loaded]) await client.jobs.remove({ jobId: done.id })
    expect(await client.jobs.list()).toHaveLength(1)

    const [slow] = await client.results.evaluate({ modelIds: [modelId], evaluate: { ...NO_EVALUATION, perplexity: true } })
    await client.jobs.cancel({ jobId: slow!.id })
    await jobIn(plain, slow!.id, 'cancelled', 'succeeded')
    expect((await safe(client.jobs.resume({ jobId: jobId }))).error).toMatchObject({ data: { code: 'job.invalid-state' } })

    expect((await client.capacity.catalog()).models.length).toBeGreaterThan(9)
    const plan = await client.capacity.plan({ ...CAPACITY_DEFAULTS, subject: { kind: 'model', modelId }, contextTokens: 64 })
    expect(plan).toMatchObject({ fit: { verdict: 'fits' }, measured: { promptTokens: source!.throughput!.promptTokens } })
    expect((await client.capacity.checks()).map((check) => [check.modelId, check.quantity])).toContainEqual([modelId, 'decode'])

    expect((await safe(client.monitor.read({ url: 'http://127.0.0.1:1', apiKey: null, after: null }))).error).toMatchObject({
      data: { code: 'monitor.unreachable' },
    })
    expect(await client.monitor.setWatch({ modelId: finished.variantId!, everyHours: 24 })).toHaveLength(1)
    expect(await client.monitor.watches()).toMatchObject([{ modelId: finished.variantId, state: 'waiting' }])
    await client.monitor.setWatch({ modelId: finished.variantId!, everyHours: null })

    const { id: threadId } = await client.chat.create({ modelId })
    expect((await client.chat.update({ threadId, title: 'A title' })).title).toBe('A title')
    const kinds = new Set<string>()
    for await (const event of await client.chat.send({
      threadId,
      modelId,
      content: 'x',
      sampling: DEFAULT_SAMPLING,
      systemPrompt: '',
      replaceFrom: null,
    })) {
      kinds.add(event.kind)
    }
    expect([...kinds]).toEqual(expect.arrayContaining(['accepted', 'prefill', 'text', 'done']))
    expect(await client.chat.messages({ threadId })).toHaveLength(2)
    expect(await client.chat.threads()).toHaveLength(1)
    const last = (await client.chat.messages({ threadId })).at(-1)!
    await expect(client.chat.restore({ threadId })).rejects.toMatchObject({ data: { code: 'chat.not-found' } })
    const branch = await client.chat.branch({ threadId, messageId: last.id })
    expect((await client.chat.search({ text: last.content.slice(0, 5) })).map((found) => found.threadId)).toContain(branch.id)
    await client.chat.saveDraft({ key: 'new', text: 'half' })
    expect(await client.chat.drafts()).toEqual({ new: 'half' })
    await client.chat.remove({ threadId: branch.id })
    await client.chat.remove({ threadId })
    expect(await client.chat.threads()).toEqual([])

    expect(await client.server.view()).toMatchObject({ state: 'stopped', config: null })
    const setup = { modelIds: [modelId], host: '127.0.0.1', port: 0, apiKey: 'secret-key', corsOrigins: [], idleUnloadMinutes: null }
    // The tiny model has no tokenizer, which a server can't do without.
    expect((await safe(client.server.start(setup))).error).toMatchObject({ data: { code: 'tokenizer.missing' } })
    expect(await client.server.view()).toMatchObject({ state: 'stopped', error: { code: 'tokenizer.missing' } })
    await client.server.abort({ requestId: 'none' })
    expect(await client.server.stop()).toMatchObject({ state: 'stopped', config: { ...setup, apiKey: null }, keyHint: '-key' })
    expect(await client.server.key()).toEqual({ apiKey: 'secret-key' })
    const stopped = await Promise.all([
      safe(client.server.load({ name: 'x' })),
      safe(client.server.unload({ name: 'x' })),
      safe(client.server.test()),
    ])
    expect(stopped.map(({ error }) => error)).toEqual(
      stopped.map(() => expect.objectContaining({ data: expect.objectContaining({ code: 'request.invalid' }) as unknown }) as unknown),
    )

    expect((await client.runtime.profile({ modelId })).decode[0]?.kernel).toBe('linear')
    await client.runtime.unload({ modelId })
    const freed = await client.models.deleteFiles({ modelId: finished.variantId!, confirmName: 'Renamed · Balanced 4-bit' })
    expect(freed.freedBytes).toBeGreaterThan(0)
    const { text } = await client.system.diagnostics()
    expect(text).toContain('Lathe 1.2.3')
    expect(text + JSON.stringify([await client.settings.get(), events.events])).not.toContain('secret-key')
    await studio.settled()
    await events.stop()

    expect(new Set(events.events.map((event) => event.kind))).toEqual(
      new Set([
        'hello',
        'settings.changed',
        'server.changed',
        'model.changed',
        'model.removed',
        'job.changed',
        'job.log',
        'job.removed',
        'results.changed',
        'threads.changed',
        'hardware.changed',
      ]),
    )
    const all = Object.entries(contract).flatMap(([group, procedures]) => Object.keys(procedures).map((name) => `${group}.${name}`))
    expect(all.filter((name) => !called.has(name))).toEqual([])
  })

  it("moves a server's key that version 1 kept among the settings into its own file", async () => {
    const folder = temporaryFolder()
    const data = join(folder, 'data')
    const database = openDatabase(join(data, 'lathe.db'), () => {})
    const old = { modelIds: ['m'], host: '127.0.0.1', port: 8000, apiKey: 'an-old-key', corsOrigins: [], idleUnloadMinutes: 15 }
    database.prepare('INSERT INTO settings (key, value) VALUES (?, ?)').run('server', JSON.stringify(old))
    database.close()
    const { studio, client } = await openStudio(folder)
    expect((await client.server.view()).config).toMatchObject({ port: 8000, apiKey: null, parallel: null })
    expect([await client.server.key(), (await client.settings.get()).server?.apiKey]).toEqual([{ apiKey: 'an-old-key' }, null])
    await studio.close()
    for (const name of readdirSync(data).filter((entry) => entry.startsWith('lathe.db')))
      expect(readFileSync(join(data, name), 'latin1')).not.toContain('an-old-key')
    const modes = ['lathe.db', 'server-key.json', '.'].map((name) => statSync(join(data, name)).mode & 0o777)
    // Windows has lists of who may do what instead of modes.
    expect(process.platform === 'win32' ? null : modes).toEqual(process.platform === 'win32' ? null : [0o600, 0o600, 0o700])
  })

  it('fails with LATHE and an ErrorShape, whatever went wrong', async () => {
    const { client, lines, engine } = await start()
    const failures = await Promise.all([
      safe(client.models.get({ modelId: 'nothing' })),
      safe(client.jobs.cancel({ jobId: 'nothing' })),
      safe(client.chat.messages({ threadId: 'nothing' })),
      safe(client.models.import({ path: '/nowhere/at/all' })),
      safe(client.settings.update({ contextTokens: 1 })),
      safe(client.settings.update({ adapter: 'no such adapter' })),
      safe(client.models.rename({ modelId: 'nothing', name: '' })),
      safe(client.results.evaluate({ modelIds: [], evaluate: EVALUATION })),
    ])
    expect(failures.map(({ error }) => ErrorSchema.parse((error as { data?: unknown } | null)?.data).code)).toEqual([
      'model.not-found',
      'job.not-found',
      'chat.not-found',
      'checkpoint.not-found',
      'request.invalid',
      'gpu.no-adapter',
      'request.invalid',
      'request.invalid',
    ])
    expect(failures.every(({ isDefined }) => isDefined)).toBe(true)
    expect(lines).toEqual([])
    // a defect is reported as one, with its stack in the log and not in the answer
    const model = await client.models.importSample()
    engine.failWith = new TypeError('boom') as never
    const { id: threadId } = await client.chat.create({ modelId: null })
    const stream = await client.chat.send({
      threadId,
      modelId: model.id,
      content: 'x',
      sampling: DEFAULT_SAMPLING,
      systemPrompt: '',
      replaceFrom: null,
    })
    let last: unknown = null
    for await (const event of stream) last = event
    expect(last).toMatchObject({ kind: 'done', message: { error: { code: 'internal', message: 'boom' } } })
    expect(JSON.stringify(last)).not.toContain('chat.ts')
    expect(lines.join()).toMatch(/error Chat: TypeError: boom\n\s+at /)
  })
})

describe('several presets and a restart', () => {
  it('cancelling deletes what was unfinished; a resumed job starts that phase again', async () => {
    const { client, engine, folder } = await start()
    const model = await client.models.importSample()
    const waiting = engine.compressGate.close()
    const [job] = await client.optimize.start({
      modelId: model.id,
      presetIds: [FAKE_PRESET.id],
      outputFolder: null,
      evaluate: NO_EVALUATION,
      seed: 0,
    })
    await waiting
    expect(existsSync(join(folder, 'data', 'variants', '.Tiny-demo-balanced-4bit.partial'))).toBe(true)
    await client.jobs.cancel({ jobId: job!.id })
    await jobIn(client, job!.id, 'cancelled')
    expect(existsSync(join(folder, 'data', 'variants', '.Tiny-demo-balanced-4bit.partial'))).toBe(false)
    engine.compressGate.open()
    await client.jobs.resume({ jobId: job!.id })
    const done = await jobIn(client, job!.id, 'succeeded')
    expect((await client.models.get({ modelId: done.variantId! })).summary.name).toBe('Tiny demo · Balanced 4-bit')
  })

  it('closing mid-compression keeps the journal; after the restart the job goes on where it stopped', async () => {
    const folder = temporaryFolder()
    const first = await openStudio(folder)
    const model = await first.client.models.importSample()
    let waiting = first.engine.compressGate.close()
    const [job] = await first.client.optimize.start({
      modelId: model.id,
      presetIds: [FAKE_PRESET.id],
      outputFolder: null,
      evaluate: { ...NO_EVALUATION, perplexity: true },
      seed: 0,
    })
    await waiting
    first.engine.compressGate.open()
    waiting = first.engine.compressGate.close()
    await waiting
    await first.studio.close()
    expect(first.engine.steps).toEqual(['Tiny-demo-balanced-4bit:0'])

    const { client, engine } = await start(folder)
    expect(await client.jobs.list()).toMatchObject([{ state: 'interrupted', resumable: true }])
    await client.jobs.resume({ jobId: job!.id })
    await jobIn(client, job!.id, 'succeeded')
    expect(engine.steps).toEqual(['1', '2', '3'].map((step) => `Tiny-demo-balanced-4bit:${step}`))
    const board = await client.results.board({ modelId: model.id })
    expect(board.results[1]?.drift?.kldMean).toBeGreaterThan(0)
  })

  it('a kill between the last rename and its record costs nothing: the finished folder is taken over', async () => {
    const folder = temporaryFolder()
    const first = await openStudio(folder)
    const model = await first.client.models.importSample()
    const out = join(folder, 'data', 'variants', 'Tiny-demo-balanced-4bit')
    let closing: Promise<void> | null = null
    first.engine.afterRename = () => {
      closing = first.studio.close()
      throw new Error('killed')
    }
    const request = { modelId: model.id, presetIds: [FAKE_PRESET.id], outputFolder: null, evaluate: NO_EVALUATION, seed: 5 }
    const [job] = await first.client.optimize.start(request)
    await first.studio.settled()
    await closing
    expect(existsSync(out)).toBe(true)

    const { client, engine } = await start(folder)
    expect(await client.jobs.list()).toMatchObject([{ state: 'interrupted', variantId: null }])
    await client.jobs.resume({ jobId: job!.id })
    const done = await jobIn(client, job!.id, 'succeeded')
    expect(engine.compressions).toEqual([])
    const board = await client.results.board({ modelId: model.id })
    expect(board.results[1]).toMatchObject({ modelId: done.variantId, tensorErrors: [{ layer: 0, kind: 'up_proj', sqnrDb: 20 }] })
  })

  it('an original that does not fit beside its variant leaves drift out, and tasks pair with its earlier answers', async () => {
    const { client, engine } = await start()
    const model = await client.models.importSample()
    const request = { modelId: model.id, presetIds: [FAKE_PRESET.id], outputFolder: null, evaluate: EVALUATION, seed: 0 }
    engine.failLoading.set('Tiny demo', new LatheError('gpu.out-of-memory', 'Tiny demo needs 9 GB; 1 GB is free.', 'Choose another.'))
    const [alone] = await client.optimize.start(request)
    expect(await jobIn(client, alone!.id, 'succeeded', 'failed')).toMatchObject({ state: 'succeeded' })
    expect((await client.jobs.log({ jobId: alone!.id })).filter((line) => line.level === 'warn')).toMatchObject([
      { text: expect.stringMatching(/^Tiny demo needs 9 GB; 1 GB is free\. Drift is not measured/) },
    ])
    const [, first] = (await client.results.board({ modelId: model.id })).results
    expect(first).toMatchObject({ drift: null, perplexity: { tokens: 1120 }, throughput: { interleavedWith: null } })
    expect(first!.tasks.map((task) => task.paired)).toEqual([null, null, null, null])

    engine.failLoading.clear()
    const [source] = await client.results.evaluate({ modelIds: [model.id], evaluate: { ...NO_EVALUATION, tasks: true } })
    await jobIn(client, source!.id, 'succeeded')
    engine.failLoading.set('Tiny demo', new LatheError('gpu.out-of-memory', 'Tiny demo needs 9 GB; 1 GB is free.', 'Choose another.'))
    const [again] = await client.results.evaluate({ modelIds: [first!.modelId], evaluate: { ...NO_EVALUATION, tasks: true } })
    await jobIn(client, again!.id, 'succeeded')
    const [, second] = (await client.results.board({ modelId: model.id })).results
    expect(second!.tasks.map((task) => task.paired?.baselineId)).toEqual([model.id, model.id, model.id, model.id])
  })

  it('without any adapter a model can be compressed, but not measured', async () => {
    const { client, engine } = await start()
    engine.hasAdapter = false
    const model = await client.models.importSample()
    const request = { modelId: model.id, presetIds: [FAKE_PRESET.id], outputFolder: null, evaluate: EVALUATION, seed: 0 }
    expect((await client.optimize.preflight(request)).problems).toMatchObject([
      { code: 'gpu.no-adapter', hint: 'Install one. Or start without evaluation: compressing needs no GPU.' },
    ])
    const [job] = await client.optimize.start({ ...request, evaluate: NO_EVALUATION })
    await jobIn(client, job!.id, 'succeeded')
  })

  it('a second variant of the same preset gets a name of its own', async () => {
    const { client, folder } = await start()
    const model = await client.models.importSample()
    const request = { modelId: model.id, presetIds: [FAKE_PRESET.id], outputFolder: join(folder, 'out'), evaluate: NO_EVALUATION, seed: 0 }
    const [one] = await client.optimize.start(request)
    const [two] = await client.optimize.start(request)
    await jobIn(client, one!.id, 'succeeded')
    await jobIn(client, two!.id, 'succeeded')
    expect((await client.models.get({ modelId: model.id })).variants.map((variant) => [variant.name, variant.path])).toEqual([
      ['Tiny demo · Balanced 4-bit', join(folder, 'out', 'Tiny-demo-balanced-4bit')],
      ['Tiny demo · Balanced 4-bit (2)', join(folder, 'out', 'Tiny-demo-balanced-4bit-2')],
    ])
    expect((await client.optimize.preflight(request)).warnings[0]).toMatch(/already made/)
    expect((await client.optimize.presets({ modelId: model.id, contextTokens: 64 }))[0]?.existingVariantId).not.toBeNull()
  })

  it('nothing is written into the source, and a job in the way is named', async () => {
    const { client, engine } = await start()
    const model = await client.models.importSample()
    const inside = {
      modelId: model.id,
      presetIds: [FAKE_PRESET.id],
      outputFolder: join(model.path, 'out'),
      evaluate: NO_EVALUATION,
      seed: 0,
    }
    expect((await client.optimize.preflight(inside)).problems).toMatchObject([{ code: 'checkpoint.unsafe-path' }])
    expect((await safe(client.optimize.start(inside))).error).toMatchObject({ data: { code: 'checkpoint.unsafe-path' } })
    expect((await safe(client.optimize.start({ ...inside, outputFolder: null, presetIds: ['nothing'] }))).error).toMatchObject({
      data: { code: 'compress.invalid-recipe' },
    })
    engine.predictedBytes = 1e18
    expect((await client.optimize.preflight({ ...inside, outputFolder: null })).problems).toMatchObject([
      {
        code: 'disk.full',
        message: expect.stringMatching(/^The result needs 1\.00e\+9 GB; .* free\.$/),
        data: { needBytes: expect.any(Number) },
      },
    ])
    expect((await safe(client.optimize.start({ ...inside, outputFolder: null }))).error).toMatchObject({ data: { code: 'disk.full' } })
    engine.predictedBytes = null
    expect(await client.jobs.list()).toEqual([])
    const waiting = engine.compressGate.close()
    await client.optimize.start({ ...inside, outputFolder: null })
    await waiting
    expect((await safe(client.system.benchmark())).error).toMatchObject({ data: { code: 'model.busy' } })
    expect((await safe(client.settings.update({ adapter: 'fake' }))).error).toMatchObject({ data: { code: 'model.busy' } })
  })
})
