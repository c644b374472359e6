/**
 * The studio over the real engine, in process and across a kill: import the sample, compress it, measure it, restart, resume. Runs on the best
 * adapter that is here (a software one in CI) with a cut of the bundled evaluation data, because the figures are not the point: that they
 * appear, agree with each other and are still there afterwards is.
 */
import { spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../checkpoint/open.ts'
import { compress } from '../compress/pipeline.ts'
import { listAdapters } from '../gpu/adapters.ts'
import { DEFAULT_SAMPLING } from './chat.ts'
import type { Studio } from './compose.ts'
import { createStudio } from './studio.ts'
import { clientOf, jobIn, record } from './test/open-studio.ts'
import { useTemporaryFolders } from './test/temporary-folder.ts'

const assets = fileURLToPath(new URL('../../assets', import.meta.url))
const temporaryFolder = useTemporaryFolders()

/** Real data, cut so that a busy two-core machine is done within a minute. */
function cutAssets(folder: string): string {
  cpSync(join(assets, 'demo-model'), join(folder, 'demo-model'), { recursive: true })
  mkdirSync(join(folder, 'demo-eval'))
  for (const name of readdirSync(join(assets, 'demo-eval'))) {
    const text = readFileSync(join(assets, 'demo-eval', name), 'utf8')
    const cut = name.endsWith('.jsonl') ? text.split('\n').slice(0, 3).join('\n') : text.slice(0, 5000)
    writeFileSync(join(folder, 'demo-eval', name), cut)
  }
  return folder
}

function open(folder: string, assetsFolder: string): Promise<Studio> {
  return createStudio({ dataFolder: join(folder, 'data'), assetsFolder, shell: 'headless', version: '1.2.3', log: () => {} })
}

function hashes(folder: string): Record<string, string> {
  const names = readdirSync(folder).filter((name) => name !== 'run.json' && name !== 'README.md')
  return Object.fromEntries(
    names.map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex'),
    ]),
  )
}

const EVERYTHING = { perplexity: true, tasks: true, throughput: true }
const NOTHING = { perplexity: false, tasks: false, throughput: false }

describe('the main job on the demo model', () => {
  it('import, compress, measure, chat; all of it is there after a restart', { timeout: 300_000 }, async () => {
    const folder = temporaryFolder()
    const assetsFolder = cutAssets(join(folder, 'assets'))
    const first = await open(folder, assetsFolder)
    const client = clientOf(first)
    const { adapters } = await client.system.hardware()
    const adapter = adapters.find((candidate) => candidate.selected)!
    const model = await client.models.importSample()
    const events = await record(client)
    const [job] = await client.optimize.start({
      modelId: model.id,
      presetIds: ['quick-4bit'],
      outputFolder: null,
      evaluate: EVERYTHING,
      seed: 0,
    })
    const done = await jobIn(client, job!.id, 'succeeded', 'failed')
    expect(done).toMatchObject({ state: 'succeeded', error: null, progress: 1 })
    await events.stop()

    const board = await client.results.board({ modelId: model.id })
    const [source, variant] = board.results
    expect(board.models.map((entry) => entry.name)).toEqual(['Pebble-Tidewater 4.7M', 'Pebble-Tidewater 4.7M · Quick 4-bit'])
    expect(board.models[1]).toMatchObject({ scheme: 'W4A16 g128', parameters: model.parameters, status: 'ready', hasChatTemplate: true })
    expect(board.models[1]!.weightBytes).toBeLessThan(model.weightBytes * 0.4)
    // published for the whole text: 1.68; the cut is easier or harder, but a broken forward pass would be in the hundreds
    expect(source!.perplexity!.value).toBeGreaterThan(1.2)
    expect(source!.perplexity!.value).toBeLessThan(2.5)
    expect(Math.abs(variant!.perplexity!.nll! - source!.perplexity!.nll!)).toBeLessThan(0.05)
    expect(variant!.drift).toMatchObject({ baselineId: model.id, tokens: source!.perplexity!.tokens })
    expect(variant!.drift!.kldMean).toBeGreaterThan(0)
    expect(variant!.drift!.kldMean).toBeLessThan(0.05)
    expect(variant!.drift!.top1Agreement).toBeGreaterThan(0.9)
    expect(variant!.tasks.map((task) => [task.name, task.n, task.paired?.baselineId])).toEqual(
      ['world_facts', 'reading', 'arithmetic', 'completion'].map((name) => [name, 3, model.id]),
    )
    for (const set of [source!, variant!]) {
      expect(set.throughput!.decodeTokensPerSecond.median).toBeGreaterThan(0)
      expect(set.throughput!.peakGpuBytes).toBeGreaterThan(set.throughput!.weightGpuBytes)
      expect(set.provenance['perplexity']).toMatchObject({ adapter: adapter.name, adapterType: adapter.type, latheVersion: '1.2.3' })
    }
    expect(variant!.throughput!.weightGpuBytes).toBeLessThan(source!.throughput!.weightGpuBytes)
    expect(variant!.protocolKeys['tasks']).toBe(source!.protocolKeys['tasks'])
    expect(variant!.tensorErrors).toHaveLength(42)
    expect(variant!.tensorErrors.every((error) => error.sqnrDb !== null && error.sqnrDb > 10)).toBe(true)
    // the chart fills in order: sizes and weight errors, then perplexity of both, then tasks, then speed
    const kinds = events.events.map((event) => event.kind)
    expect(kinds.indexOf('results.changed')).toBeLessThan(kinds.lastIndexOf('job.changed'))
    const card = readFileSync(join(board.models[1]!.path, 'README.md'), 'utf8')
    expect(card).toContain('| Perplexity (rolling')
    expect(card).not.toContain('Not evaluated yet')

    const { id: threadId } = await client.chat.create({ modelId: done.variantId })
    const answer = await client.chat.send({
      threadId,
      modelId: done.variantId!,
      content: 'Where is the Old Lighthouse?',
      sampling: { ...DEFAULT_SAMPLING, temperature: 0, maxTokens: 24 },
      systemPrompt: '',
      replaceFrom: null,
    })
    for await (const event of answer) void event
    const messages = await client.chat.messages({ threadId })
    expect(messages[1]).toMatchObject({ error: null, stats: { adapter: adapter.name } })
    expect(messages[1]!.content).toMatch(/Lighthouse/)
    const tensor = await client.models.tensorStats({ modelId: done.variantId!, name: 'model.layers.0.mlp.up_proj.weight_packed' })
    expect(tensor.count).toBe(640 * 256)
    expect((await client.models.get({ modelId: done.variantId! })).run).toMatchObject({ preset: 'quick-4bit', seed: 0 })
    expect((await client.system.hardware()).loaded.map((loaded) => loaded.modelId).toSorted()).toEqual(
      [model.id, done.variantId!].toSorted(),
    )
    await first.close()

    const second = await open(folder, assetsFolder)
    const again = clientOf(second)
    const listed = await again.models.list()
    expect(listed.map((entry) => [entry.id, entry.parentId, entry.status])).toEqual([
      [model.id, null, 'ready'],
      [done.variantId, model.id, 'ready'],
    ])
    expect(await again.results.board({ modelId: model.id })).toEqual({ models: listed, results: board.results })
    expect(await again.chat.messages({ threadId })).toEqual(messages)
    expect(await again.jobs.list()).toMatchObject([{ id: job!.id, state: 'succeeded', progress: 1 }])
    await second.close()
  })

  it(
    'a killed engine loses nothing: the source is untouched, the job resumes, the bytes are those of an undisturbed run',
    { timeout: 180_000 },
    async () => {
      const folder = temporaryFolder()
      const assetsFolder = cutAssets(join(folder, 'assets'))
      const source = join(assetsFolder, 'demo-model')
      const before = hashes(source)
      const program = `
      import { createRouterClient } from '@orpc/server'
      import { createStudio } from ${JSON.stringify(fileURLToPath(new URL('./studio.ts', import.meta.url)))}
      const studio = await createStudio({ dataFolder: ${JSON.stringify(join(folder, 'data'))}, assetsFolder: ${JSON.stringify(assetsFolder)}, shell: 'headless', version: '1.2.3', log: () => {} })
      const client = createRouterClient(studio.router)
      const model = await client.models.importSample()
      const stream = await client.events.watch({ runId: null, after: null })
      await stream.next()
      await client.optimize.start({ modelId: model.id, presetIds: ['fine-4bit'], outputFolder: null, evaluate: ${JSON.stringify(NOTHING)}, seed: 0 })
      for await (const event of stream) {
        if (event.kind === 'job.changed' && event.job.phases.some((phase) => phase.id === 'quantize' && phase.done > 0)) process.stdout.write('working')
      }`
      const file = join(fileURLToPath(new URL('.', import.meta.url)), `killed-${process.pid}.tmp.mts`)
      writeFileSync(file, program)
      try {
        const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] })
        const exited = new Promise((resolve) => child.on('exit', resolve))
        await new Promise<void>((resolve) => child.stdout.once('data', () => resolve()))
        child.kill('SIGKILL')
        await exited
      } finally {
        rmSync(file)
      }
      expect(hashes(source)).toEqual(before)

      const studio = await open(folder, assetsFolder)
      const client = clientOf(studio)
      const [job] = await client.jobs.list()
      // the kill came after the first quantized bytes; a quick machine may have written the folder by then, but not recorded it
      expect(job).toMatchObject({ state: 'interrupted', resumable: true })
      const out = join(folder, 'data', 'variants', 'Pebble-Tidewater-4.7M-fine-4bit')
      const wasWhole = existsSync(out)
      if (wasWhole) await (await openCheckpoint(out))[Symbol.asyncDispose]()
      await client.jobs.resume({ jobId: job!.id })
      const done = await jobIn(client, job!.id, 'succeeded', 'failed')
      expect(done.error).toBeNull()
      await studio.close()
      const undisturbed = join(folder, 'undisturbed')
      await compress({
        sourceFolder: source,
        outFolder: undisturbed,
        recipe: { presetId: 'fine-4bit' },
        seed: 0,
        resume: false,
        latheVersion: '1.2.3',
      })
      expect(hashes(out)).toEqual(hashes(undisturbed))
      expect(hashes(source)).toEqual(before)
    },
  )
})

describe('hardware', () => {
  it('is listed by its drivers’ names, with what is missing', async () => {
    const folder = temporaryFolder()
    const studio = await open(folder, cutAssets(join(folder, 'assets')))
    const client = clientOf(studio)
    const hardware = await client.system.hardware()
    expect(hardware.adapters.map((adapter) => adapter.id)).toEqual((await listAdapters()).map((adapter) => adapter.id))
    expect(hardware.adapters.at(-1)).toMatchObject({ id: 'reference', usable: true })
    expect(hardware).toMatchObject({ gpuBytesInUse: 0, loaded: [] })
    const { text } = await client.system.diagnostics()
    for (const adapter of hardware.adapters) expect(text).toContain(adapter.name)
    await client.settings.update({ adapter: 'reference' })
    expect((await client.system.hardware()).adapters.find((adapter) => adapter.selected)?.id).toBe('reference')
    const benchmark = await client.system.benchmark()
    expect(benchmark).toMatchObject({ adapter: 'Reference (f64 on the CPU)', software: true })
    for (const name of ['copyGigabytesPerSecond', 'readGigabytesPerSecond', 'matmulGigaflops', 'submitRoundTripMs'] as const) {
      expect(benchmark[name]).toBeGreaterThan(0)
    }
    const model = await client.models.importSample()
    const profile = await client.runtime.profile({ modelId: model.id })
    for (const shares of [profile.decode, profile.prefill]) {
      expect(shares.map((share) => share.kernel)).toEqual(expect.arrayContaining(['linear', 'attention', 'rmsNorm']))
      expect(shares.reduce((sum, share) => sum + share.share, 0)).toBeCloseTo(1, 6)
    }
    expect((await client.system.hardware()).gpuBytesInUse).toBeGreaterThan(model.weightBytes)
    await client.runtime.unload({ modelId: model.id })
    expect((await client.system.hardware()).gpuBytesInUse).toBe(0)
    await studio.close()
  })
})
