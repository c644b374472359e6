import type { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { array, assert, asyncProperty, constantFrom, integer, record } from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import type { Job, JobState, StudioEvent } from '../../contract/index.ts'
import { JobSchema, LatheError } from '../../contract/index.ts'
import { EventHub } from '../events.ts'
import { openDatabase } from '../store/database.ts'
import { JobStore } from '../store/job-store.ts'
import type { JobRecord, StoredPhase } from '../store/job-store.ts'
import { useTemporaryFolders } from '../test/temporary-folder.ts'
import { JobQueue } from './queue.ts'
import type { JobContext, JobWorker } from './worker.ts'

const temporaryFolder = useTemporaryFolders()
const open: DatabaseSync[] = []
afterEach(() => {
  for (const database of open.splice(0)) database.close()
})

/** A worker that does what the test tells it, when the test tells it. */
class ScriptedWorker implements JobWorker {
  context: JobContext | null = null
  discarded: string[] = []
  runs: string[] = []
  most = 0
  #active = 0
  #end: PromiseWithResolvers<void> | null = null

  async run(context: JobContext): Promise<void> {
    this.#active += 1
    this.most = Math.max(this.most, this.#active)
    this.context = context
    this.runs.push(context.job.id)
    this.#end = Promise.withResolvers()
    context.signal.addEventListener('abort', () => this.#end?.reject(context.signal.reason), { once: true })
    try {
      await this.#end.promise
    } finally {
      this.#active -= 1
      this.context = null
    }
  }

  async discard(job: JobRecord): Promise<void> {
    this.discarded.push(job.id)
  }

  succeed(): void {
    this.#end?.resolve()
  }

  fail(error: unknown): void {
    this.#end?.reject(error)
  }
}

function openAt(path: string, worker: JobWorker) {
  const database = openDatabase(path, () => {})
  open.push(database)
  database.exec(
    `INSERT OR IGNORE INTO models (id, path, parent_id, name, created_at, last_used_at, removed_at, deleted_at, written_by_lathe, is_sample, preset_id, fingerprint, facts) VALUES ('model', '/m', NULL, 'm', '2026-01-01', NULL, NULL, NULL, 0, 0, NULL, 'f', '{}')`,
  )
  const events = new EventHub({ runId: 'run', coalesceMs: 0 })
  const log: string[] = []
  const clock = { ms: 0 }
  let tick: (() => void) | null = null
  const queue = new JobQueue({
    store: new JobStore(database),
    events,
    workers: { compress: worker },
    log: (level, text) => log.push(`${level} ${text}`),
    rssBytes: () => 1000 + clock.ms,
    clock: {
      now: () => clock.ms,
      date: () => new Date(clock.ms),
      every: (_ms, callback) => {
        tick = callback
        return () => {
          tick = null
        }
      },
    },
  })
  const close = async (): Promise<void> => {
    await queue.close()
    events.close()
    open.splice(open.indexOf(database), 1)
    database.close()
  }
  return { queue, events, log, clock, tick: () => tick?.(), close, store: new JobStore(database) }
}

const PHASE: StoredPhase = {
  id: 'quantize',
  title: 'Quantize',
  state: 'pending',
  done: 0,
  total: 100,
  unit: 'bytes',
  rateKey: 'k',
  priorRate: 10,
  group: 'g',
}

function newJob(title: string) {
  return { kind: 'compress', title, modelId: 'model', variantId: null, presetId: 'p', request: { title }, phases: [PHASE] } as const
}

/** Resolves when the event stream shows the job in the state. */
async function until(events: EventHub, queue: JobQueue, id: string, state: JobState): Promise<Job> {
  const controller = new AbortController()
  try {
    for await (const event of events.watch({ runId: null, after: null }, controller.signal)) {
      if (event.kind === 'hello' && queue.get(id).state === state) return queue.get(id)
      if (event.kind === 'job.changed' && event.job.id === id && event.job.state === state) return queue.get(id)
    }
  } finally {
    controller.abort()
  }
  throw new Error(`The stream ended before the job was ${state}.`)
}

describe('a job', () => {
  it('runs through its phases, remembers its speed, and ends as succeeded', async () => {
    const worker = new ScriptedWorker()
    const { queue, events, clock, store, tick } = openAt(join(temporaryFolder(), 'db'), worker)
    queue.start()
    const { id } = queue.enqueue(newJob('one'))
    expect(queue.get(id)).toMatchObject({ state: 'running', queuePosition: 0, progress: 0, etaSeconds: null })
    worker.context?.start('quantize')
    clock.ms = 5000
    worker.context?.advance('quantize', 50, 100, 'tensor 5')
    tick()
    expect(JobSchema.parse(queue.get(id))).toMatchObject({
      phases: [{ id: 'quantize', state: 'running', done: 50, total: 100 }],
      progress: 0.5,
      etaSeconds: 5,
      currentItem: 'tensor 5',
      rate: { value: 10, unit: 'bytes' },
      peakRssBytes: 6000,
    })
    clock.ms = 8000
    worker.context?.finish('quantize')
    worker.context?.log('info', 'a line')
    worker.succeed()
    await until(events, queue, id, 'succeeded')
    expect(queue.get(id)).toMatchObject({ progress: 1, etaSeconds: null, resumable: false, endedAt: new Date(8000).toISOString() })
    expect(queue.log(id).map((line) => line.text)).toEqual(['a line'])
    expect(store.rate('k')).toBeCloseTo(12.5)
  })

  it('that throws shows the error with what to do, and a defect is logged with its stack', async () => {
    const worker = new ScriptedWorker()
    const { queue, events, log } = openAt(join(temporaryFolder(), 'db'), worker)
    queue.start()
    const expected = queue.enqueue(newJob('expected'))
    worker.fail(new LatheError('disk.full', 'No space.', 'Free some.', { data: { freeBytes: 1 } }))
    expect(await until(events, queue, expected.id, 'failed')).toMatchObject({
      error: { code: 'disk.full', message: 'No space.', hint: 'Free some.', data: { freeBytes: 1 } },
      resumable: true,
    })
    expect(log).toEqual([])
    const defect = queue.enqueue(newJob('defect'))
    await until(events, queue, defect.id, 'running')
    worker.fail(new TypeError('undefined is not a function'))
    expect((await until(events, queue, defect.id, 'failed')).error?.code).toBe('internal')
    expect(log.join()).toMatch(/error Job .*TypeError: undefined is not a function\n\s+at /)
  })

  it('waits for the one before it, and says which place it has', async () => {
    const worker = new ScriptedWorker()
    const { queue, events } = openAt(join(temporaryFolder(), 'db'), worker)
    queue.start()
    const jobs = ['a', 'b', 'c'].map((title) => queue.enqueue(newJob(title)))
    expect(jobs.map((job) => [job.state, job.queuePosition])).toEqual([
      ['running', 0],
      ['queued', 1],
      ['queued', 2],
    ])
    worker.succeed()
    await until(events, queue, jobs[1]!.id, 'running')
    expect(queue.list().map((job) => [job.title, job.state, job.queuePosition])).toEqual([
      ['a', 'succeeded', 0],
      ['b', 'running', 0],
      ['c', 'queued', 1],
    ])
    expect(worker.most).toBe(1)
  })
})

describe('cancel', () => {
  it('is shown at once, then the worker lets go, and the leftovers are discarded', async () => {
    const worker = new ScriptedWorker()
    const { queue, events } = openAt(join(temporaryFolder(), 'db'), worker)
    queue.start()
    const { id } = queue.enqueue(newJob('one'))
    expect((await queue.cancel(id)).state).toBe('cancelling')
    expect(await until(events, queue, id, 'cancelled')).toMatchObject({ resumable: true, error: null })
    expect(worker.discarded).toEqual([id])
  })

  it('of a waiting job never starts it', async () => {
    const worker = new ScriptedWorker()
    const { queue, events } = openAt(join(temporaryFolder(), 'db'), worker)
    queue.start()
    const [first, second] = [queue.enqueue(newJob('a')), queue.enqueue(newJob('b'))]
    expect((await queue.cancel(second.id)).state).toBe('cancelled')
    worker.succeed()
    await until(events, queue, first.id, 'succeeded')
    await queue.settled()
    expect(worker.runs).toEqual([first.id])
  })

  it('of a job that finished in the same moment keeps what it finished', async () => {
    const worker = new ScriptedWorker()
    const { queue, events } = openAt(join(temporaryFolder(), 'db'), worker)
    queue.start()
    const { id } = queue.enqueue(newJob('one'))
    worker.succeed()
    await queue.cancel(id)
    await until(events, queue, id, 'succeeded')
    expect(worker.discarded).toEqual([])
  })
})

describe('after a restart', () => {
  it('what was running is interrupted and can be resumed with its finished phases; what waited goes on', async () => {
    const path = join(temporaryFolder(), 'db')
    const before = openAt(path, new ScriptedWorker())
    before.queue.start()
    const running = before.queue.enqueue(newJob('running'))
    const waiting = before.queue.enqueue(newJob('waiting'))
    const worker = new ScriptedWorker()
    // no close: the process is gone, the store is all there is
    open.splice(0)[0]?.close()
    const after = openAt(path, worker)
    expect(after.queue.list().map((job) => [job.title, job.state, job.resumable])).toEqual([
      ['running', 'interrupted', true],
      ['waiting', 'queued', false],
    ])
    after.queue.start()
    expect(worker.runs).toEqual([waiting.id])
    after.queue.resume(running.id)
    expect(after.queue.get(running.id)).toMatchObject({ state: 'queued', queuePosition: 1 })
    worker.succeed()
    await until(after.events, after.queue, running.id, 'running')
    expect(worker.context?.resumed).toBe(true)
  })

  it('a job stopped by closing the app is interrupted, not cancelled, and nothing is discarded', async () => {
    const path = join(temporaryFolder(), 'db')
    const worker = new ScriptedWorker()
    const before = openAt(path, worker)
    before.queue.start()
    const { id } = before.queue.enqueue(newJob('one'))
    await before.close()
    expect(worker.discarded).toEqual([])
    expect(openAt(path, worker).queue.get(id)).toMatchObject({ state: 'interrupted', resumable: true })
  })
})

/** For rules that are checked in the middle of a stream. */
function demand(holds: boolean, what: string): void {
  if (!holds) throw new Error(`A rule is broken: ${what}`)
}

describe('any sequence of commands', () => {
  type Command = 'enqueue' | 'cancel' | 'resume' | 'remove' | 'succeed' | 'fail' | 'restart' | 'kill'
  const commands = array(
    record({
      command: constantFrom<Command>('enqueue', 'enqueue', 'cancel', 'resume', 'remove', 'succeed', 'fail', 'restart', 'kill'),
      which: integer({ min: 0, max: 5 }),
    }),
    { maxLength: 25 },
  )

  /** States that may follow each other on the event stream. */
  const ALLOWED: Readonly<Record<JobState, readonly JobState[]>> = {
    queued: ['queued', 'running', 'cancelled'],
    running: ['running', 'cancelling', 'succeeded', 'failed', 'interrupted'],
    cancelling: ['cancelling', 'cancelled', 'succeeded', 'failed', 'interrupted'],
    cancelled: ['cancelled', 'queued'],
    failed: ['failed', 'queued'],
    interrupted: ['interrupted', 'queued'],
    succeeded: ['succeeded'],
  }

  it('keeps the rules: one at a time, only allowed steps, nothing lost, nothing runs after the end', async () => {
    await assert(
      asyncProperty(commands, async (steps) => {
        const path = join(temporaryFolder(), 'db')
        let worker = new ScriptedWorker()
        let studio = openAt(path, worker)
        const last = new Map<string, JobState>()
        const expected = new Set<string>()
        const check = (event: StudioEvent): void => {
          if (event.kind !== 'job.changed') return
          JobSchema.parse(event.job)
          const before = last.get(event.job.id)
          demand(before === undefined || ALLOWED[before].includes(event.job.state), `${before} → ${event.job.state}`)
          last.set(event.job.id, event.job.state)
        }
        const observe = (): Promise<void> => {
          const stream = studio.events.watch({ runId: null, after: null }, undefined)
          const started = stream.next()
          return (async () => {
            await started
            for await (const event of stream) check(event)
          })()
        }
        let observing = observe()
        studio.queue.start()
        for (const { command, which } of steps) {
          const ids = [...expected]
          const id = ids[which % Math.max(1, ids.length)] ?? 'none'
          try {
            if (command === 'enqueue') expected.add(studio.queue.enqueue(newJob(`job ${expected.size}`)).id)
            else if (command === 'cancel') await studio.queue.cancel(id)
            else if (command === 'resume') studio.queue.resume(id)
            else if (command === 'remove') {
              await studio.queue.remove(id)
              expected.delete(id)
              last.delete(id)
            } else if (command === 'succeed') worker.succeed()
            else if (command === 'fail') worker.fail(new LatheError('disk.io', 'no', 'retry'))
            else {
              if (command === 'restart') await studio.close()
              else {
                studio.events.close()
                open.splice(0)[0]?.close()
              }
              await observing
              worker = new ScriptedWorker()
              studio = openAt(path, worker)
              for (const job of studio.queue.list()) last.set(job.id, job.state)
              observing = observe()
              studio.queue.start()
            }
          } catch (error) {
            // refusing is allowed, with the reason; anything else is a defect
            demand(error instanceof LatheError && ['job.invalid-state', 'job.not-found'].includes(error.code), String(error))
          }
          // let the worker's promise settle: no time passes, only turns of the event loop
          await new Promise((resolve) => setImmediate(resolve))
          const jobs = studio.queue.list()
          expect(new Set(jobs.map((job) => job.id))).toEqual(expected)
          const running = jobs.filter((job) => job.state === 'running' || job.state === 'cancelling')
          expect(running.length).toBe(studio.queue.runningJobs)
          expect(running.length).toBeLessThanOrEqual(1)
          const idle = running.length === 0
          expect(jobs.filter((job) => idle && job.state === 'queued')).toEqual([])
          expect(worker.most).toBeLessThanOrEqual(1)
        }
        await studio.close()
        await observing
      }),
      { seed: 20_261_123, numRuns: 40 },
    )
  })
})
