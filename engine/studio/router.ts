/**
 * The contract's procedures, each handed to the part that does it. No logic lives here: what a procedure means is in the part, what it may fail
 * with is in rpc-errors.ts, what its data look like is in the contract.
 */
import { implement } from '@orpc/server'
import { contract } from '../contract/index.ts'
import { LatheError } from '../contract/index.ts'
import type { Settings, SettingsPatch } from '../contract/index.ts'
import { browse } from './files.ts'
import type { EventHub } from './events.ts'
import type { Library } from './library.ts'
import type { Log } from './ports.ts'
import { mapStreamErrors, toRpcError } from './rpc-errors.ts'

export interface SystemInfo {
  readonly version: string
  readonly runId: string
  readonly dataFolder: string
  readonly homeFolder: string
  readonly platform: string
  readonly shell: 'desktop' | 'browser' | 'headless'
}

export interface StudioParts {
  readonly info: SystemInfo
  readonly log: Log
  readonly events: EventHub
  readonly library: Library
  readonly settings: { get(): Settings; update(change: SettingsPatch): Promise<Settings> }
}

export type StudioRouter = ReturnType<typeof createRouter>

export function createRouter(parts: StudioParts) {
  const { library, events, settings, log } = parts
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
      hardware: os.system.hardware.handler(arriving),
      benchmark: os.system.benchmark.handler(arriving),
      diagnostics: os.system.diagnostics.handler(arriving),
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
      tensorStats: os.models.tensorStats.handler(({ input, signal }) => library.tensorStats(input.modelId, input.name, signal ?? never())),
      rename: os.models.rename.handler(({ input }) => library.rename(input.modelId, input.name)),
      remove: os.models.remove.handler(({ input }) => {
        library.remove(input.modelId)
        return {}
      }),
      restore: os.models.restore.handler(({ input }) => library.restore(input.modelId)),
      deleteFiles: os.models.deleteFiles.handler(async ({ input }) => ({
        freedBytes: await library.deleteFiles(input.modelId, input.confirmName),
      })),
      locate: os.models.locate.handler(({ input }) => library.locate(input.modelId, input.path)),
      tokenizer: os.models.tokenizer.handler(arriving),
      tokenize: os.models.tokenize.handler(arriving),
      renderChat: os.models.renderChat.handler(arriving),
    },
    optimize: {
      presets: os.optimize.presets.handler(arriving),
      preflight: os.optimize.preflight.handler(arriving),
      start: os.optimize.start.handler(arriving),
    },
    jobs: {
      list: os.jobs.list.handler(() => []),
      get: os.jobs.get.handler(arriving),
      log: os.jobs.log.handler(arriving),
      cancel: os.jobs.cancel.handler(arriving),
      resume: os.jobs.resume.handler(arriving),
      remove: os.jobs.remove.handler(arriving),
    },
    results: { board: os.results.board.handler(arriving), evaluate: os.results.evaluate.handler(arriving) },
    chat: {
      threads: os.chat.threads.handler(() => []),
      create: os.chat.create.handler(arriving),
      update: os.chat.update.handler(arriving),
      remove: os.chat.remove.handler(arriving),
      messages: os.chat.messages.handler(arriving),
      send: os.chat.send.handler(arriving),
    },
    runtime: { unload: os.runtime.unload.handler(arriving), profile: os.runtime.profile.handler(arriving) },
  })
}

function arriving(): never {
  throw new LatheError('internal', 'This part of Lathe is not in this build yet.', 'Update Lathe.')
}

/** A signal for callers that brought none. */
function never(): AbortSignal {
  return new AbortController().signal
}

function isStream(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value
}
