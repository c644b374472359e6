import { createTanstackQueryUtils } from '@orpc/tanstack-query'
import { QueryObserver } from '@tanstack/react-query'
import { beforeEach, describe, expect, test } from 'vitest'
import type { Job, StudioEvent } from '../../engine/contract/index.ts'
import { FakeEngine } from '../test/fake-engine.ts'
import { LIBRARY, SAMPLE, SAMPLE_W4, detailOf } from '../test/fixtures.ts'
import { createQueryClient } from './engine.tsx'
import { LOG_LINES_KEPT, applyEvent } from './events.ts'

const engine = new FakeEngine()
const queries = createTanstackQueryUtils(engine.client)
let cache = createQueryClient()
let seq = 0

type Body<Event = StudioEvent> = Event extends StudioEvent ? Omit<Event, 'seq'> : never
function apply(event: Body): void {
  seq += 1
  applyEvent(cache, queries, { ...event, seq } as StudioEvent)
}
const isStale = (queryKey: readonly unknown[]) => cache.getQueryState(queryKey)?.isInvalidated

beforeEach(() => {
  cache = createQueryClient()
})

describe('model events', () => {
  test('a changed model replaces itself in the list and in its own detail', () => {
    cache.setQueryData(queries.models.list.queryKey(), [...LIBRARY])
    const detailKey = queries.models.get.queryKey({ input: { modelId: SAMPLE.id } })
    cache.setQueryData(detailKey, detailOf(SAMPLE, LIBRARY))
    const renamed = { ...SAMPLE, name: 'Renamed' }
    apply({ kind: 'model.changed', model: renamed })
    expect(cache.getQueryData(queries.models.list.queryKey())).toEqual(LIBRARY.map((model) => (model.id === SAMPLE.id ? renamed : model)))
    expect(cache.getQueryData(detailKey)?.summary).toEqual(renamed)
  })

  test('a new variant is appended and its source is asked again', () => {
    cache.setQueryData(queries.models.list.queryKey(), [SAMPLE])
    const sourceKey = queries.models.get.queryKey({ input: { modelId: SAMPLE.id } })
    const boardKey = queries.results.board.queryKey({ input: { modelId: SAMPLE.id } })
    const otherKey = queries.models.get.queryKey({ input: { modelId: 'm-qwen3' } })
    cache.setQueryData(sourceKey, detailOf(SAMPLE, [SAMPLE]))
    cache.setQueryData(boardKey, { models: [SAMPLE], results: [] })
    cache.setQueryData(otherKey, detailOf(SAMPLE, [SAMPLE]))
    apply({ kind: 'model.changed', model: SAMPLE_W4 })
    expect(cache.getQueryData(queries.models.list.queryKey())).toEqual([SAMPLE, SAMPLE_W4])
    expect([isStale(sourceKey), isStale(boardKey), isStale(otherKey)]).toEqual([true, true, false])
  })

  test('a removed model leaves the list and takes its detail along', () => {
    cache.setQueryData(queries.models.list.queryKey(), [SAMPLE, SAMPLE_W4])
    const detailKey = queries.models.get.queryKey({ input: { modelId: SAMPLE_W4.id } })
    cache.setQueryData(detailKey, detailOf(SAMPLE_W4, LIBRARY))
    apply({ kind: 'model.removed', modelId: SAMPLE_W4.id })
    expect(cache.getQueryData(queries.models.list.queryKey())).toEqual([SAMPLE])
    expect(cache.getQueryData(detailKey)).toBeUndefined()
  })

  test('a list that nobody has asked for is not invented from one event', () => {
    apply({ kind: 'model.changed', model: SAMPLE })
    expect(cache.getQueryData(queries.models.list.queryKey())).toBeUndefined()
  })

  test('a list under way is fetched again, since it may be older than the event', async () => {
    const key = queries.models.list.queryKey()
    const answers = [[SAMPLE], [SAMPLE, SAMPLE_W4]]
    let asked = 0
    const observer = new QueryObserver(cache, { queryKey: key, queryFn: () => Promise.resolve(answers[asked++] ?? []) })
    const settled = new Promise<void>((resolve) =>
      observer.subscribe((result) => result.isSuccess && result.fetchStatus === 'idle' && resolve()),
    )
    expect(asked).toBe(1)
    apply({ kind: 'model.changed', model: SAMPLE_W4 })
    await settled
    expect([asked, cache.getQueryData(key)]).toEqual([2, [SAMPLE, SAMPLE_W4]])
    observer.destroy()
  })
})

describe('job events', () => {
  const job: Job = engine.newJob({ kind: 'compress', modelId: SAMPLE.id, title: 'A → B' })

  test('jobs are inserted, replaced and removed', () => {
    const key = queries.jobs.list.queryKey()
    cache.setQueryData(key, [])
    apply({ kind: 'job.changed', job })
    expect(cache.getQueryData(key)).toEqual([job])
    const running: Job = { ...job, state: 'running', progress: 0.5 }
    apply({ kind: 'job.changed', job: running })
    expect(cache.getQueryData(key)).toEqual([running])
    apply({ kind: 'job.removed', jobId: job.id })
    expect(cache.getQueryData(key)).toEqual([])
  })

  test('log lines are appended to an open log, up to the cap', () => {
    const key = queries.jobs.log.queryKey({ input: { jobId: job.id } })
    const line = { at: engine.now, level: 'info' as const, text: 'one' }
    apply({ kind: 'job.log', jobId: job.id, line })
    expect(cache.getQueryData(key)).toBeUndefined()
    cache.setQueryData(
      key,
      Array.from({ length: LOG_LINES_KEPT }, (_, index) => ({ ...line, text: String(index) })),
    )
    apply({ kind: 'job.log', jobId: job.id, line: { ...line, text: 'last' } })
    const lines = cache.getQueryData(key) ?? []
    expect([lines.length, lines[0]?.text, lines.at(-1)?.text]).toEqual([LOG_LINES_KEPT, '1', 'last'])
  })
})

describe('announcements', () => {
  test('each invalidates what it names and nothing else', () => {
    const keys = {
      hardware: queries.system.hardware.queryKey(),
      settings: queries.settings.get.queryKey(),
      threads: queries.chat.threads.queryKey(),
      mine: queries.chat.messages.queryKey({ input: { threadId: 'a' } }),
      other: queries.chat.messages.queryKey({ input: { threadId: 'b' } }),
      board: queries.results.board.queryKey({ input: { modelId: SAMPLE.id } }),
    }
    const fill = () => {
      for (const key of Object.values(keys)) cache.setQueryData(key as readonly unknown[], {})
    }
    const staleAfter = (event: Body) => {
      fill()
      apply(event)
      return Object.entries(keys)
        .filter(([, key]) => isStale(key) === true)
        .map(([name]) => name)
    }
    expect(staleAfter({ kind: 'hardware.changed' })).toEqual(['hardware'])
    expect(staleAfter({ kind: 'settings.changed' })).toEqual(['settings'])
    expect(staleAfter({ kind: 'threads.changed', threadId: 'a' })).toEqual(['threads', 'mine'])
    expect(staleAfter({ kind: 'results.changed', modelId: SAMPLE.id })).toEqual(['board'])
    expect(staleAfter({ kind: 'hello', resumed: true, runId: 'r' })).toEqual([])
    expect(staleAfter({ kind: 'hello', resumed: false, runId: 'r' })).toEqual(Object.keys(keys))
  })
})
