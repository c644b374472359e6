/** Items of tasks and tokens of a text as the engine tells them: a few that changed, most that did not. */
import type {
  ConventionalLatencies,
  LatencyConvention,
  LatencySummary,
  SamplePage,
  SampleQuery,
  SampleRow,
  TokenPage,
  TokenQuery,
  TokenRow,
} from '../../engine/contract/index.ts'

const WORDS =
  'Gus keeps a hen called Clover . She lives behind the Clay Cup and answers to nobody . She is eleven years old and likes oat biscuits .\n'.split(
    ' ',
  )

function tokenRow(position: number): TokenRow {
  const text = `${position % WORDS.length === 0 ? '' : ' '}${WORDS[position % WORDS.length] ?? ''}`
  // a repeatable scatter: most positions near zero, a few far out
  const spread = ((position * 7919) % 1000) / 1000
  const kld = spread ** 9 * 3
  const agrees = kld < 0.4
  return {
    position,
    id: (position * 131) % 2048,
    text,
    logprob: -0.2 - kld,
    baselineLogprob: -0.2,
    kld,
    agrees,
    top: agrees ? text : ' goat',
    baselineTop: text,
  }
}

export function tokenPage({ offset, limit, sort }: TokenQuery, baselineId: string): TokenPage {
  const total = 1200
  const all = Array.from({ length: total }, (_, position) => tokenRow(position))
  const ordered = sort === 'kld' ? all.toSorted((one, other) => (other.kld ?? 0) - (one.kld ?? 0)) : all
  return { baselineId, dataset: 'demo perplexity text', total, rows: ordered.slice(offset, offset + limit) }
}

function sampleRow(docId: number): SampleRow {
  const lost = docId % 9 === 4
  const gained = docId % 9 === 7
  const free = docId % 2 === 1
  const choices = free ? [] : [' a hen', ' a goat', ' a cat']
  const right = free ? 'Clover' : ' a hen'
  const [mine, theirs] = [lost ? ' a goat' : ' a hen', gained ? ' a cat' : ' a hen']
  return {
    docId,
    docHash: `doc-${docId}`,
    prompt: `Question: What does Gus keep behind the Clay Cup?\nItem ${docId}\nAnswer:`,
    target: right,
    choices,
    output: free ? `He keeps a ${lost ? 'goat' : 'hen'} called Clover, who likes oat biscuits.` : mine,
    answer: mine,
    baselineOutput: free ? `He keeps a ${gained ? 'cat' : 'hen'} called Clover, who likes oat biscuits.` : theirs,
    baselineAnswer: theirs,
    correct: !lost,
    baselineCorrect: !gained,
    metrics: { acc: lost ? 0 : 1 },
    baselineMetrics: { acc: gained ? 0 : 1 },
    logprobs: free ? [] : [lost ? -4.1 : -1.2, lost ? -2.2 : -5.3, -7.9],
    baselineLogprobs: free ? [] : [-1.1, -5.6, gained ? -0.9 : -8.2],
    samePrompt: true,
  }
}

export function samplePage({ show, offset, limit }: SampleQuery): SamplePage {
  const all = Array.from({ length: 60 }, (_, docId) => sampleRow(docId))
  const rows = all.filter((row) => {
    const lost = row.baselineCorrect === true && row.correct === false
    const gained = row.baselineCorrect === false && row.correct === true
    return show === 'all' || (show === 'lost' ? lost : show === 'gained' ? gained : lost || gained)
  })
  return { total: rows.length, items: all.length, rows: rows.slice(offset, offset + limit) }
}

const latency = (mean: number): LatencySummary => ({
  n: 40,
  mean,
  std: mean / 10,
  min: mean * 0.8,
  p50: mean * 0.95,
  p90: mean * 1.2,
  p95: mean * 1.3,
  p99: mean * 1.5,
  max: mean * 1.6,
})

/** Two loads under a tool's names; no request of the first had a second token. */
export function loadLatencies(convention: LatencyConvention): ConventionalLatencies[] {
  const names = { lathe: 'ttft_ms', guidellm: 'time_to_first_token_ms', vllm: 'ttft_ms', aiperf: 'time_to_first_token' } as const
  const gap = { lathe: 'itl_ms', guidellm: 'inter_token_latency_ms', vllm: 'itl_ms', aiperf: 'inter_token_latency' } as const
  return [1, 4].map((concurrency, index) => ({
    profile: 'concurrent',
    concurrency,
    rate: null,
    latencies: { [names[convention]]: latency(20 * concurrency), [gap[convention]]: index === 0 ? null : latency(8) },
  }))
}
