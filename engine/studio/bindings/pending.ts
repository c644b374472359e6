/** A model manager that only shares loads; stands in until engine/runtime's own one lands, then goes. */
import type { AcquireOptions, ModelLease, ModelManager, Runtime } from '../../runtime/types.ts'
import { LatheError } from '../../contract/index.ts'

interface Entry {
  readonly options: AcquireOptions
  readonly runtime: Promise<Runtime>
  opened: Runtime | null
  leases: number
}

export function createSharingManager(): ModelManager {
  const entries = new Map<string, Entry>()
  const dispose = async (key: string, entry: Entry): Promise<void> => {
    entries.delete(key)
    await (await entry.runtime)[Symbol.asyncDispose]()
  }
  return {
    async acquire(options: AcquireOptions): Promise<ModelLease> {
      const key = keyOf(options)
      let entry = entries.get(key)
      if (entry === undefined || entry.opened?.failure) {
        const runtime = options.open({
          signal: options.signal ?? new AbortController().signal,
          onProgress: options.onProgress ?? (() => {}),
        })
        const created: Entry = { options, runtime, opened: null, leases: 0 }
        entry = created
        entries.set(key, created)
        runtime.then(
          (opened) => {
            created.opened = opened
          },
          () => entries.delete(key),
        )
      }
      const held = entry
      held.leases += 1
      let released = false
      const release = (): void => {
        if (!released) held.leases -= 1
        released = true
      }
      try {
        return { runtime: await held.runtime, release, [Symbol.dispose]: release }
      } catch (error) {
        release()
        throw error
      }
    },
    async unload(modelId) {
      const own = [...entries].filter(([, entry]) => entry.options.modelId === modelId)
      if (own.some(([, entry]) => entry.leases > 0))
        throw new LatheError('model.busy', 'The model is in use.', 'Wait until it has finished.')
      for (const [key, entry] of own) await dispose(key, entry)
      return own.length > 0
    },
    loaded: () =>
      [...entries.values()].flatMap(({ options, opened, leases }) =>
        opened === null
          ? []
          : [
              {
                modelId: options.modelId,
                name: options.name,
                weightBytes: opened.info.weightBytes,
                kvBytes: opened.info.kvBytes,
                otherBytes: opened.info.otherBytes,
                contextLimit: opened.info.contextLimit,
                busy: leases > 0,
                lastUsedAt: new Date().toISOString(),
              },
            ],
      ),
    async [Symbol.asyncDispose]() {
      for (const [key, entry] of entries) await dispose(key, entry)
    },
  }
}

function keyOf(options: AcquireOptions): string {
  return `${options.modelId}|${options.contextTokens}|${options.kvDtype}`
}
