import { createServer } from 'node:http'
import type { RequestListener, Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import fc from 'fast-check'
import parseWithLibrary from 'parse-prometheus-text-format'
import { afterEach, describe, expect, test } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { bucketsOf, quantile } from './histogram.ts'
import { parsePrometheus } from './prometheus.ts'
import { ServerMonitor, metricsUrlOf } from './server-monitor.ts'
import { sampleOf } from './serving-sample.ts'

const LABELS = '{model_name="acme/8b",engine="0"'

/** As vLLM prints it, shortened. */
function vllmText(step: number): string {
  const ttft = [
    [0.1, 10 * step],
    [0.5, 18 * step],
    [1, 20 * step],
  ] as const
  return [
    '# HELP vllm:num_requests_running Number of requests in model execution batches.',
    '# TYPE vllm:num_requests_running gauge',
    `vllm:num_requests_running${LABELS}} ${3.0 + step}`,
    `vllm:num_requests_waiting${LABELS}} 2.0`,
    `vllm:kv_cache_usage_perc${LABELS}} 0.25`,
    `vllm:prompt_tokens_total${LABELS}} ${1e4 * step}`,
    `vllm:generation_tokens_total${LABELS}} ${5e3 * step}`,
    `vllm:request_success_total${LABELS},finished_reason="stop"} ${8 * step}`,
    `vllm:request_success_total${LABELS},finished_reason="length"} ${2 * step}`,
    `vllm:prefix_cache_queries_total${LABELS}} ${1000 * step}`,
    `vllm:prefix_cache_hits_total${LABELS}} ${250 * step}`,
    `vllm:spec_decode_num_draft_tokens_total${LABELS}} ${400 * step}`,
    `vllm:spec_decode_num_accepted_tokens_total${LABELS}} ${300 * step}`,
    '# TYPE vllm:time_to_first_token_seconds histogram',
    ...ttft.map(([bound, count]) => `vllm:time_to_first_token_seconds_bucket${LABELS},le="${bound}"} ${count}`),
    `vllm:time_to_first_token_seconds_bucket${LABELS},le="+Inf"} ${20 * step}`,
    `vllm:time_to_first_token_seconds_sum${LABELS}} ${4 * step}`,
    `vllm:time_to_first_token_seconds_count${LABELS}} ${20 * step}`,
    '',
  ].join('\n')
}

function sorted(values: readonly number[]): readonly number[] {
  return values.toSorted((one, other) => one - other)
}

function outcomeOf(text: string): unknown {
  try {
    return parsePrometheus(text)
  } catch (error) {
    return error
  }
}

describe('Prometheus text', () => {
  test('names, escaped labels, timestamps, exemplars, odd numbers', () => {
    const scrape = parsePrometheus(
      [
        'plain 1',
        'timed{a="1"} 2.5e-3 1395066363000',
        String.raw`odd{ path = "C:\\DIR", text="line\nnew \"quoted\" }" , } +Inf`,
        'seen_bucket{le="0.1"} 7 # {trace_id="x"} 0.05',
        'nothing NaN',
        '# EOF',
      ].join('\n'),
    )
    expect([...scrape]).toEqual([
      ['plain', [{ labels: {}, value: 1 }]],
      ['timed', [{ labels: { a: '1' }, value: 0.0025 }]],
      ['odd', [{ labels: { path: 'C:\\DIR', text: 'line\nnew "quoted" }' }, value: Infinity }]],
      ['seen_bucket', [{ labels: { le: '0.1' }, value: 7 }]],
      ['nothing', [{ labels: {}, value: Number.NaN }]],
    ])
  })

  test('agrees with another reader on a vLLM page', () => {
    const scrape = parsePrometheus(vllmText(1))
    const families = parseWithLibrary(vllmText(1))
    const theirs = families.map(({ name, metrics }) => [
      name,
      sorted(metrics.flatMap((metric) => [metric.value ?? [], ...Object.values(metric.buckets ?? {})].flat().map(Number))),
    ])
    const ours = families.map(({ name, type }) => [
      name,
      sorted(scrape.get(type === 'HISTOGRAM' ? `${name}_bucket` : name)?.map((series) => series.value) ?? []),
    ])
    expect(ours).toEqual(theirs)
    expect(families.length).toBeGreaterThan(8)
  })

  test.each(['{a="1"} 1', 'x{a} 1', 'x{a=1} 1', 'x{a="1} 1', 'x{a="1"', 'x', 'x one', 'x 0x10', '<html>'])('refuses %s by line', (line) => {
    expect(() => parsePrometheus(`fine 1\n${line}`)).toThrow(/in line 2/)
  })

  test('whatever comes, it answers or refuses', () => {
    const noise = fc.array(fc.oneof(fc.string(), fc.constantFrom('a{b="', '"} ', '\n', '{', '\\', 'le="+Inf"', ' 1', '#')), {
      maxLength: 30,
    })
    fc.assert(
      fc.property(noise, (parts) => {
        const outcome = outcomeOf(parts.join(''))
        expect(outcome instanceof Map || outcome instanceof LatheError).toBe(true)
      }),
      { seed: 41, numRuns: 300 },
    )
  })
})

describe('quantiles from buckets', () => {
  // by hand, with Prometheus' rule: linear within the bucket that holds the rank
  const buckets = { bounds: [0.1, 0.5, 1, Infinity], counts: [10, 18, 20, 20] }
  test.each([
    [0.5, 0.1],
    [0.25, 0.05],
    [0.7, 0.3],
    [0.95, 0.75],
    [1, 1],
  ])('%f → %f s', (share, seconds) => {
    expect(quantile(buckets, share)).toBeCloseTo(seconds, 12)
  })

  test('beyond the last bound nothing more is known; of nothing there are none', () => {
    expect(quantile({ bounds: [1, Infinity], counts: [1, 10] }, 0.9)).toBe(1)
    expect(quantile({ bounds: [1, Infinity], counts: [0, 0] }, 0.5)).toBeNull()
    expect(bucketsOf(parsePrometheus('x 1'), 'y')).toBeNull()
  })
})

function scrapeAt(step: number, seconds: number) {
  return { atMs: seconds * 1000, scrape: parsePrometheus(vllmText(step)) }
}

test('rates and quantiles are of the interval', () => {
  expect(sampleOf(scrapeAt(3, 14), scrapeAt(1, 10))).toEqual({
    at: '1970-01-01T00:00:14.000Z',
    running: 6,
    waiting: 2,
    kvUsage: 0.25,
    firstTokenMs: { p50: 100, p90: 500, p99: expect.closeTo(950, 6) },
    interTokenMs: { p50: null, p90: null, p99: null },
    endToEndMs: { p50: null, p90: null, p99: null },
    promptTokensPerSecond: 5000,
    generatedTokensPerSecond: 2500,
    requestsPerSecond: 5,
    cacheHitRate: 0.25,
    draftAcceptance: 0.75,
    preemptionsPerSecond: null,
  })
})

describe('a server', () => {
  let server: Server | null = null
  afterEach(() => server?.close())

  async function listen(listener: RequestListener): Promise<string> {
    const made = createServer(listener)
    server = made
    await new Promise<void>((resolve) => made.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${(made.address() as AddressInfo).port}`
  }

  test('is scraped once a moment, kept, and noticed when it starts anew', async () => {
    let step = 1
    let scrapes = 0
    const url = await listen((request, response) => {
      scrapes += 1
      response.end(request.headers.authorization === 'Bearer k' && request.url === '/metrics' ? vllmText(step) : 'not a metric\n')
    })
    let now = 0
    const monitor = new ServerMonitor({ now: () => now })
    const read = (after: string | null) => monitor.read({ url: `${url}/v1`, apiKey: 'k' }, after)
    expect((await read(null)).models).toEqual(['acme/8b'])
    await read(null)
    expect(scrapes).toBe(1)
    now = 2000
    step = 2
    const second = await read('1970-01-01T00:00:00.000Z')
    expect([second.samples.length, second.samples[0]?.generatedTokensPerSecond, second.restarted]).toEqual([1, 2500, false])
    now = 4000
    step = 1
    const third = await read(null)
    expect([third.samples.length, third.samples.at(-1)?.generatedTokensPerSecond, third.restarted]).toEqual([3, null, true])
  })

  test.each([
    [401, /status 401/, /API key/],
    [404, /status 404/, /address/],
  ])('that answers %i is told apart', async (status, message, hint) => {
    const url = await listen((_request, response) => response.writeHead(status).end())
    const failure = await new ServerMonitor().read({ url, apiKey: null }, null).catch((error: unknown) => error)
    expect(failure).toMatchObject({
      code: 'monitor.unreachable',
      message: expect.stringMatching(message),
      hint: expect.stringMatching(hint),
    })
  })

  test('that is not there, or is something else, is said so', async () => {
    const url = await listen((_request, response) => response.end('<html>'))
    await expect(new ServerMonitor().read({ url, apiKey: null }, null)).rejects.toThrow(/in line 1/)
    await new Promise((resolve) => server?.close(resolve))
    await expect(new ServerMonitor().read({ url, apiKey: null }, null)).rejects.toThrow(/nothing listens at this address/)
  })

  test('whose port fetch forbids is told from one that is down', async () => {
    await expect(new ServerMonitor().read({ url: 'http://127.0.0.1:6000', apiKey: null }, null)).rejects.toMatchObject({
      code: 'monitor.unreachable',
      message: expect.stringContaining('its port belongs to another protocol') as string,
      hint: 'Start the server on another port, such as 8000.',
    })
  })

  test('whose name is not known says so', async () => {
    const cause = Object.assign(new Error('getaddrinfo ENOTFOUND nowhere'), { code: 'ENOTFOUND' })
    const monitor = new ServerMonitor({ fetch: () => Promise.reject(new TypeError('fetch failed', { cause })) })
    await expect(monitor.read({ url: 'http://nowhere', apiKey: null }, null)).rejects.toMatchObject({
      message: "http://nowhere/metrics can't be reached: there is no host of this name (ENOTFOUND).",
      hint: 'Check the spelling of the host.',
    })
  })

  test('that sends elsewhere is not followed, and says so', async () => {
    const url = await listen((_request, response) => response.writeHead(302, { location: '/login' }).end())
    await expect(new ServerMonitor().read({ url, apiKey: null }, null)).rejects.toThrow(/sends elsewhere/)
  })

  test.each([
    ['http://a:8000', 'http://a:8000/metrics'],
    ['http://a:8000/v1/', 'http://a:8000/metrics'],
    ['https://a/team/v1', 'https://a/team/metrics'],
    ['http://a/metrics?x=1', 'http://a/metrics?x=1'],
  ])('%s means %s', (url, metrics) => {
    expect(metricsUrlOf(url)).toBe(metrics)
  })
})
