/** What `vllm bench serve` and a Prometheus scrape expect of a server, request for request (specs/runtime.md §19). */
import parsePrometheusTextFormat from 'parse-prometheus-text-format'
import { afterEach, expect, test } from 'vitest'
import { startEcho, stopAll } from './test/start-echo.ts'

afterEach(stopAll)

interface Timed {
  readonly text: string
  readonly chunks: number
  readonly promptTokens: number
  readonly completionTokens: number
}

/** As its clients read a stream: by lines, comments skipped, the first chunk with choices being the first token. */
async function readStream(response: Response, textOf: (choice: { delta?: { content?: string }; text?: string }) => string): Promise<Timed> {
  expect(response.status).toBe(200)
  let buffered = ''
  let text = ''
  let chunks = 0
  let usage = { prompt_tokens: 0, completion_tokens: 0 }
  let done = false
  for await (const bytes of response.body!) {
    buffered += Buffer.from(bytes).toString()
    const lines = buffered.split('\n')
    buffered = lines.pop()!
    for (const line of lines) {
      if (line === '' || line.startsWith(':')) continue
      const data = line.replace(/^data: /, '')
      if (data === '[DONE]') {
        done = true
        continue
      }
      const chunk = JSON.parse(data) as { choices: never[]; usage?: typeof usage | null }
      if (chunk.choices.length > 0) {
        text += textOf(chunk.choices[0]!)
        chunks++
      } else if (chunk.usage) usage = chunk.usage
    }
  }
  expect(done).toBe(true)
  return { text, chunks, promptTokens: usage.prompt_tokens, completionTokens: usage.completion_tokens }
}

test('a load of both kinds runs with fixed lengths, counts and aligned random prompts', async () => {
  const { call, post } = await startEcho({ contextLimit: 4096, endless: true })
  const { data } = (await (await call('/v1/models')).json()) as { data: { id: string; root: string }[] }
  const model = data[0]!.id
  const { tokens } = (await (await post('/tokenize', { model, prompt: 'some random text', add_special_tokens: false })).json()) as {
    tokens: number[]
  }
  const { prompt } = (await (await post('/detokenize', { model, tokens })).json()) as { prompt: string }
  const shared = { model, temperature: 0, ignore_eos: true, stream: true, stream_options: { include_usage: true } }
  const results = await Promise.all([
    ...Array.from({ length: 4 }, async () =>
      readStream(
        await post('/v1/completions', { ...shared, prompt, repetition_penalty: 1, max_tokens: 24, logprobs: null, n: 1 }),
        (choice) => choice.text ?? '',
      ),
    ),
    ...Array.from({ length: 4 }, async () =>
      readStream(
        await post('/v1/chat/completions', {
          ...shared,
          messages: [{ role: 'user', content: [{ type: 'text', text: prompt }] }],
          max_completion_tokens: 24,
        }),
        (choice) => choice.delta?.content ?? '',
      ),
    ),
  ])
  expect(results.map((result) => result.completionTokens)).toEqual(Array.from({ length: 8 }, () => 24))
  expect(results.slice(0, 4).map((result) => result.promptTokens)).toEqual(Array.from({ length: 4 }, () => tokens.length))
  expect(results.every((result) => result.chunks >= 24)).toBe(true)
})

test('a scrape parses, has every series before and after a request, and no label with a space', async () => {
  const { call, post } = await startEcho()
  const before = await (await call('/metrics')).text()
  expect(before).toContain('vllm:request_success_total{model_name="echo-1",engine="0",finished_reason="stop"} 0')
  await post('/v1/chat/completions', { model: 'echo', messages: [{ role: 'user', content: 'hi' }], n: 2, temperature: 1 })
  const families = parsePrometheusTextFormat(await (await call('/metrics')).text()) as {
    name: string
    type: string
    metrics: { value?: string; count?: string; labels?: Record<string, string> }[]
  }[]
  const byName = new Map(families.map((family) => [family.name, family]))
  const kinds = Object.fromEntries(families.map((family) => [family.name, family.type]))
  const counters =
    'prompt_tokens generation_tokens prompt_tokens_cached prompt_tokens_by_source prefix_cache_queries prefix_cache_hits external_prefix_cache_queries external_prefix_cache_hits mm_cache_queries mm_cache_hits num_preemptions request_success corrupted_requests spec_decode_num_drafts spec_decode_num_draft_tokens spec_decode_num_accepted_tokens spec_decode_num_accepted_tokens_per_pos'
  const gauges =
    'num_requests_running num_requests_waiting num_requests_waiting_by_reason kv_cache_usage_perc engine_sleep_state lora_requests_info cache_config_info'
  const histograms =
    'time_to_first_token_seconds inter_token_latency_seconds request_time_per_output_token_seconds e2e_request_latency_seconds request_queue_time_seconds request_inference_time_seconds request_prefill_time_seconds request_decode_time_seconds request_prompt_tokens request_generation_tokens request_max_num_generation_tokens request_params_max_tokens request_prefill_kv_computed_tokens iteration_tokens_total request_params_n'
  expect(kinds).toMatchObject({
    ...Object.fromEntries(counters.split(' ').map((name) => [`vllm:${name}_total`, 'COUNTER'])),
    ...Object.fromEntries(gauges.split(' ').map((name) => [`vllm:${name}`, 'GAUGE'])),
    ...Object.fromEntries(histograms.split(' ').map((name) => [`vllm:${name}`, 'HISTOGRAM'])),
  })
  const value = (name: string, labels: Record<string, string> = {}): string | undefined =>
    byName.get(name)?.metrics.find((metric) => Object.entries(labels).every(([key, text]) => metric.labels?.[key] === text))?.value
  expect([
    value('vllm:generation_tokens_total'),
    value('vllm:request_success_total', { finished_reason: 'stop' }),
    value('vllm:request_success_total', { finished_reason: 'repetition' }),
    value('vllm:engine_sleep_state', { sleep_state: 'awake' }),
    value('vllm:prompt_tokens_by_source_total', { source: 'local_compute' }),
  ]).toEqual(['14', '2', '0', '1', '14'])
  for (const family of families)
    for (const { labels } of family.metrics) for (const text of Object.values(labels ?? {})) expect(text).not.toMatch(/\s/)
})
