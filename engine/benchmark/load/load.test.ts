import { Agent, createServer, request } from 'node:http'
import type { Server } from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import type { LatencySummary, ServedBenchmark } from '../../contract/index.ts'
import { OpenAiClient } from '../../evaluate/remote/openai-client.ts'
import { benchmarkCsv } from './export-benchmark.ts'
import { guideLlmJson } from './guidellm-export.ts'
import { createHttpLoadTarget } from './http-load-target.ts'
import type { LoadClock, LoadPrompt, LoadTarget, RequestRecord } from './load-target.ts'
import { runLoad } from './run-load.ts'
import { constantSchedule, parseTrace, poissonSchedule } from './schedule.ts'
import { runServedBenchmark, sweepRates } from './served-benchmark.ts'
import type { ServedBenchmarkOptions } from './served-benchmark.ts'
import { latencyTable, latenciesOf, summarizeRun, summarizeValues } from './summarize-load.ts'
import { vllmJson } from './vllm-export.ts'
import { syntheticPrompts } from './synthetic-prompts.ts'

/** Time that passes only when everybody waits for it. */
class SimulatedClock implements LoadClock {
  #now = 0
  readonly #waiting: { readonly at: number; readonly order: number; readonly wake: () => void }[] = []
  #order = 0

  now(): number {
    return this.#now
  }

  until(timeMs: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(signal.reason as Error)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#waiting.push({ at: Math.max(timeMs, this.#now), order: this.#order++, wake: resolve })
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    return promise
  }

  /** Lets everything happen until the work is done. */
  async run<T>(work: Promise<T>): Promise<T> {
    const state = { done: false }
    const finished = work.finally(() => {
      state.done = true
    })
    finished.catch(() => null)
    while (!state.done) {
      // Everything that can go on does, before time moves.
      await new Promise((resolve) => setImmediate(resolve))
      if (state.done) break
      this.#waiting.sort((a, b) => a.at - b.at || a.order - b.order)
      const next = this.#waiting.shift()
      if (next === undefined) continue
      this.#now = next.at
      next.wake()
    }
    return finished
  }
}

const PROMPT: LoadPrompt = { tokens: [1], text: '', promptTokens: 1, outputTokens: 1 }
const FACTS = { profile: 'constant', concurrency: 1, rate: 8, level: null, clientLagP99Ms: null } as const

/** 100 ms a request; the one that begins at 20 s or later takes 10 s more. */
function stallingServer(clock: SimulatedClock): LoadTarget {
  let stalled = false
  return {
    kind: 'in-process',
    model: 'toy',
    url: null,
    async send(_prompt, _id, _onChunk, signal) {
      const stall = !stalled && clock.now() >= 20_000
      stalled ||= stall
      await clock.until(clock.now() + (stall ? 10_100 : 100), signal)
      return { inputTokens: 1, outputTokens: 1, cachedTokens: 0, finish: 'length' }
    },
  }
}

const seconds = (summary: LatencySummary | null) =>
  [summary!.mean, summary!.p50, summary!.p95, summary!.p99, summary!.max].map((ms) => ms / 1000)

describe('coordinated omission: the toy of specs/benchmark.md §5', () => {
  test('a closed loop hides the stall', async () => {
    const clock = new SimulatedClock()
    const plan = { dueMs: null, concurrency: 1, prompts: Array.from({ length: 1000 }, () => PROMPT), warmupRequests: 0, maxSeconds: 60 }
    const records = await clock.run(runLoad(stallingServer(clock), plan, { clock }))
    const completed = records.filter((record) => record.status === 'completed')
    const [mean, p50, p95, p99, max] = seconds(summarizeValues(completed.map((record) => latenciesOf(record)!.e2eMs)))
    expect(completed.length).toBeGreaterThanOrEqual(499)
    expect(completed.length).toBeLessThanOrEqual(500)
    expect(mean).toBeCloseTo(0.12, 2)
    expect([p50, p95, p99, max].map((value) => Number(value!.toFixed(1)))).toEqual([0.1, 0.1, 0.1, 10.1])
  })

  test('an open loop shows it from the schedule, and not from sending', async () => {
    const clock = new SimulatedClock()
    const plan = {
      dueMs: constantSchedule(480, 8),
      concurrency: 1,
      prompts: Array.from({ length: 480 }, () => PROMPT),
      warmupRequests: 0,
      maxSeconds: 1000,
    }
    const records = await clock.run(runLoad(stallingServer(clock), plan, { clock }))
    const run = summarizeRun(records, FACTS)
    expect(run).toMatchObject({ completed: 480, failed: 0, incomplete: 0 })
    const scheduled = seconds(run.e2eMs).map((value) => Number(value.toFixed(1)))
    expect(scheduled).toEqual([4.1, 4.1, 9.5, 10, 10.1])
    const sent = seconds(run.ttftFromSendMs)
    expect(sent[0]).toBeCloseTo(0.12, 2)
    expect(sent.slice(1).map((value) => Number(value.toFixed(1)))).toEqual([0.1, 0.1, 0.1, 10.1])
    expect(run.queueMs!.max).toBeGreaterThan(9900)
  })
})

const instant = (clock: SimulatedClock, ms = 10): LoadTarget => ({
  kind: 'in-process',
  model: 'toy',
  url: null,
  async send(prompt, id, onChunk, signal) {
    if (id === 3) throw new Error('refused')
    await clock.until(clock.now() + ms, signal)
    onChunk()
    return { inputTokens: prompt.promptTokens, outputTokens: 1, cachedTokens: 0, finish: 'length' }
  },
})

const tokenize = async (text: string) => Array.from(text.split(' '), (word) => word.length)

const pairs = async (text: string) => (text.match(/.{1,2}/g) ?? []).map((pair) => pair.charCodeAt(0) * 256 + (pair.charCodeAt(1) || 0))

describe('runs', () => {
  test('warm-up is sent and not counted; failures are counted and named; no more than the streams are in flight', async () => {
    const clock = new SimulatedClock()
    const plan = { dueMs: null, concurrency: 2, prompts: Array.from({ length: 8 }, () => PROMPT), warmupRequests: 2, maxSeconds: 60 }
    const records = await clock.run(runLoad(instant(clock), plan, { clock }))
    expect(records.map((record) => record.index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
    const run = summarizeRun(records, { ...FACTS, profile: 'concurrent', concurrency: 2 })
    expect(run).toMatchObject({ completed: 5, failed: 1, warmup: 2, errors: [{ message: 'refused', count: 1 }] })
    expect(run.warnings).toContainEqual('1 of 6 requests failed.')
    expect(run.durationSeconds).toBeCloseTo(0.03, 9)
    expect(run.meanConcurrency).toBeCloseTo((5 * 10) / 30, 9)
  })

  test('a cache that knows unique prompts is a doubt, one that knows a shared prefix is not', async () => {
    const clock = new SimulatedClock()
    const plan = { dueMs: null, concurrency: 1, prompts: Array.from({ length: 3 }, () => PROMPT), warmupRequests: 0, maxSeconds: 60 }
    const records = (await clock.run(runLoad(instant(clock), plan, { clock }))).map((record) => ({
      ...record,
      inputTokens: 100,
      cachedTokens: 64,
    }))
    const doubt = expect.stringContaining('192 of 300 prompt tokens came from the server’s prefix cache')
    expect(summarizeRun(records, { ...FACTS, uniquePrompts: true }).warnings).toContainEqual(doubt)
    expect(summarizeRun(records, { ...FACTS, uniquePrompts: false }).warnings).not.toContainEqual(doubt)
  })

  test('the time limit leaves what is in flight incomplete; cancelling rejects', async () => {
    const clock = new SimulatedClock()
    const plan = { dueMs: null, concurrency: 1, prompts: Array.from({ length: 100 }, () => PROMPT), warmupRequests: 0, maxSeconds: 1 }
    const records = await clock.run(runLoad(instant(clock, 600), plan, { clock }))
    expect(records.map((record) => record.status)).toEqual(['completed', 'incomplete'])
    const controller = new AbortController()
    controller.abort(new Error('enough'))
    await expect(runLoad(instant(clock), plan, { clock, signal: controller.signal })).rejects.toThrow('enough')
  })

  const OPTIONS: ServedBenchmarkOptions = {
    profile: 'sweep',
    concurrency: [1, 2],
    rates: [5],
    sweepSteps: 4,
    requests: 6,
    maxSeconds: 60,
    warmupRequests: 0,
    promptTokens: 7,
    outputTokens: 1,
    sharedPrefixTokens: 0,
    level: { name: 'chat', ttftMs: 20, tpotMs: null, e2eMs: null },
    trace: null,
    seed: 1,
    sharesGpu: false,
  }

  test('a sweep measures both ends and rates between; runs that were done are not repeated', async () => {
    const clock = new SimulatedClock()
    let sent = 0
    const inner = instant(clock)
    const target: LoadTarget = {
      ...inner,
      send: (prompt, id, onChunk, signal) => (sent++, inner.send(prompt, id === 3 ? 4 : id, onChunk, signal)),
    }
    const { benchmark, records } = await clock.run(runServedBenchmark(target, OPTIONS, { tokenize, clock }))
    expect(benchmark.runs.map((run) => [run.profile, run.rate === null ? null : Math.round(run.rate)])).toEqual([
      ['synchronous', null],
      ['throughput', null],
      // 100 req/s one by one, 600 all at once
      ['constant', 267],
      ['constant', 433],
    ])
    expect(benchmark).toMatchObject({ target: 'in-process', model: 'toy', load: 'synthetic 7+1 tokens, unique prefixes, seed 1' })
    expect(benchmark.runs[0]?.goodput).toMatchObject({ share: 1 })
    expect(records.map((run) => run.length)).toEqual([6, 6, 6, 6])
    const before = sent
    await clock.run(runServedBenchmark(target, OPTIONS, { tokenize, clock, finished: benchmark.runs.slice(0, 3) }))
    expect(sent - before).toBe(6)
    expect(sweepRates(100, 600, 4).map(Math.round)).toEqual([267, 433])
    expect(sweepRates(5, 4, 6)).toEqual([])
  })

  test('a trace is replayed at its times', async () => {
    const clock = new SimulatedClock()
    const trace = parseTrace(
      't',
      '{"timestamp": 1000, "input_length": 3, "output_length": 2}\n{"timestamp": 1500, "input_length": 5, "output_length": 2}\n',
      2,
    )
    expect(trace).toEqual([
      { atMs: 0, promptTokens: 3, outputTokens: 2 },
      { atMs: 1000, promptTokens: 5, outputTokens: 2 },
    ])
    const { records } = await clock.run(runServedBenchmark(instant(clock), { ...OPTIONS, profile: 'trace', trace }, { tokenize, clock }))
    expect(records[0]!.map((record) => [record.scheduledMs, record.inputTokens])).toEqual([
      [0, 3],
      [1000, 5],
    ])
    expect(() => parseTrace('t', '{"timestamp": 1}', 1)).toThrow(/line 1/)
    expect(() => parseTrace('t', '', 1)).toThrow(/0 requests/)
  })

  test('Poisson gaps have the mean of the rate and the deviation of an exponential', () => {
    const due = poissonSchedule(20_000, 50, 3)
    const gaps = due.slice(1).map((at, i) => at - due[i]!)
    const { mean, std } = summarizeValues(gaps)!
    expect(mean).toBeGreaterThan(19.6)
    expect(mean).toBeLessThan(20.4)
    expect(std! / mean).toBeGreaterThan(0.97)
    expect(std! / mean).toBeLessThan(1.03)
    expect(poissonSchedule(5, 50, 3)).toEqual(due.slice(0, 5))
  })

  test('prompts have exactly the length asked for, differ from the first token on, and share a prefix only on purpose', async () => {
    // a token for each letter pair, so that words have several
    const options = { count: 5, promptTokens: 33, outputTokens: 4, sharedPrefixTokens: 0, seed: 2 }
    const unique = await syntheticPrompts(options, pairs)
    expect(unique.map((prompt) => prompt.tokens!.length)).toEqual([33, 33, 33, 33, 33])
    expect(new Set(unique.map((prompt) => prompt.tokens!.slice(0, 16).join())).size).toBe(5)
    const shared = await syntheticPrompts({ ...options, sharedPrefixTokens: 20 }, pairs)
    expect(new Set(shared.map((prompt) => prompt.tokens!.slice(0, 20).join())).size).toBe(1)
    expect(new Set(shared.map((prompt) => prompt.tokens!.join())).size).toBe(5)
    expect(await syntheticPrompts(options, pairs)).toEqual(unique)
    expect((await syntheticPrompts(options, null))[0]).toMatchObject({ tokens: null, promptTokens: 33 })
  })
})

/** Two requests: 10 tokens in 10 chunks of 20 ms after 100 ms, sent 50 ms late; one token after 80 ms. */
const RECORDS: readonly RequestRecord[] = [
  {
    index: 0,
    isWarmup: false,
    scheduledMs: 0,
    sentMs: 50,
    chunksMs: Array.from({ length: 10 }, (_, i) => 150 + 20 * i),
    endMs: 330,
    inputTokens: 30,
    outputTokens: 10,
    cachedTokens: 16,
    finish: 'length',
    status: 'completed',
    error: null,
  },
  {
    index: 1,
    isWarmup: false,
    scheduledMs: 100,
    sentMs: 100,
    chunksMs: [180],
    endMs: 180,
    inputTokens: 20,
    outputTokens: 1,
    cachedTokens: 0,
    finish: 'stop',
    status: 'completed',
    error: null,
  },
]

const means = (convention: 'lathe' | 'guidellm' | 'vllm' | 'aiperf') =>
  Object.fromEntries(Object.entries(latencyTable(RECORDS, convention)).map(([name, summary]) => [name, summary?.mean]))

const goodput = (level: { ttftMs: number | null; tpotMs: number | null; e2eMs: number | null }) =>
  summarizeRun(RECORDS, { ...FACTS, level: { name: 'x', ...level } }).goodput?.share

describe('definitions (specs/benchmark.md §3)', () => {
  test('the same times under four names', () => {
    expect(means('lathe')).toEqual({
      ttft_ms: (150 + 80) / 2,
      itl_ms: 20,
      tpot_ms: 20,
      e2e_ms: (330 + 80) / 2,
      queue_ms: 25,
      e2e_per_token_ms: (28 + 80) / 2,
    })
    expect(means('guidellm')).toEqual({
      time_to_first_token_ms: 90,
      inter_token_latency_ms: 20,
      time_per_output_token_ms: 54,
      request_latency_ms: 180,
    })
    expect(means('vllm')).toEqual({ ttft_ms: 90, tpot_ms: 20, itl_ms: 20, e2el_ms: 180 })
    expect(means('aiperf')).toEqual({
      time_to_first_token: 90,
      time_to_second_token: 20,
      inter_token_latency: 20,
      inter_chunk_latency: 20,
      request_latency: 180,
    })
  })

  test('a chunk of several tokens is divided for our gaps, and one gap for vLLM’s', () => {
    const record = { ...RECORDS[0]!, chunksMs: [150, 210, 270, 330], outputTokens: 10 }
    expect(latenciesOf(record)).toMatchObject({ itlMs: [20, 20, 20], chunkGapsMs: [60, 60, 60], tpotMs: 20 })
  })

  test('exports: GuideLLM’s fields, vLLM’s keys, a row a run', () => {
    const run = summarizeRun(RECORDS, FACTS)
    const benchmark: ServedBenchmark = {
      target: 'server',
      url: 'http://h/v1',
      model: 'm',
      load: 'toy',
      sharesGpu: false,
      runs: [run],
      rawFile: null,
    }
    const raw = { benchmark, records: [RECORDS], startedAt: '2026-11-23T12:00:00.000Z', latheVersion: '1' }
    const [exported] = guideLlmJson(raw)['benchmarks'] as [
      { metrics: Record<string, Record<string, Record<string, unknown>>>; requests: Record<string, unknown[]> },
    ]
    expect(exported.metrics['inter_token_latency_ms']!['successful']).toMatchObject({
      mean: 20,
      // weighted by its nine gaps
      count: 9,
      percentiles: { p50: 20, p999: 20 },
    })
    // weighted by tokens: 10 of 28 ms and 1 of 80 ms
    expect(exported.metrics['time_per_output_token_ms']!['successful']!['mean']).toBeCloseTo((280 + 80) / 11, 9)
    expect(exported.metrics['time_to_first_token_ms']!['successful']).toMatchObject({
      mean: 90,
      min: 80,
      max: 100,
      std_dev: 10,
      total_sum: 180,
    })
    expect(exported.requests['successful']).toHaveLength(2)
    expect(vllmJson(raw)[0]).toMatchObject({
      completed: 2,
      total_input_tokens: 50,
      total_output_tokens: 11,
      mean_ttft_ms: 90,
      median_tpot_ms: 20,
      p99_itl_ms: 20,
      queue_times: [0.05, 0],
      itls: [Array.from({ length: 9 }, () => 0.02), []],
    })
    const [head, row] = benchmarkCsv(benchmark).split('\n')
    expect(head!.split(',')).toHaveLength(row!.split(',').length)
    expect(row).toMatch(/^constant,1,8,/)
  })

  test('goodput needs all limits', () => {
    expect(goodput({ ttftMs: 100, tpotMs: null, e2eMs: null })).toBe(0.5)
    expect(goodput({ ttftMs: 200, tpotMs: 15, e2eMs: null })).toBe(0.5)
    expect(goodput({ ttftMs: 200, tpotMs: 25, e2eMs: 340 })).toBe(1)
  })
})

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

/** What the server did with one request, on the clock that the client uses too: timers of a busy machine are late, and that is not the client's error. */
interface Served {
  readonly arrivedMs: number
  readonly wroteMs: number[]
  /** Asked for by a few lines of node:http instead of our client. */
  readonly isBare: boolean
}

/** A client that does nothing but note times: when it asked, and when each token came. */
async function askBarely(url: string, agent: Agent): Promise<readonly number[]> {
  const askedMs = performance.now()
  const { promise, resolve, reject } = Promise.withResolvers<number[]>()
  const call = request(`${url}/v1/completions`, { method: 'POST', agent, headers: { 'x-bare': '1' } }, (response) => {
    const tokensMs: number[] = []
    response.on('data', (bytes) => {
      for (const _ of String(bytes).matchAll(/"text"/g)) tokensMs.push(performance.now())
    })
    response.on('end', () => resolve(tokensMs.map((at) => at - askedMs)))
    response.on('error', reject)
  })
  call.setNoDelay(true)
  call.on('error', reject)
  call.end('{}')
  return promise
}

/** Streams 12 tokens: the first after 60 ms, the others 15 ms apart, by absolute times so that late timers don't add up. */
async function delayedServer(): Promise<{ readonly url: string; readonly served: Served[] }> {
  const served: Served[] = []
  const server = createServer((asked, response) => {
    asked.resume()
    asked.on('end', () => {
      const log: Served = { arrivedMs: performance.now(), wroteMs: [], isBare: asked.headers['x-bare'] !== undefined }
      served.push(log)
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.flushHeaders()
      const send = (token: number): void => {
        log.wroteMs.push(performance.now())
        response.write(`data: ${JSON.stringify({ choices: [{ text: 'x', finish_reason: token === 11 ? 'length' : null }] })}\n\n`)
        if (token < 11) setTimeout(send, Math.max(0, log.arrivedMs + 60 + 15 * (token + 1) - performance.now()), token + 1)
        else {
          const usage = { prompt_tokens: 5, completion_tokens: 12, prompt_tokens_details: { cached_tokens: 4 } }
          // The counts come last, and without the end of their line.
          response.end(`data: ${JSON.stringify({ choices: [], usage })}`)
        }
      }
      setTimeout(send, 60, 0)
    })
  })
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  return { url: `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`, served }
}

const median = (values: readonly number[]): number => summarizeValues(values)!.p50

type Figure = (times: readonly number[], fromMs: number) => readonly number[]
const FIGURES = {
  ttftMs: ([first], fromMs) => [first! - fromMs],
  itlMs: (times) => times.slice(1).map((at, i) => at - times[i]!),
  tpotMs: (times) => [(times[11]! - times[0]!) / 11],
  e2eMs: (times, fromMs) => [times[11]! - fromMs],
} as const satisfies Record<string, Figure>

// By medians, beyond what the machine adds: on a busy one this process is made to wait, and a bare client that takes turns with ours sees by how much.
// On an idle one that is some tenths of a millisecond.
test('known delays of a server are recovered within 2 ms (medians of 12 requests)', async () => {
  const { url, served } = await delayedServer()
  const target = createHttpLoadTarget({ client: new OpenAiClient({ url, apiKey: null }), model: 'm', api: 'completions' })
  const options: ServedBenchmarkOptions = {
    profile: 'concurrent',
    concurrency: [1],
    rates: [],
    sweepSteps: 3,
    requests: 12,
    maxSeconds: 60,
    warmupRequests: 2,
    promptTokens: 5,
    outputTokens: 12,
    sharedPrefixTokens: 0,
    level: null,
    trace: null,
    seed: 1,
    sharesGpu: false,
  }
  const agent = new Agent({ keepAlive: true })
  const bare: (readonly number[])[] = []
  const bareClient = async (): Promise<void> => {
    for (let i = 0; i < 14; i++) bare.push(await askBarely(url, agent))
  }
  const [{ benchmark }] = await Promise.all([
    runServedBenchmark(target, options, { tokenize: async (text) => Array.from(text, (letter) => letter.charCodeAt(0)) }),
    bareClient(),
  ])
  agent.destroy()
  const [run] = benchmark.runs
  expect(run).toMatchObject({ completed: 12, failed: 0, warmup: 2, cachedTokens: 48 })
  expect(run!.outputTokens).toMatchObject({ min: 12, max: 12 })
  for (const [name, figure] of Object.entries(FIGURES) as [keyof typeof FIGURES, Figure][]) {
    const truth = (isBare: boolean): number =>
      median(
        served
          .filter((log) => log.isBare === isBare)
          .slice(2)
          .flatMap((log) => figure(log.wroteMs, log.arrivedMs)),
      )
    const machine = Math.abs(median(bare.slice(2).flatMap((times) => figure(times, 0))) - truth(true))
    expect(Math.abs(run![name]!.p50 - truth(false))).toBeLessThan(2 + machine)
  }
  // And the truth is what the server was told to do: its times are absolute, so it can be late, and catch up, but never early.
  expect(run!.ttftMs!.min).toBeGreaterThan(59)
  expect(run!.e2eMs!.min).toBeGreaterThan(59 + 11 * 15)
})
