/**
 * Scrapes servers on request and keeps the last minutes of each: the page asks every other second while it is looked at, so nothing runs in the
 * background. The addresses are fetched here and never by the page. Bounded in time, bytes, servers and samples; redirects are not followed.
 */
import { LatheError } from '../contract/errors.ts'
import type { MonitorReading, MonitorSample, MonitorTarget } from '../contract/monitor.ts'
import { parsePrometheus } from './prometheus.ts'
import type { TimedScrape } from './serving-sample.ts'
import { hasRestarted, modelsOf, sampleOf } from './serving-sample.ts'

const TIMEOUT_MS = 5000
/** vLLM's page has about 100 kB. */
const MOST_BYTES = 8 << 20
/** Half an hour at one sample in two seconds. */
const MOST_SAMPLES = 900
const MOST_SERVERS = 8
/** Two windows on one server share its scrapes. */
const LEAST_INTERVAL_MS = 900

interface Course {
  readonly samples: MonitorSample[]
  last: TimedScrape | null
  restarted: boolean
  models: string[]
}

export interface ServerMonitorOptions {
  readonly fetch?: typeof globalThis.fetch
  readonly now?: () => number
}

export class ServerMonitor {
  readonly #courses = new Map<string, Course>()
  readonly #fetch: typeof globalThis.fetch
  readonly #now: () => number

  constructor({ fetch = globalThis.fetch, now = Date.now }: ServerMonitorOptions = {}) {
    this.#fetch = fetch
    this.#now = now
  }

  /** Scrapes now, unless that was done a moment ago, and returns what is newer than `after` (an ISO time; null = everything kept). */
  async read(target: MonitorTarget, after: string | null, signal?: AbortSignal): Promise<MonitorReading> {
    const metricsUrl = metricsUrlOf(target.url)
    const course = this.#course(metricsUrl)
    if (course.last === null || this.#now() - course.last.atMs >= LEAST_INTERVAL_MS) {
      const text = await this.#scrape(metricsUrl, target.apiKey, signal)
      this.#append(course, { atMs: this.#now(), scrape: parsePrometheus(text) })
    }
    const samples = after === null ? course.samples : course.samples.filter((sample) => sample.at > after)
    return { metricsUrl, models: course.models, samples: [...samples], restarted: course.restarted }
  }

  #course(url: string): Course {
    const known = this.#courses.get(url)
    const course = known ?? { samples: [], last: null, restarted: false, models: [] }
    // the least recently read goes first
    this.#courses.delete(url)
    this.#courses.set(url, course)
    for (const oldest of this.#courses.keys()) {
      if (this.#courses.size <= MOST_SERVERS) break
      this.#courses.delete(oldest)
    }
    return course
  }

  #append(course: Course, now: TimedScrape): void {
    course.restarted = course.last !== null && hasRestarted(now.scrape, course.last.scrape)
    course.samples.push(sampleOf(now, course.restarted ? null : course.last))
    if (course.samples.length > MOST_SAMPLES) course.samples.shift()
    course.last = now
    course.models = modelsOf(now.scrape)
  }

  async #scrape(url: string, apiKey: string | null, signal: AbortSignal | undefined): Promise<string> {
    const timeout = AbortSignal.timeout(TIMEOUT_MS)
    try {
      const response = await this.#fetch(url, {
        headers: { accept: 'text/plain', ...(apiKey === null ? {} : { authorization: `Bearer ${apiKey}` }) },
        redirect: 'error',
        signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      })
      if (!response.ok) throw refused(url, response.status)
      return await readText(response, url)
    } catch (error) {
      if (error instanceof LatheError) throw error
      signal?.throwIfAborted()
      throw unreachable(url, timeout.aborted ? [`it did not answer within ${TIMEOUT_MS / 1000} s`, ANY_HINT] : reasonOf(error), error)
    }
  }
}

/** A base address ("http://host:8000", with or without /v1) means its /metrics. */
export function metricsUrlOf(text: string): string {
  const url = new URL(text)
  const path = url.pathname.replace(/\/+$/, '').replace(/\/v1$/, '')
  url.pathname = path.endsWith('/metrics') ? path : `${path}/metrics`
  url.hash = ''
  return url.href
}

async function readText(response: Response, url: string): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength
    if (bytes > MOST_BYTES) {
      throw new LatheError(
        'monitor.invalid-metrics',
        `${url} sent more than ${MOST_BYTES >> 20} MiB.`,
        'Check that the address is that of a /metrics page.',
      )
    }
    text += decoder.decode(chunk, { stream: true })
  }
  return text + decoder.decode()
}

function refused(url: string, status: number): LatheError {
  const hint =
    status === 401 || status === 403
      ? 'Give the API key that the server was started with.'
      : status === 404
        ? 'Check the address: the server must expose /metrics there.'
        : 'Look into the server’s own log.'
  return new LatheError('monitor.unreachable', `${url} answered with status ${status}.`, hint, { data: { status } })
}

type Reason = readonly [why: string, hint: string]

const ANY_HINT = 'Check that the server runs and that the address is right.'

/** By the code of the system's error. */
const REASONS: Readonly<Record<string, Reason>> = {
  ECONNREFUSED: ['nothing listens at this address (ECONNREFUSED)', 'Check the port, and that the server runs and listens on this address.'],
  ENOTFOUND: ['there is no host of this name (ENOTFOUND)', 'Check the spelling of the host.'],
  EAI_AGAIN: ['the name of the host could not be looked up (EAI_AGAIN)', 'Check the network, or give the address as a number.'],
  ECONNRESET: ['the connection was closed without an answer (ECONNRESET)', 'Check that the port speaks HTTP, and whether it wants https.'],
  UND_ERR_SOCKET: ['the connection was closed without an answer', 'Check that the port speaks HTTP, and whether it wants https.'],
}

/** By the words of fetch itself, which has no codes: ports that https://fetch.spec.whatwg.org/#port-blocking forbids, and what `redirect: error` does. */
const FETCH_REASONS: Readonly<Record<string, Reason>> = {
  'bad port': [
    'its port belongs to another protocol, and HTTP clients refuse to ask it',
    'Start the server on another port, such as 8000.',
  ],
  'unexpected redirect': ['it sends elsewhere, which is not followed', 'Give the address that it sends to.'],
}

function unreachable(url: string, [why, hint]: Reason, cause: unknown): LatheError {
  return new LatheError('monitor.unreachable', `${url} can't be reached: ${why}.`, hint, { cause })
}

/** fetch hides the reason in its cause. */
function reasonOf(error: unknown): Reason {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  if (!(cause instanceof Error)) return [String(cause), ANY_HINT]
  if ('code' in cause && typeof cause.code === 'string') return REASONS[cause.code] ?? [cause.code, ANY_HINT]
  return FETCH_REASONS[cause.message] ?? [cause.message, ANY_HINT]
}
