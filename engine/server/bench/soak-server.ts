/**
 * The server's side of the soak, in a process of its own so that its memory and its event loop's lag are its alone: the demo model behind the
 * HTTP server, started by soak.ts, which asks for samples and at last for the balance. Needs `--expose-gc` and an IPC channel.
 */
import { readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createReferenceBackend } from '../../gpu/reference/backend.ts'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { createModelManager } from '../../runtime/manager.ts'
import { openRuntime } from '../../runtime/open-runtime.ts'
import type { Runtime } from '../../runtime/types.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import { startServer } from '../http-server.ts'
import { createServedCollection } from '../served-collection.ts'

/** Megabytes. `rss` is what the process holds right now; the others are after a full garbage collection. */
export interface MemorySample {
  readonly rss: number
  readonly heapUsed: number
  /** What V8 keeps committed for its heap. */
  readonly heapTotal: number
  readonly external: number
  readonly arrayBuffers: number
  /** Resident pages of the allocator's own heap (malloc of the driver, of Dawn, of Node); null where the system does not tell. */
  readonly malloc: number | null
  /** Other anonymous pages: V8's heap, heaps of worker threads, thread arenas, stacks, generated code. */
  readonly anonymous: number | null
  /** What the ledger of the device holds. */
  readonly device: number
}

export interface Balance {
  readonly leftovers: Readonly<Record<string, number>>
  readonly preemptions: number
  readonly speculation: object | null
  readonly gpuBytesHeld: number
  readonly handles: readonly string[]
  readonly lagMs: { readonly p50: number; readonly p99: number; readonly most: number }
}

export type FromServer =
  | { readonly kind: 'ready'; readonly url: string; readonly port: number }
  | { readonly kind: 'sample'; readonly sample: MemorySample }
  | { readonly kind: 'balance'; readonly balance: Balance }
export type ToServer = 'sample' | 'balance' | 'measure'

const send = (message: FromServer): void => void process.send?.(message)
const megabytes = (bytes: number): number => Math.round(bytes / 1e5) / 10

/** Resident kilobytes by kind of mapping, from Linux. */
function residentPages(): { readonly malloc: number; readonly anonymous: number } | null {
  let text: string
  try {
    text = readFileSync('/proc/self/smaps', 'utf8')
  } catch {
    return null
  }
  const found = { malloc: 0, anonymous: 0, file: 0 }
  let kind: keyof typeof found = 'file'
  for (const line of text.split('\n')) {
    const name = /^[\da-f]+-[\da-f]+ \S+ \S+ \S+ \S+ *(.*)$/.exec(line)?.[1]
    if (name !== undefined) kind = name === '[heap]' ? 'malloc' : name === '' || name.startsWith('[') ? 'anonymous' : 'file'
    const resident = /^Rss: +(\d+)/.exec(line)?.[1]
    if (resident !== undefined) found[kind] += 1024 * Number(resident)
  }
  return found
}

const folder = fileURLToPath(new URL('../../../assets/demo-model', import.meta.url))
const backend = process.argv.includes('--webgpu') ? await openBackend(null) : createReferenceBackend()
const manager = createModelManager({ budgetBytes: () => null })
let runtime: Runtime | null = null
const speculation = process.argv.includes('--speculate') ? ({ kind: 'ngram' } as const) : undefined
const collection = createServedCollection(
  [{ name: 'demo', pinned: true }],
  {
    acquire: ({ name }, signal) =>
      manager.acquire({
        modelId: 'demo',
        name,
        contextTokens: 512,
        kvDtype: 'f16',
        estimatedBytes: null,
        signal,
        open: async (options) => {
          const served = { source: folder, backend, modelId: 'demo', contextTokens: 512, kvDtype: 'f16' } as const
          runtime = await openRuntime({ ...options, ...served, maxQueued: 24, speculation })
          return runtime
        },
      }),
    unload: () => manager.unload('demo'),
    tokenizer: () => loadTokenizer(folder),
  },
  { idleMs: null, log: () => {} },
)
await collection.start(new AbortController().signal)
const server = await startServer({ models: collection, apiKey: null, port: 0, version: 'soak', log: () => {} })
const loaded = runtime as Runtime | null
if (loaded === null) throw new Error('The model was not loaded')
const lag = monitorEventLoopDelay({ resolution: 5 })

const deviceBytes = (): number => [...backend.usage().values()].reduce((sum, { bytes }) => sum + bytes, 0)

function sample(): MemorySample {
  const { rss } = process.memoryUsage()
  // Its pause is the soak's own and no lag of the server.
  lag.disable()
  global.gc?.()
  const { heapUsed, heapTotal, external, arrayBuffers } = process.memoryUsage()
  const pages = residentPages()
  lag.enable()
  return {
    rss: megabytes(rss),
    heapUsed: megabytes(heapUsed),
    heapTotal: megabytes(heapTotal),
    external: megabytes(external),
    arrayBuffers: megabytes(arrayBuffers),
    malloc: pages === null ? null : megabytes(pages.malloc),
    anonymous: pages === null ? null : megabytes(pages.anonymous),
    device: megabytes(deviceBytes()),
  }
}

async function balance(from: Runtime): Promise<Balance> {
  lag.disable()
  const left = () => {
    const { running, waiting, kvBlocksUsed } = from.telemetry()
    const live = server.live.list().filter((request) => request.endedAt === null)
    return { running, waiting, kvBlocksUsed, inFlight: server.inFlight, live: live.length }
  }
  // Who has just hung up is let go of when the step in flight has ended.
  for (let tries = 0; Object.values(left()).some((count) => count > 0) && tries < 100; tries++) await sleep(50)
  const leftovers = left()
  for (const request of server.live.list()) if (request.endedAt === null) console.log('LEFT', request)
  const { preemptions, speculation: speculated = null } = from.telemetry()
  await server.close()
  await collection[Symbol.asyncDispose]()
  await manager[Symbol.asyncDispose]()
  const gpuBytesHeld = deviceBytes()
  await backend[Symbol.asyncDispose]()
  // Closed sockets leave with the next turns of the loop.
  await sleep(300)
  const handles = process.getActiveResourcesInfo().filter((name) => !/^(TTYWrap|PipeWrap|FSReqCallback|Timeout)$/.test(name))
  const lagMs = { p50: lag.percentile(50) / 1e6, p99: lag.percentile(99) / 1e6, most: lag.max / 1e6 }
  return { leftovers, preemptions, speculation: speculated, gpuBytesHeld, handles, lagMs }
}

process.on('message', (message: ToServer) => {
  if (message === 'measure') lag.enable()
  else if (message === 'sample') send({ kind: 'sample', sample: sample() })
  else
    void balance(loaded).then((result) => {
      send({ kind: 'balance', balance: result })
      process.disconnect()
    })
})
send({ kind: 'ready', url: server.url, port: server.port })
