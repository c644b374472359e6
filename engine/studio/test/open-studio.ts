/** A whole studio over the fake engine, on a data folder that a test can open again. */
import { join } from 'node:path'
import type { ContractRouterClient } from '@orpc/contract'
import { createRouterClient } from '@orpc/server'
import type { Contract, Job, JobState, StudioEvent } from '../../contract/index.ts'
import { composeStudio } from '../compose.ts'
import type { Studio } from '../compose.ts'
import { createFakeEngine } from './fake-engine.ts'
import type { FakeEngine } from './fake-engine.ts'
import { writeTinyAssets } from './tiny-assets.ts'

export type StudioClient = ContractRouterClient<Contract>

/** Calls the procedures in this process, typed by the contract as the page's client is. */
export function clientOf(studio: Pick<Studio, 'router'>): StudioClient {
  return createRouterClient(studio.router) as StudioClient
}

export interface OpenStudio {
  readonly studio: Studio
  readonly client: StudioClient
  readonly engine: FakeEngine
  readonly lines: string[]
}

export async function openStudio(folder: string, engine: FakeEngine = createFakeEngine()): Promise<OpenStudio> {
  const lines: string[] = []
  const studio = await composeStudio(
    {
      dataFolder: join(folder, 'data'),
      assetsFolder: writeTinyAssets(join(folder, 'assets')),
      shell: 'headless',
      version: '1.2.3',
      log: (level, text) => lines.push(`${level} ${text}`),
    },
    engine.bind,
  )
  return { studio, client: clientOf(studio), engine, lines }
}

/** Resolves when the job is in one of the states. Waits on events, never on time. */
export async function jobIn(client: StudioClient, jobId: string, ...states: readonly JobState[]): Promise<Job> {
  const controller = new AbortController()
  const stream = await client.events.watch({ runId: null, after: null }, { signal: controller.signal })
  try {
    for await (const event of stream) {
      if (event.kind !== 'hello' && !(event.kind === 'job.changed' && event.job.id === jobId)) continue
      const job = await client.jobs.get({ jobId })
      if (states.includes(job.state)) return job
    }
  } finally {
    controller.abort()
  }
  throw new Error(`The stream ended before job ${jobId} was ${states.join(' or ')}.`)
}

/** Collects everything that is published until `stop` is called. */
export async function record(client: StudioClient): Promise<{ readonly events: StudioEvent[]; stop(): Promise<void> }> {
  const controller = new AbortController()
  const stream = await client.events.watch({ runId: null, after: null }, { signal: controller.signal })
  const events: StudioEvent[] = []
  const hello = await stream.next()
  if (hello.done !== true) events.push(hello.value)
  const done = (async () => {
    for await (const event of stream) events.push(event)
  })()
  return {
    events,
    stop: async () => {
      controller.abort()
      await done
    },
  }
}
