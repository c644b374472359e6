import { createORPCClient } from '@orpc/client'
import { implement } from '@orpc/server'
import { RPCHandler } from '@orpc/server/websocket'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { contract, type StudioEvent } from '../engine/contract/index.ts'
import { DisconnectedError, toUiError } from './lib/errors.ts'
import { EngineConnection, watchEvents, type EngineClient } from './rpc.ts'

/** Two ends of a line in memory, with the parts of WebSocket that oRPC uses. */
class SocketEnd extends EventTarget {
  readyState = 0
  peer: SocketEnd | null = null
  send(data: string | ArrayBufferLike | ArrayBufferView | Blob): void {
    const { peer } = this
    queueMicrotask(() => peer?.readyState === 1 && peer.dispatchEvent(new MessageEvent('message', { data })))
  }
  open(): void {
    this.readyState = 1
    this.dispatchEvent(new Event('open'))
  }
  close(): void {
    if (this.readyState === 3) return
    this.readyState = 3
    this.dispatchEvent(new Event('close'))
    this.peer?.close()
  }
}

type SocketLike = ConstructorParameters<typeof EngineConnection>[0] extends () => infer Socket ? Socket : never

/** An engine that can be stopped and started, with a log of what the page asked for. */
class TestEngine {
  readonly watches: { runId: string | null; after: number | null }[] = []
  readonly sockets: SocketEnd[] = []
  runId = 'run-1'
  up = true
  push: (event: StudioEvent) => void = () => {}
  #handler: RPCHandler<Record<never, never>>

  constructor() {
    const os = implement(contract)
    this.#handler = new RPCHandler({
      system: {
        info: os.system.info.handler(() => ({
          version: '0',
          runId: this.runId,
          dataFolder: '',
          homeFolder: '',
          platform: '',
          shell: 'browser' as const,
        })),
        hardware: os.system.hardware.handler(() => new Promise(() => {})),
      },
      models: {
        get: os.models.get.handler(({ errors }) => {
          throw errors.LATHE({ data: { code: 'model.not-found', message: 'There is no such model.', hint: 'Import it.' } })
        }),
      },
      events: {
        watch: os.events.watch.handler(({ input, signal }) => this.#watch(input, signal)),
      },
    } as never)
  }

  async *#watch(input: { runId: string | null; after: number | null }, signal: AbortSignal | undefined): AsyncGenerator<StudioEvent> {
    this.watches.push(input)
    const queue: StudioEvent[] = []
    let wake: (() => void) | null = null
    this.push = (event) => {
      queue.push(event)
      wake?.()
    }
    signal?.addEventListener('abort', () => wake?.())
    yield { seq: input.after ?? 0, kind: 'hello', resumed: input.runId === this.runId, runId: this.runId }
    for (;;) {
      if (signal?.aborted === true) return
      const event = queue.shift()
      if (event !== undefined) yield event
      else await new Promise<void>((resolve) => (wake = resolve))
    }
  }

  connect = (): SocketLike => {
    const page = new SocketEnd()
    const server = new SocketEnd()
    page.peer = server
    server.peer = page
    this.sockets.push(page)
    queueMicrotask(() => {
      if (!this.up) return page.close()
      this.#handler.upgrade(server as never)
      server.open()
      page.open()
    })
    return page as unknown as SocketLike
  }

  stop(): void {
    this.up = false
    for (const socket of this.sockets) socket.close()
  }
}

function start() {
  const engine = new TestEngine()
  const connection = new EngineConnection(engine.connect)
  return { engine, connection, client: createORPCClient<EngineClient>(connection.link) }
}

afterEach(() => vi.useRealTimers())

describe('calls', () => {
  test('a call made before the line is open waits for it', async () => {
    const { client, connection } = start()
    expect(connection.getState().status).toBe('connecting')
    expect((await client.system.info()).runId).toBe('run-1')
    expect(connection.getState()).toEqual({ status: 'open', hasBeenOpen: true, attempt: 0 })
    connection.dispose()
  })

  test('typed errors arrive as the shape the engine sent', async () => {
    const { client, connection } = start()
    const error: unknown = await client.models.get({ modelId: 'x' }).catch((thrown: unknown) => thrown)
    expect(toUiError(error)).toEqual({ code: 'model.not-found', message: 'There is no such model.', hint: 'Import it.' })
    connection.dispose()
  })

  test('a call under way when the engine stops fails with a reason of its own, and the next one waits for the restart', async () => {
    vi.useFakeTimers()
    const { client, connection, engine } = start()
    await client.system.info()
    const hanging = client.system.hardware().catch((thrown: unknown) => thrown)
    await Promise.resolve()
    engine.stop()
    const error = await hanging
    expect(error).toBeInstanceOf(DisconnectedError)
    expect(toUiError(error).code).toBe('engine.disconnected')
    expect(connection.getState()).toEqual({ status: 'lost', hasBeenOpen: true, attempt: 1 })

    const later = client.system.info()
    engine.up = true
    engine.runId = 'run-2'
    await vi.advanceTimersByTimeAsync(200)
    expect((await later).runId).toBe('run-2')
    connection.dispose()
  })

  test('a stream under way when the engine stops fails with the same reason', async () => {
    const { client, connection, engine } = start()
    const stream = await client.events.watch({ runId: null, after: null })
    await stream.next()
    const hanging = stream.next().catch((thrown: unknown) => thrown)
    engine.stop()
    expect(await hanging).toBeInstanceOf(DisconnectedError)
    connection.dispose()
  })

  test('a waiting call can be given up', async () => {
    const { client, connection, engine } = start()
    await client.system.info()
    engine.stop()
    const stop = new AbortController()
    const waiting = client.system.info(undefined, { signal: stop.signal }).catch((thrown: unknown) => thrown)
    stop.abort(new Error('changed my mind'))
    expect(String(await waiting)).toContain('changed my mind')
    connection.dispose()
  })

  test('retries slow down and never stop', async () => {
    vi.useFakeTimers()
    const { connection, engine } = start()
    await vi.advanceTimersByTimeAsync(1)
    engine.stop()
    await vi.advanceTimersByTimeAsync(150 + 300 + 600 + 1200 + 5)
    expect(connection.getState().attempt).toBe(5)
    const before = engine.sockets.length
    await vi.advanceTimersByTimeAsync(30_000)
    // Every 2.4 s, then every 3 s: no storm, no giving up.
    expect(engine.sockets.length - before).toBeGreaterThanOrEqual(9)
    expect(engine.sockets.length - before).toBeLessThanOrEqual(11)
    engine.up = true
    connection.retryNow()
    await vi.advanceTimersByTimeAsync(1)
    expect(connection.getState().status).toBe('open')
    connection.dispose()
  })
})

describe('the event stream', () => {
  test('resumes after the last event it saw, and survives a restart of the engine', async () => {
    vi.useFakeTimers()
    const { client, connection, engine } = start()
    const seen: StudioEvent[] = []
    const stop = new AbortController()
    const done = watchEvents(client, (event) => seen.push(event), stop.signal)
    await vi.advanceTimersByTimeAsync(1)
    engine.push({ seq: 7, kind: 'hardware.changed' })
    await vi.advanceTimersByTimeAsync(1)
    engine.stop()
    engine.up = true
    await vi.advanceTimersByTimeAsync(1000)
    engine.runId = 'run-2'
    engine.stop()
    engine.up = true
    await vi.advanceTimersByTimeAsync(1000)
    expect(engine.watches).toEqual([
      { runId: null, after: null },
      { runId: 'run-1', after: 7 },
      { runId: 'run-1', after: 7 },
    ])
    expect(seen.map((event) => (event.kind === 'hello' ? `hello ${event.resumed}` : event.kind))).toEqual([
      'hello false',
      'hardware.changed',
      'hello true',
      'hello false',
    ])
    stop.abort()
    await vi.advanceTimersByTimeAsync(1000)
    await done
    expect(engine.watches.length).toBe(3)
    connection.dispose()
  })
})
