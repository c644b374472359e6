/**
 * The contract's procedures, each handed to the part that does it. No logic lives here: what a procedure means is in the part, what it may fail
 * with is in rpc-errors.ts, what its data look like is in the contract.
 */
import { implement } from '@orpc/server'
import type { Router } from '@orpc/server'
import { contract } from '../contract/index.ts'
import type { CacheCostEvent, Contract, Hardware, HardwareBenchmark, KernelShare, Settings, SettingsPatch } from '../contract/index.ts'
import type { Capacity } from './capacity.ts'
import type { Chat } from './chat.ts'
import type { Evidence } from './evidence.ts'
import type { EventHub } from './events.ts'
import { browse } from './files.ts'
import type { ServerMonitor } from '../monitor/server-monitor.ts'
import type { BenchmarkWorker } from './jobs/benchmark-job.ts'
import type { JobQueue } from './jobs/queue.ts'
import type { TaskRuns } from './jobs/task-run.ts'
import type { Library } from './library.ts'
import type { Optimize } from './optimize.ts'
import type { FolderTokenizer, Log } from './ports.ts'
import type { QualityWatcher } from './quality-watch.ts'
import type { Recipes } from './recipes.ts'
import type { Results } from './results.ts'
import type { Remotes } from './remotes.ts'
import { mapStreamErrors, toRpcError } from './rpc-errors.ts'
import type { Serving } from './serving.ts'

export interface SystemInfo {
  readonly version: string
  readonly runId: string
  readonly dataFolder: string
  readonly homeFolder: string
  readonly platform: string
  readonly shell: 'desktop' | 'browser' | 'headless'
}

export interface KernelProfile {
  readonly decode: KernelShare[]
  readonly prefill: KernelShare[]
  readonly adapter: string
  readonly software: boolean
}

export interface StudioParts {
  readonly info: SystemInfo
  readonly log: Log
  readonly events: EventHub
  readonly library: Library
  readonly queue: JobQueue
  readonly optimize: Optimize
  readonly recipes: Recipes
  readonly results: Results
  readonly evidence: Evidence
  readonly taskRuns: TaskRuns
  readonly remotes: Remotes
  readonly benchmarks: BenchmarkWorker
  readonly capacity: Capacity
  readonly servers: ServerMonitor
  readonly watcher: QualityWatcher
  readonly chat: Chat
  readonly serving: Serving
  readonly system: {
    hardware(): Promise<Hardware>
    benchmark(signal: AbortSignal): Promise<HardwareBenchmark>
    diagnostics(): Promise<string>
  }
  readonly settings: { get(): Settings; update(change: SettingsPatch): Promise<Settings> }
  readonly runtime: { unload(modelId: string): Promise<void>; profile(modelId: string, signal: AbortSignal): Promise<KernelProfile> }
  readonly cacheCosts: (modelId: string, signal: AbortSignal) => AsyncGenerator<CacheCostEvent, undefined>
  /** The tokenizer of a model in the library. */
  readonly tokenizer: (modelId: string) => Promise<FolderTokenizer>
  /** Deletes a variant's files, unless something is using them. */
  readonly deleteFiles: (modelId: string, confirmName: string) => Promise<number>
}

/** Named by the contract that it implements: what the handlers alone imply is too long to write down. */
export type StudioRouter = Router<Contract, Record<never, never>>

export function createRouter(parts: StudioParts): StudioRouter {
  const { library, events, settings, log, queue, optimize, recipes, results, capacity, servers, watcher, chat, serving, system, runtime } =
    parts
  const os = implement(contract).use(async ({ next, path }) => {
    try {
      const result = await next()
      const output: unknown = result.output
      return isStream(output) ? { ...result, output: mapStreamErrors(output, path, log) } : result
    } catch (error) {
      throw toRpcError(error, path, log)
    }
  })
  return os.router({
    system: {
      info: os.system.info.handler(() => ({ ...parts.info })),
      hardware: os.system.hardware.handler(() => system.hardware()),
      benchmark: os.system.benchmark.handler(({ signal }) => system.benchmark(signal ?? unending())),
      diagnostics: os.system.diagnostics.handler(async () => ({ text: await system.diagnostics() })),
    },
    settings: {
      get: os.settings.get.handler(() => settings.get()),
      update: os.settings.update.handler(({ input }) => settings.update(input)),
    },
    events: { watch: os.events.watch.handler(({ input, signal }) => events.watch(input, signal)) },
    files: { browse: os.files.browse.handler(({ input }) => browse(input.path)) },
    models: {
      list: os.models.list.handler(() => library.list()),
      import: os.models.import.handler(({ input }) => library.import(input.path)),
      importSample: os.models.importSample.handler(() => library.importSample()),
      get: os.models.get.handler(({ input }) => library.get(input.modelId)),
      tensors: os.models.tensors.handler(({ input }) => library.tensors(input.modelId)),
      tensorStats: os.models.tensorStats.handler(({ input, signal }) =>
        library.tensorStats(input.modelId, input.name, signal ?? unending()),
      ),
      cacheCosts: os.models.cacheCosts.handler(({ input, signal }) => parts.cacheCosts(input.modelId, signal ?? unending())),
      rename: os.models.rename.handler(({ input }) => library.rename(input.modelId, input.name)),
      remove: os.models.remove.handler(({ input }) => {
        library.remove(input.modelId)
        return {}
      }),
      restore: os.models.restore.handler(({ input }) => library.restore(input.modelId)),
      deleteFiles: os.models.deleteFiles.handler(async ({ input }) => ({
        freedBytes: await parts.deleteFiles(input.modelId, input.confirmName),
      })),
      locate: os.models.locate.handler(({ input }) => library.locate(input.modelId, input.path)),
      tokenizer: os.models.tokenizer.handler(async ({ input }) => (await parts.tokenizer(input.modelId)).info),
      tokenize: os.models.tokenize.handler(async ({ input }) => (await parts.tokenizer(input.modelId)).tokenize(input.text)),
      renderChat: os.models.renderChat.handler(async ({ input }) => ({
        text: (await parts.tokenizer(input.modelId)).renderChat(input.messages),
      })),
    },
    optimize: {
      presets: os.optimize.presets.handler(({ input }) => optimize.presets(input.modelId, input.contextTokens)),
      preflight: os.optimize.preflight.handler(({ input }) => optimize.preflight(input)),
      start: os.optimize.start.handler(({ input }) => optimize.start(input)),
      schemes: os.optimize.schemes.handler(() => recipes.schemes()),
      presetRecipe: os.optimize.presetRecipe.handler(({ input }) => recipes.presetRecipe(input.presetId)),
      checkRecipe: os.optimize.checkRecipe.handler(({ input }) => recipes.check(input.modelId, input.yaml, input.contextTokens)),
      writeRecipe: os.optimize.writeRecipe.handler(({ input }) => ({ yaml: recipes.write(input) })),
      schemeMap: os.optimize.schemeMap.handler(({ input }) => recipes.schemeMap(input.modelId, input.choice)),
      inspectCalibration: os.optimize.inspectCalibration.handler(({ input }) =>
        recipes.inspectCalibration(input.modelId, input.calibration),
      ),
      automatic: os.optimize.automatic.handler(({ input, signal }) => recipes.automatic(input, signal ?? unending())),
      raise: os.optimize.raise.handler(({ input }) => recipes.raise(input.variantId, input.module)),
    },
    jobs: {
      list: os.jobs.list.handler(() => queue.list()),
      get: os.jobs.get.handler(({ input }) => queue.get(input.jobId)),
      log: os.jobs.log.handler(({ input }) => queue.log(input.jobId)),
      cancel: os.jobs.cancel.handler(({ input }) => queue.cancel(input.jobId)),
      resume: os.jobs.resume.handler(({ input }) => queue.resume(input.jobId)),
      remove: os.jobs.remove.handler(async ({ input }) => {
        await queue.remove(input.jobId)
        return {}
      }),
    },
    results: {
      board: os.results.board.handler(({ input }) => results.board(input.modelId, input.margin)),
      evaluate: os.results.evaluate.handler(({ input }) => optimize.evaluate(input.modelIds, input.evaluate, input.baselineId)),
      compare: os.results.compare.handler(({ input }) => parts.evidence.compare(input)),
      samples: os.results.samples.handler(({ input }) => parts.evidence.samples(input)),
      tokens: os.results.tokens.handler(({ input }) => parts.evidence.tokens(input)),
      evaluateTasks: os.results.evaluateTasks.handler(({ input }) => parts.taskRuns.start(queue, input.modelIds, input.options)),
      importPublished: os.results.importPublished.handler(({ input }) => parts.remotes.importPublished(input.modelId, input.path)),
    },
    remotes: {
      add: os.remotes.add.handler(({ input, signal }) => parts.remotes.add(input, signal)),
      setKey: os.remotes.setKey.handler(({ input }) => {
        parts.remotes.setKey(library.record(input.modelId).id, input.apiKey)
        return {}
      }),
    },
    benchmarks: {
      start: os.benchmarks.start.handler(({ input }) => parts.benchmarks.start(queue, input)),
      export: os.benchmarks.export.handler(({ input }) => parts.benchmarks.export(input.modelId, input.format)),
      latencies: os.benchmarks.latencies.handler(({ input }) => parts.benchmarks.latencies(input.modelId, input.convention)),
    },
    capacity: {
      catalog: os.capacity.catalog.handler(() => capacity.catalog()),
      plan: os.capacity.plan.handler(({ input }) => capacity.plan(input)),
      checks: os.capacity.checks.handler(() => capacity.checks()),
    },
    monitor: {
      read: os.monitor.read.handler(({ input: { after, ...target }, signal }) => servers.read(target, after, signal)),
      watches: os.monitor.watches.handler(() => watcher.list()),
      setWatch: os.monitor.setWatch.handler(({ input }) => watcher.set(input.modelId, input.everyHours)),
    },
    chat: {
      threads: os.chat.threads.handler(() => chat.threads()),
      create: os.chat.create.handler(({ input }) => chat.create(input.modelId)),
      update: os.chat.update.handler(({ input: { threadId, ...change } }) => chat.update(threadId, change)),
      remove: os.chat.remove.handler(async ({ input }) => {
        await chat.remove(input.threadId)
        return {}
      }),
      messages: os.chat.messages.handler(({ input }) => chat.messages(input.threadId)),
      restore: os.chat.restore.handler(({ input }) => chat.restore(input.threadId)),
      branch: os.chat.branch.handler(({ input }) => chat.branch(input.threadId, input.messageId)),
      search: os.chat.search.handler(({ input }) => chat.search(input.text)),
      drafts: os.chat.drafts.handler(() => chat.drafts()),
      saveDraft: os.chat.saveDraft.handler(({ input }) => {
        chat.saveDraft(input.key, input.text)
        return {}
      }),
      send: os.chat.send.handler(({ input, signal }) => chat.send(input, signal)),
    },
    server: {
      view: os.server.view.handler(() => serving.view()),
      start: os.server.start.handler(({ input, signal }) => serving.start(input, signal ?? unending())),
      stop: os.server.stop.handler(() => serving.stop()),
      abort: os.server.abort.handler(({ input }) => {
        serving.abort(input.requestId)
        return {}
      }),
      key: os.server.key.handler(() => ({ apiKey: serving.key() })),
      load: os.server.load.handler(({ input, signal }) => serving.load(input.name, signal ?? unending())),
      unload: os.server.unload.handler(({ input }) => serving.unload(input.name)),
      test: os.server.test.handler(({ signal }) => serving.test(signal ?? unending())),
    },
    runtime: {
      unload: os.runtime.unload.handler(async ({ input }) => {
        await runtime.unload(input.modelId)
        return {}
      }),
      profile: os.runtime.profile.handler(({ input, signal }) => runtime.profile(input.modelId, signal ?? unending())),
    },
  })
}

/** For in-process callers that bring no signal of their own. */
function unending(): AbortSignal {
  return new AbortController().signal
}

function isStream(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value
}
