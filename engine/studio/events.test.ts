import { array, assert, asyncProperty, integer, record } from 'fast-check'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { StudioEvent } from '../contract/index.ts'
import { EventHub } from './events.ts'

const START = { runId: null, after: null }

function removed(modelId: string) {
  return { kind: 'model.removed', modelId } as const
}

async function take(stream: AsyncGenerator<StudioEvent>, count: number): Promise<StudioEvent[]> {
  const events: StudioEvent[] = []
  while (events.length < count) {
    const next = await stream.next()
    if (next.done === true) break
    events.push(next.value)
  }
  return events
}

async function rest(stream: AsyncGenerator<StudioEvent>): Promise<StudioEvent[]> {
  const events: StudioEvent[] = []
  for await (const event of stream) events.push(event)
  return events
}

afterEach(() => {
  vi.useRealTimers()
})

describe('a stream', () => {
  it('starts with hello and then has everything in order', async () => {
    const hub = new EventHub({ runId: 'run' })
    hub.publish(removed('before'))
    const stream = hub.watch(START, undefined)
    const first = await stream.next()
    hub.publish(removed('a'))
    hub.publish(removed('b'))
    expect([first.value, ...(await take(stream, 2))]).toEqual([
      { seq: 1, kind: 'hello', resumed: false, runId: 'run' },
      { seq: 2, ...removed('a') },
      { seq: 3, ...removed('b') },
    ])
  })

  it('loses nothing that is published while hello is on its way', async () => {
    const hub = new EventHub({ runId: 'run' })
    const stream = hub.watch(START, undefined)
    const hello = stream.next()
    hub.publish(removed('a'))
    await hello
    expect(await take(stream, 1)).toEqual([{ seq: 1, ...removed('a') }])
  })

  it('ends when its signal aborts or the hub closes, and leaves no reader behind', async () => {
    const hub = new EventHub({ runId: 'run' })
    const controller = new AbortController()
    const aborted = hub.watch(START, controller.signal)
    const closed = hub.watch(START, undefined)
    await aborted.next()
    await closed.next()
    controller.abort()
    expect(await rest(aborted)).toEqual([])
    hub.publish(removed('a'))
    hub.close()
    expect(await rest(closed)).toEqual([{ seq: 1, ...removed('a') }])
  })
})

describe('resuming', () => {
  it('continues after the last seen event of the same run', async () => {
    const hub = new EventHub({ runId: 'run' })
    for (const id of ['a', 'b', 'c']) hub.publish(removed(id))
    expect(await take(hub.watch({ runId: 'run', after: 1 }, undefined), 3)).toEqual([
      { seq: 1, kind: 'hello', resumed: true, runId: 'run' },
      { seq: 2, ...removed('b') },
      { seq: 3, ...removed('c') },
    ])
  })

  it('says that it could not when the run is another, the position is ahead, or too much was missed', async () => {
    const hub = new EventHub({ runId: 'run', historyLength: 2 })
    for (const id of ['a', 'b', 'c', 'd']) hub.publish(removed(id))
    for (const position of [
      { runId: 'other', after: 3 },
      { runId: 'run', after: 5 },
      { runId: 'run', after: 1 },
      { runId: 'run', after: null },
    ]) {
      expect(await take(hub.watch(position, undefined), 1)).toEqual([{ seq: 4, kind: 'hello', resumed: false, runId: 'run' }])
    }
    const edge = await take(hub.watch({ runId: 'run', after: 2 }, undefined), 3)
    expect(edge.map((event) => event.seq)).toEqual([2, 3, 4])
  })

  it('gives any reader, however often it reconnects, every event once or a fresh start', async () => {
    await assert(
      asyncProperty(
        array(record({ publish: integer({ min: 0, max: 6 }), read: integer({ min: 0, max: 6 }) }), { maxLength: 12 }),
        async (rounds) => {
          const hub = new EventHub({ runId: 'run', historyLength: 8 })
          let published = 0
          let seen = 0
          for (const { publish, read } of rounds) {
            for (let n = 0; n < publish; n++) hub.publish(removed(String(++published)))
            const stream = hub.watch({ runId: 'run', after: seen }, undefined)
            const hello = (await stream.next()).value as Extract<StudioEvent, { kind: 'hello' }>
            expect(hello.resumed).toBe(published - seen <= 8)
            if (!hello.resumed) seen = hello.seq
            for (const event of await take(stream, Math.min(read, published - seen))) {
              expect(event).toEqual({ seq: seen + 1, ...removed(String(seen + 1)) })
              seen += 1
            }
            await stream.return()
          }
        },
      ),
      { seed: 20_261_123, numRuns: 60 },
    )
  })
})

describe('a reader that stops reading', () => {
  it('costs bounded memory and is told to start afresh', async () => {
    const hub = new EventHub({ runId: 'run', queueLength: 3 })
    const stream = hub.watch(START, undefined)
    await stream.next()
    for (let n = 0; n < 10; n++) hub.publish(removed(String(n)))
    expect(await take(stream, 1)).toEqual([{ seq: 10, kind: 'hello', resumed: false, runId: 'run' }])
    hub.publish(removed('after'))
    expect(await take(stream, 1)).toEqual([{ seq: 11, ...removed('after') }])
  })
})

describe('coalescing', () => {
  it('sends at most one event per interval and key, and the last state always', async () => {
    vi.useFakeTimers()
    const hub = new EventHub({ runId: 'run', now: () => Date.now() })
    const stream = hub.watch(START, undefined)
    await stream.next()
    let state = 0
    for (let ms = 0; ms < 1000; ms += 10) {
      state += 1
      hub.publishCoalesced('job', () => removed(`state ${state}`))
      vi.advanceTimersByTime(10)
    }
    vi.advanceTimersByTime(100)
    hub.close()
    const events = await rest(stream)
    expect(events.length).toBeLessThanOrEqual(11)
    expect(events.length).toBeGreaterThanOrEqual(10)
    expect(events.at(-1)).toMatchObject({ modelId: 'state 100' })
  })

  it('drops what waits under a forgotten key', async () => {
    vi.useFakeTimers()
    const hub = new EventHub({ runId: 'run', now: () => Date.now() })
    hub.publishCoalesced('job', () => removed('first'))
    hub.publishCoalesced('job', () => removed('waiting'))
    hub.forget('job')
    vi.advanceTimersByTime(1000)
    expect(hub.seq).toBe(1)
  })
})
