/**
 * Puts the studio together over given engine ports: store, events, library, queue, chat, router. Hosts use it through studio.ts, tests with fakes.
 * The order of closing matters and is written down once, at the end.
 */
import { resolveKvWish, type KvSetting, type KvWish } from '../gpu/kv-format.ts'
import { randomUUID } from 'node:crypto'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { LatheError, TaskRunOptionsSchema } from '../contract/index.ts'
import type { SettingsPatch } from '../contract/index.ts'
import { answer, labelledAdapter } from './answer.ts'
import { Capacity } from './capacity.ts'
import { Chat } from './chat.ts'
import { LogTail, renderDiagnostics } from './diagnostics.ts'
import { Evidence } from './evidence.ts'
import { EventHub } from './events.ts'
import { readHardware } from './hardware.ts'
import { CompressRequestSchema, CompressWorker } from './jobs/compress-job.ts'
import { BenchmarkWorker } from './jobs/benchmark-job.ts'
import { EvaluateWorker, refOf } from './jobs/evaluate-job.ts'
import { cacheCosts } from './cache-costs.ts'
import { EvaluationData } from './jobs/evaluation-plan.ts'
import { Evaluator } from './jobs/evaluator.ts'
import { RemoteTexts } from './jobs/remote-text.ts'
import { TaskRuns } from './jobs/task-run.ts'
import { JobQueue } from './jobs/queue.ts'
import { Library } from './library.ts'
import { ServerMonitor } from '../monitor/server-monitor.ts'
import { Optimize } from './optimize.ts'
import type { BindOptions, EnginePorts, Log, OverheadPort } from './ports.ts'
import { QualityWatcher } from './quality-watch.ts'
import { Recipes } from './recipes.ts'
import { Remotes } from './remotes.ts'
import { Results } from './results.ts'
import { createRouter } from './router.ts'
import type { StudioRouter } from './router.ts'
import { servingMark } from './serving-mark.ts'
import { Serving } from './serving.ts'
import { CalibrationStore } from './store/calibration-store.ts'
import { ChatStore } from './store/chat-store.ts'
import { openDatabase } from './store/database.ts'
import { JobStore } from './store/job-store.ts'
import { KeyFile } from './store/key-file.ts'
import { ModelStore } from './store/model-store.ts'
import { OverheadStore } from './store/overhead-store.ts'
import { ResultStore } from './store/result-store.ts'
import { SettingsStore } from './store/settings-store.ts'

/** Asked of a watched server each time: enough to see another model behind a name, seconds of its time. */
const WATCH_ITEMS = 40

export interface StudioOptions {
  /** Absolute; created if absent. Holds the library file and, unless set otherwise, the variants. */
  readonly dataFolder: string
  /** Absolute; has demo-model/ and demo-eval/. */
  readonly assetsFolder: string
  readonly shell: 'desktop' | 'browser' | 'headless'
  /** Overrides the adapter from the settings for this run; "reference" is the f64 backend. */
  readonly adapterId?: string
  readonly version: string
  /** Encrypts what must be kept secret; from the system's keychain where the shell has one. */
  readonly wrappingKey?: Buffer | null
  readonly log: Log
}

export interface Studio {
  /** Serve it with any oRPC handler; it needs no context. */
  readonly router: StudioRouter
  status(): { readonly runningJobs: number }
  /** Resolves when no job runs or waits. */
  settled(): Promise<void>
  /** Stops jobs so that they can be resumed, ends every stream, unloads models, closes the store. */
  close(): Promise<void>
}

/** Throws `studio.in-use`, `studio.data-too-new` or `disk.*` when the data folder can't be used. */
export async function composeStudio(options: StudioOptions, bind: (options: BindOptions) => EnginePorts): Promise<Studio> {
  const tail = new LogTail(options.log)
  const { log } = tail
  const database = openDatabase(join(options.dataFolder, 'lathe.db'), log)
  const settings = new SettingsStore(database)
  const keyFile = new KeyFile(join(options.dataFolder, 'server-key.json'), options.wrappingKey ?? null, log)
  moveKeyOut(settings, keyFile)
  const events = new EventHub({ runId: randomUUID() })
  const hardwareChanged = (): void => events.publishCoalesced('hardware', () => ({ kind: 'hardware.changed' }))
  const overheads = new OverheadStore(database)
  const overheadPort: OverheadPort = {
    get: (adapter) => overheads.get(adapter),
    add: (adapter, bytes) => {
      try {
        overheads.add(adapter, { bytes, measuredAt: new Date().toISOString() })
      } catch (error) {
        log('warn', `What a load took could not be remembered: ${String(error)}`)
      }
    },
  }
  const ports = bind({
    adapterId: options.adapterId ?? settings.get().adapter,
    log,
    onModelsChanged: hardwareChanged,
    overheads: overheadPort,
  })
  const library = new Library({
    store: new ModelStore(database),
    events,
    checkpoint: ports.checkpoint,
    sampleFolder: join(options.assetsFolder, 'demo-model'),
    log,
  })
  const results = new Results(new ResultStore(database), library, events)
  const tokenizer = async (modelId: string) => ports.tokenizers.open((await library.usable(modelId)).path)
  const evidence = new Evidence({ library, results, tokenizer })
  const data = new EvaluationData(join(options.assetsFolder, 'demo-eval'))
  const loadSettings = (): { contextTokens: number; kvDtype: KvWish; matrixUnits: boolean } => {
    const { contextTokens, kvDtype, matrixUnits } = settings.get()
    return { contextTokens, kvDtype, matrixUnits }
  }
  /** Two models are compared with caches of one type, so that the difference is that of their weights; what a cache costs is measured by itself. */
  const measureSettings = (): { contextTokens: number; kvDtype: KvSetting } => {
    const { contextTokens, kvDtype } = settings.get()
    return { contextTokens, kvDtype: resolveKvWish(kvDtype, null) }
  }
  const evaluator = new Evaluator({
    models: ports.models,
    tokenizers: ports.tokenizers,
    gpu: ports.gpu,
    results,
    data,
    latheVersion: options.version,
    loadSettings: measureSettings,
  })
  const remotes = new Remotes({ library, results, latheVersion: options.version })
  const measuring = {
    library,
    results,
    remotes,
    models: ports.models,
    tokenizers: ports.tokenizers,
    gpu: ports.gpu,
    loadSettings: measureSettings,
    latheVersion: options.version,
  }
  const taskRuns = new TaskRuns({
    ...measuring,
    cacheFolder: join(options.dataFolder, 'evaluation-cache'),
    tasksFolder: join(options.assetsFolder, 'demo-eval'),
  })
  const remoteTexts = new RemoteTexts({ ...measuring, data, cacheFolder: join(options.dataFolder, 'evaluation-cache') })
  const benchmarks = new BenchmarkWorker({ ...measuring, folder: join(options.dataFolder, 'benchmarks') })
  const queue = new JobQueue({
    store: new JobStore(database),
    events,
    workers: {
      compress: new CompressWorker({
        compressor: ports.compressor,
        library,
        results,
        evaluator,
        gpu: ports.gpu,
        assetsFolder: options.assetsFolder,
        latheVersion: options.version,
      }),
      evaluate: new EvaluateWorker({ library, evaluator, results, compressor: ports.compressor, taskRuns, remoteTexts }),
      benchmark: benchmarks,
    },
    log,
  })
  const recipes = new Recipes({
    library,
    checkpoint: ports.checkpoint,
    compressor: ports.compressor,
    fit: ports.fit,
    tokenizers: ports.tokenizers,
    assetsFolder: options.assetsFolder,
    refuseWhileRunning: () => {
      if (queue.runningJobs > 0) throw inUse('A job is running, and layers are measured on the same device.')
    },
    calibrationOf: (variantId) => {
      const request = queue.requestFor(variantId)
      return request === null ? null : CompressRequestSchema.parse(request).calibration
    },
  })
  const optimize = new Optimize({
    recipes,
    assetsFolder: options.assetsFolder,
    library,
    checkpoint: ports.checkpoint,
    compressor: ports.compressor,
    fit: ports.fit,
    gpu: ports.gpu,
    queue,
    data,
    settings: () => settings.get(),
    defaultFolder: join(options.dataFolder, 'variants'),
  })
  const chat = new Chat({
    store: new ChatStore(database),
    library,
    events,
    log,
    answerer: ({ id, model, messages, sampling, signal }, emit) =>
      answer(
        { models: ports.models, tokenizers: ports.tokenizers, adapter: () => ports.gpu.current() },
        { id, messages, sampling, model: { ...refOf(model), ...loadSettings(), signal } },
        emit,
      ),
  })
  const capacity = new Capacity({
    library,
    checkpoint: ports.checkpoint,
    gpu: ports.gpu,
    models: ports.models,
    results,
    calibrations: new CalibrationStore(database),
    overheads,
  })
  const watcher = new QualityWatcher({
    library,
    results,
    queue,
    settings: {
      get: () => settings.get().qualityWatches,
      put: (qualityWatches) => {
        settings.update({ qualityWatches: [...qualityWatches] })
        events.publish({ kind: 'settings.changed' })
      },
    },
    evaluate: (modelId) => optimize.evaluate([modelId], { perplexity: true, tasks: false, throughput: false }),
    ask: (modelId, task) => taskRuns.start(queue, [modelId], TaskRunOptionsSchema.parse({ tasks: [task], limit: WATCH_ITEMS })),
    log,
  })
  const info = {
    version: options.version,
    runId: events.runId,
    dataFolder: options.dataFolder,
    homeFolder: homedir(),
    platform: process.platform,
    shell: options.shell,
  }
  const hardware = () => readHardware(ports.gpu, ports.models)

  async function updateSettings(change: SettingsPatch) {
    const before = settings.get()
    if (change.adapter !== undefined && change.adapter !== before.adapter) {
      if (queue.runningJobs > 0) throw inUse('A job is running on the current adapter.')
      await ports.gpu.select(change.adapter)
      hardwareChanged()
    }
    const { server } = change
    const updated = settings.update(server === undefined || server === null ? change : { ...change, server: { ...server, apiKey: null } })
    events.publish({ kind: 'settings.changed' })
    return updated
  }

  async function deleteFiles(modelId: string, confirmName: string): Promise<number> {
    if (queue.modelsInUse().has(modelId)) throw inUse('A job that is running or waiting uses this variant.')
    await ports.models.unload(modelId)
    return library.deleteFiles(modelId, confirmName)
  }

  const serving = new Serving({
    models: ports.models,
    resolve: async (modelId) => refOf(await library.runnable(modelId)),
    plan: (request) => capacity.plan(request),
    find: async (name) => (await library.list()).find((model) => model.id === name || model.name === name)?.id ?? null,
    loadSettings,
    saved: () => settings.get().server,
    save: (server) => {
      settings.update({ server })
      events.publish({ kind: 'settings.changed' })
    },
    key: keyFile,
    mark: servingMark(join(options.dataFolder, 'server-running'), process.ppid, (text) => log('warn', text)),
    onChange: () => events.publishCoalesced('server', () => ({ kind: 'server.changed' })),
    version: options.version,
    log,
  })

  const router = createRouter({
    info,
    log,
    events,
    library,
    queue,
    optimize,
    recipes,
    results,
    evidence,
    taskRuns,
    remotes,
    benchmarks,
    capacity,
    servers: new ServerMonitor(),
    watcher,
    chat,
    serving,
    settings: { get: () => settings.get(), update: updateSettings },
    deleteFiles,
    cacheCosts: (modelId, signal) =>
      cacheCosts(
        {
          models: ports.models,
          gpu: ports.gpu,
          text: () => data.text(),
          tokenizer,
          resolve: async (id) => refOf(await library.runnable(id)),
          refuseWhileRunning: () => {
            if (queue.runningJobs > 0) throw inUse('A job is running on the same device.')
          },
        },
        modelId,
        signal,
      ),
    tokenizer,
    system: {
      hardware,
      benchmark: (signal) => {
        if (queue.runningJobs > 0) throw inUse('A job is running; both would be slowed down and the figures wrong.')
        return capacity.calibrate(signal)
      },
      diagnostics: async () =>
        renderDiagnostics({
          ...info,
          hardware: await hardware(),
          settings: settings.get(),
          models: await library.list(),
          jobs: queue.list(),
          logTail: tail.lines,
          at: new Date(),
        }),
    },
    runtime: {
      unload: (modelId) => ports.models.unload(modelId),
      profile: async (modelId, signal) => {
        const model = refOf(await library.runnable(modelId))
        const adapter = await ports.gpu.current()
        const load = loadSettings()
        const { decode, prefill } = await ports.models.profile({ ...model, ...load, signal })
        const software = adapter.type === 'software' || adapter.type === 'reference'
        return { decode: [...decode], prefill: [...prefill], adapter: labelledAdapter(adapter, load).name, software }
      },
    },
  })
  // in the background: a folder on a drive that takes its time must not keep the window from opening
  const refreshing = library.refresh().catch((error: unknown) => log('error', `Looking at the library's folders failed: ${String(error)}`))
  queue.start()
  watcher.start()
  const recovering = serving.recover()
  return {
    router,
    status: () => ({ runningJobs: queue.runningJobs }),
    settled: () => queue.settled(),
    close: async () => {
      // jobs and answers write to the store as they stop, and readers of events want to see it: the store goes last
      watcher.stop()
      library.stopRefreshing()
      await Promise.all([queue.close(), chat.close(), serving.close(), recovering, refreshing])
      events.close()
      await ports.close()
      database.close()
    },
  }
}

/** Version 1 kept the server's key among the settings. */
function moveKeyOut(settings: SettingsStore, keyFile: KeyFile): void {
  const { server } = settings.get()
  if (server === null || server.apiKey === null) return
  keyFile.write(server.apiKey)
  settings.update({ server: { ...server, apiKey: null } })
}

function inUse(message: string): LatheError {
  return new LatheError('model.busy', message, 'Wait until it has finished, or cancel it.')
}
