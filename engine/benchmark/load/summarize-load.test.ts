/** Every figure of a run from six requests whose times were made up, worked out by hand in the comments; then the same for the other tools' shapes. */
import { describe, expect, test } from 'vitest'
import type { ServedBenchmark } from '../../contract/index.ts'
import { benchmarkCsv } from './export-benchmark.ts'
import { guideLlmCsv, guideLlmJson } from './guidellm-export.ts'
import { loadRoom } from './load-room.ts'
import type { RequestRecord } from './load-target.ts'
import { latencyTable, mostInFlight, rateWithin, steadyWindow, summarizeRun, tokensWithin } from './summarize-load.ts'
import { vllmJson } from './vllm-export.ts'

const BASE = { isWarmup: false, cachedTokens: 0, finish: 'length', status: 'completed', error: null } as const
const NOTHING = { inputTokens: 0, outputTokens: 0, finish: null } as const

const RECORDS: readonly RequestRecord[] = [
  // Warm-up that goes on into the window: its first token is before it, three are in it.
  {
    ...BASE,
    index: 0,
    isWarmup: true,
    scheduledMs: 0,
    sentMs: 0,
    chunksMs: [20, 200, 300, 400],
    chunkTokens: [1, 1, 1, 1],
    endMs: 400,
    inputTokens: 10,
    outputTokens: 4,
  },
  // Waited 100 ms for a place; chunks of one, two and three tokens.
  {
    ...BASE,
    index: 1,
    scheduledMs: 50,
    sentMs: 150,
    chunksMs: [250, 310, 430],
    chunkTokens: [1, 2, 3],
    endMs: 430,
    inputTokens: 20,
    outputTokens: 6,
  },
  // One token.
  { ...BASE, index: 2, scheduledMs: 300, sentMs: 300, chunksMs: [420], chunkTokens: [1], endMs: 420, inputTokens: 5, outputTokens: 1 },
  { ...BASE, ...NOTHING, index: 3, scheduledMs: 350, sentMs: 400, chunksMs: [], endMs: 450, status: 'failed', error: 'refused' },
  // A server that does not say how many tokens a chunk has: four over two gaps.
  {
    ...BASE,
    index: 4,
    scheduledMs: 500,
    sentMs: 500,
    chunksMs: [560, 600, 680],
    endMs: 680,
    inputTokens: 8,
    outputTokens: 5,
    cachedTokens: 4,
  },
  // Cut off when the time was over.
  { ...BASE, ...NOTHING, index: 5, scheduledMs: 600, sentMs: 600, chunksMs: [650], chunkTokens: [1], endMs: 700, status: 'incomplete' },
]

const LEVEL = { name: 'made up', ttftMs: 150, tpotMs: 40, e2eMs: null }
const RUN = summarizeRun(RECORDS, { profile: 'poisson', concurrency: null, rate: 8, level: LEVEL, clientLagP99Ms: null })
/** From 50 ms, when the first that counts was due, to 700. */
const SECONDS = 0.65

describe('a run', () => {
  test('its window, rates and concurrency', () => {
    expect(steadyWindow(RECORDS)).toEqual({ fromMs: 50, toMs: 700 })
    expect(RUN.durationSeconds).toBeCloseTo(SECONDS, 12)
    expect(RUN.fullDurationSeconds).toBeCloseTo(0.7, 12)
    expect(RUN).toMatchObject({ completed: 3, failed: 1, incomplete: 1, warmup: 1, cachedTokens: 4, errorShare: 0.2 })
    expect(RUN.requestsPerSecond).toBeCloseTo(3 / SECONDS, 12)
    // 3 of the warm-up's, 6, 1, 5, and 1 of the one that was cut off
    expect(tokensWithin(RECORDS, { fromMs: 50, toMs: 700 })).toBeCloseTo(16, 12)
    expect(RUN.outputTokensPerSecond).toBeCloseTo(16 / SECONDS, 12)
    expect(RUN.inputTokensPerSecond).toBeCloseTo(33 / SECONDS, 12)
    expect(RUN.totalTokensPerSecond).toBeCloseTo(49 / SECONDS, 12)
    // in flight within the window: 350 (warm-up, from 50 on) + 280 + 120 + 50 + 180 + 100 ms of 650
    expect(RUN.meanConcurrency).toBeCloseTo(1080 / 650, 12)
  })

  test('its latencies, from the schedule and from sending', () => {
    // 200, 120 and 60 ms; linear: p50 at 1, p90 at 1.8, p99 at 1.98 of [60, 120, 200]; deviation over n − 1
    expect(RUN.ttftMs).toMatchObject({ n: 3, min: 60, p50: 120, max: 200 })
    expect(RUN.ttftMs!.mean).toBeCloseTo(380 / 3, 12)
    expect(RUN.ttftMs!.p90).toBeCloseTo(184, 9)
    expect(RUN.ttftMs!.p95).toBeCloseTo(192, 9)
    expect(RUN.ttftMs!.p99).toBeCloseTo(198.4, 9)
    expect(RUN.ttftMs!.std! ** 2).toBeCloseTo(((200 - 380 / 3) ** 2 + (120 - 380 / 3) ** 2 + (60 - 380 / 3) ** 2) / 2, 9)
    expect(RUN.ttftFromSendMs).toMatchObject({ n: 3, min: 60, p50: 100, max: 120 })
    expect(RUN.queueMs).toMatchObject({ n: 3, min: 0, p50: 0, max: 100 })
    expect(RUN.e2eMs).toMatchObject({ n: 3, min: 120, p50: 180, max: 380 })
    expect(RUN.e2eFromSendMs).toMatchObject({ n: 3, min: 120, p50: 180, max: 280 })
  })

  test('its gaps: a chunk of k tokens is k gaps of a k-th; one token has none', () => {
    // 60/2 twice, 120/3 three times; 40 and 80 ms over two tokens each
    expect(RUN.itlMs).toMatchObject({ n: 7, min: 20, p50: 40, max: 40 })
    expect(RUN.itlMs!.mean).toBeCloseTo(240 / 7, 12)
    // 180 ms over 5, 120 over 4
    expect(RUN.tpotMs).toMatchObject({ n: 2, min: 30, p50: 33, max: 36 })
    expect(RUN.tokensPerSecondPerUser).toMatchObject({ n: 2, min: 1000 / 36, max: 1000 / 30 })
    // 280/6, 120/1, 180/5
    expect(latencyTable(RECORDS, 'lathe')['e2e_per_token_ms']!.mean).toBeCloseTo((280 / 6 + 120 + 36) / 3, 12)
  })

  test('its goodput: of all that were counted, those that met every limit from the schedule', () => {
    // the first waited too long; the one-token answer has no gap that could be too long
    expect(RUN.goodput).toMatchObject({ level: LEVEL, share: 2 / 5 })
    expect(RUN.goodput!.requestsPerSecond).toBeCloseTo(2 / SECONDS, 12)
  })
})

const BENCHMARK: ServedBenchmark = {
  target: 'server',
  url: 'http://h/v1',
  model: 'm',
  load: 'made up, "six"',
  sharesGpu: false,
  runs: [RUN],
  rawFile: null,
}
const RAW = { benchmark: BENCHMARK, records: [RECORDS], startedAt: '2026-11-23T12:00:00.000Z', latheVersion: '1' }

/** Numbers to nine digits, so that objects can be compared whole. */
function rounded(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value), (_, part: unknown) => (typeof part === 'number' ? Number(part.toPrecision(9)) : part))
}

const statistics = (name: string, mean: number, median: number, std: number, p90: number, p95: number, p99: number) => ({
  [`mean_${name}_ms`]: mean,
  [`median_${name}_ms`]: median,
  [`std_${name}_ms`]: std,
  [`p90_${name}_ms`]: p90,
  [`p95_${name}_ms`]: p95,
  [`p99_${name}_ms`]: p99,
})

test('vLLM’s keys by vLLM’s definitions: goodput and latencies from sending, chunks for tokens, deviations over n', () => {
  expect(rounded(vllmJson(RAW))).toEqual([
    rounded({
      date: '20261123-120000',
      endpoint_type: 'lathe',
      backend: 'lathe',
      label: null,
      model_id: 'm',
      num_prompts: 5,
      request_rate: 8,
      burstiness: 1,
      max_concurrency: null,
      duration: SECONDS,
      completed: 3,
      failed: 2,
      total_input_tokens: 33,
      total_output_tokens: 12,
      request_throughput: 3 / SECONDS,
      // from sending the first, too, is in time
      request_goodput: 3 / SECONDS,
      output_throughput: 12 / SECONDS,
      total_token_throughput: 45 / SECONDS,
      // 60, 100, 120: deviations 33.3, 6.7, 26.7
      ...statistics('ttft', 280 / 3, 100, Math.sqrt((33 + 1 / 3) ** 2 / 3 + (6 + 2 / 3) ** 2 / 3 + (26 + 2 / 3) ** 2 / 3), 116, 118, 119.6),
      ...statistics('tpot', 33, 33, 3, 35.4, 35.7, 35.94),
      // 40, 60, 80, 120
      ...statistics('itl', 75, 70, Math.sqrt((35 ** 2 + 15 ** 2 + 5 ** 2 + 45 ** 2) / 4), 108, 114, 118.8),
      // 120, 180, 280
      ...statistics('e2el', 580 / 3, 180, Math.sqrt(((220 / 3) ** 2 + (40 / 3) ** 2 + (260 / 3) ** 2) / 3), 260, 270, 278),
      input_lens: [20, 5, 0, 8, 0],
      output_lens: [6, 1, 0, 5, 0],
      ttfts: [0.1, 0.12, 0, 0.06, 0],
      itls: [[0.06, 0.12], [], [], [0.04, 0.08], []],
      latencies: [0.28, 0.12, 0, 0.18, 0],
      start_times: [0.15, 0.3, 0.4, 0.5, 0.6],
      queue_times: [0.1, 0, 0.05, 0, 0],
      errors: ['', '', 'refused', '', ''],
      // seven chunks of those that completed, all in the first second
      max_output_tokens_per_s: 7,
      max_concurrent_requests: 2,
      rtfx: 0,
    }),
  ])
})

test('vLLM’s keys of a run without an answer are zeros, as there', () => {
  const failed = RECORDS.filter(({ status }) => status === 'failed')
  const run = summarizeRun(failed, { profile: 'concurrent', concurrency: 2, rate: null, level: null, clientLagP99Ms: null })
  const [json] = vllmJson({ ...RAW, benchmark: { ...BENCHMARK, runs: [run] }, records: [failed] })
  expect(json).toMatchObject({
    completed: 0,
    request_goodput: null,
    mean_tpot_ms: 0,
    p99_itl_ms: 0,
    max_output_tokens_per_s: 0,
    request_rate: 'inf',
  })
})

test('GuideLLM’s report: nearest rank, weighted by tokens, concurrency by how long it lasted', () => {
  const [report] = guideLlmJson(RAW)['benchmarks'] as [{ metrics: Record<string, Record<string, Record<string, unknown>>> }]
  const { metrics } = report
  // 30 four times, 36 five times
  expect(rounded(metrics['inter_token_latency_ms']!['successful'])).toEqual(
    rounded({
      mean: 300 / 9,
      median: 36,
      mode: 36,
      variance: (4 * (10 / 3) ** 2 + 5 * (8 / 3) ** 2) / 9,
      std_dev: Math.sqrt((4 * (10 / 3) ** 2 + 5 * (8 / 3) ** 2) / 9),
      min: 30,
      max: 36,
      count: 9,
      total_sum: 300,
      percentiles: { p001: 30, p01: 30, p05: 30, p10: 30, p25: 30, p50: 36, p75: 36, p90: 36, p95: 36, p99: 36, p999: 36 },
    }),
  )
  // 280/6 six times, 120 once, 180/5 five times
  expect(metrics['time_per_output_token_ms']!['successful']).toMatchObject({ count: 12, min: 36, max: 120 })
  expect(metrics['time_per_output_token_ms']!['successful']!['mean']).toBeCloseTo(580 / 12, 9)
  expect(metrics['request_latency']!['successful']!['total_sum']).toBeCloseTo(0.58, 12)
  expect(metrics['request_totals']).toEqual({ successful: 3, incomplete: 1, errored: 1, total: 5 })
  // one for 150 ms, two for 100, three for 20, two for 10, one for 20, none for 50, one for 100, two for 80, one for 20
  expect(metrics['request_concurrency']!['total']).toMatchObject({ min: 0, median: 1, max: 3, count: 5 })
  expect(metrics['request_concurrency']!['total']!['mean']).toBeCloseTo(730 / 550, 12)
})

/** Fields of a line, quotes undone. */
function cells(line: string): string[] {
  return Array.from(`,${line}`.matchAll(/,(?:"((?:[^"]|"")*)"|([^,]*))/g), (match) => match[1]?.replaceAll('""', '"') ?? match[2] ?? '')
}

test('GuideLLM’s table: three rows of heads, one row a run', () => {
  const rows = guideLlmCsv(RAW).trimEnd().split('\r\n').map(cells)
  expect(rows.map((row) => row.length)).toEqual(Array.from({ length: 4 }, () => rows[0]!.length))
  const at = (group: string, field: string, unit: string): string =>
    rows[3]![rows[0]!.findIndex((name, i) => name === group && rows[1]![i] === field && rows[2]![i] === unit)]!
  expect(at('Run Info', 'Requests', '')).toBe('made up, "six"')
  expect(at('Benchmark', 'Strategy', '')).toBe('poisson')
  expect(at('Timings', 'Start Time', '')).toBe('2026-11-23 12:00:00')
  expect(at('Request Counts', 'Errored', '')).toBe('1')
  expect(at('Time to First Token', 'Successful ms', 'Median')).toBe('100')
  expect(at('Inter Token Latency', 'Successful ms', 'Percentiles')).toBe('[30, 30, 30, 30, 30, 30, 36, 36, 36, 36, 36]')
  expect(Number(at('Server Throughput', 'Successful Requests/Sec', 'Mean'))).toBeCloseTo(3 / SECONDS, 9)
})

test('our own table has energy, and empty cells where none was read', () => {
  const energy = {
    kind: 'measured',
    joules: 13,
    seconds: SECONDS,
    outputTokens: 16,
    requests: 3,
    joulesPerOutputToken: 13 / 16,
    joulesPerRequest: 13 / 3,
    tokensPerSecondPerWatt: 16 / 13,
    meanWatts: 20,
    scope: 'gpu-board',
    counter: 'toy',
    method: 'power',
    samples: 6,
    intervalMs: 100,
    idleSubtracted: false,
  } as const
  const table = (run: typeof RUN): Record<string, string> => {
    const [head, row] = benchmarkCsv({ ...BENCHMARK, runs: [run] })
      .split('\n')
      .map(cells)
    return Object.fromEntries(head!.map((name, i) => [name, row![i]!]))
  }
  expect(table({ ...RUN, energy })).toMatchObject({
    mean_watts: '20',
    joules_per_output_token: '0.8125',
    energy_scope: 'gpu-board',
    energy_counter: 'toy',
    e2e_from_send_ms_p50: '180',
  })
  expect(table({ ...RUN, energy: { kind: 'not-measured', reason: 'none' } })).toMatchObject({
    mean_watts: '',
    energy_counter: '',
    failed: '1',
  })
})

const loadAt = (rate: number | null, requestsPerSecond: number, share: number) => ({
  rate,
  requestsPerSecond,
  goodput: { level: LEVEL, requestsPerSecond: requestsPerSecond * share, share },
})

test('the highest rate within a level: as scheduled, else as reached', () => {
  const runs = [loadAt(null, 1.5, 1), loadAt(4, 4.1, 0.95), loadAt(8, 7.5, 0.4), loadAt(2, 2.1, 0.992)]
  expect([0.99, 0.9, 0.3, 1.01].map((share) => rateWithin(runs, share))).toEqual([2, 4, 8, null])
  expect(rateWithin([{ ...loadAt(4, 4, 1), goodput: null }], 0.9)).toBeNull()
})

test('a load that is more than the model has places for says so', () => {
  expect(mostInFlight(RECORDS)).toBe(3)
  const facts = { profile: 'poisson', concurrency: null, rate: 8, level: null, clientLagP99Ms: null } as const
  const crowd = (places: number | null) => summarizeRun(RECORDS, { ...facts, places }).warnings.filter((text) => text.includes('in flight'))
  expect([crowd(3), crowd(null)]).toEqual([[], []])
  expect(crowd(2)).toEqual([
    'Up to 3 requests were in flight, and the model was loaded with room for 2 of this length: the others waited, which is in their time to the first token.',
  ])
})

test('a model is loaded with as many places as its load fills', () => {
  const load = { profile: 'concurrent', concurrency: [1, 16], promptTokens: 100, outputTokens: 28, trace: null } as const
  expect(loadRoom(load)).toEqual({ requestTokens: 128, maxSequences: 16, kvTokens: 2048 })
  expect(loadRoom({ ...load, concurrency: [4096] })).toMatchObject({ maxSequences: 64, kvTokens: 64 * 128 })
  expect(loadRoom({ ...load, profile: 'poisson' })).toMatchObject({ maxSequences: 8, kvTokens: 1024 })
  expect(loadRoom({ ...load, profile: 'poisson' }, 3)).toMatchObject({ maxSequences: 3, kvTokens: 384 })
  const trace = [{ atMs: 0, promptTokens: 900, outputTokens: 24 }]
  expect(loadRoom({ ...load, profile: 'trace', trace })).toMatchObject({ requestTokens: 924, kvTokens: 8 * 924 })
})
