/**
 * Composition: opens the store, binds the parts of the engine to the studio's ports, and hands out the router. The only file of this folder that
 * knows concrete implementations. Hosts (engine process, tests) own the process; the studio owns everything behind the router.
 */
import { randomUUID } from 'node:crypto'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { LatheError } from '../contract/index.ts'
import { EventHub } from './events.ts'
import { Library } from './library.ts'
import type { CheckpointPort, Log } from './ports.ts'
import { createRouter } from './router.ts'
import type { StudioRouter } from './router.ts'
import { openDatabase } from './store/database.ts'
import { ModelStore } from './store/model-store.ts'
import { SettingsStore } from './store/settings-store.ts'

export interface StudioOptions {
  /** Absolute; created if absent. Holds the library file and, unless set otherwise, the variants. */
  readonly dataFolder: string
  /** Absolute; has demo-model/ and demo-eval/. */
  readonly assetsFolder: string
  readonly shell: 'desktop' | 'browser' | 'headless'
  /** Overrides the adapter from the settings for this run; "reference" is the f64 backend. */
  readonly adapterId?: string
  readonly version: string
  readonly log: Log
}

export interface Studio {
  /** Serve it with any oRPC handler; it needs no context. */
  readonly router: StudioRouter
  status(): { readonly runningJobs: number }
  /** Stops jobs so that they can be resumed, ends every stream, unloads models, closes the store. */
  close(): Promise<void>
}

/** Throws `studio.in-use`, `studio.data-too-new` or `disk.*` when the data folder can't be used. */
export async function createStudio(options: StudioOptions): Promise<Studio> {
  const { log } = options
  const database = openDatabase(join(options.dataFolder, 'lathe.db'), log)
  const events = new EventHub({ runId: randomUUID() })
  const settings = new SettingsStore(database)
  const library = new Library({
    store: new ModelStore(database),
    events,
    checkpoint: pendingCheckpoint,
    sampleFolder: join(options.assetsFolder, 'demo-model'),
    log,
  })
  await library.refresh()
  const router = createRouter({
    info: {
      version: options.version,
      runId: events.runId,
      dataFolder: options.dataFolder,
      homeFolder: homedir(),
      platform: process.platform,
      shell: options.shell,
    },
    log,
    events,
    library,
    settings: {
      get: () => settings.get(),
      update: async (change) => {
        const updated = settings.update(change)
        events.publish({ kind: 'settings.changed' })
        return updated
      },
    },
  })
  return {
    router,
    status: () => ({ runningJobs: 0 }),
    close: async () => {
      events.close()
      database.close()
    },
  }
}

const pendingCheckpoint: CheckpointPort = {
  inspect: async () => {
    throw new LatheError('internal', 'Reading model folders is not in this build yet.', 'Update Lathe.')
  },
  tensorStats: async () => {
    throw new LatheError('internal', 'Reading model folders is not in this build yet.', 'Update Lathe.')
  },
}
