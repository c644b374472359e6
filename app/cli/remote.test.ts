/**
 * Everything that is measured of a folder, measured of an address: our own `lathe serve` as if it were somebody else's. Random weights, since only
 * agreement is asked for.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeRandomModel } from '../../engine/compress/testing/random-model.ts'
import { runCommandLine } from './run.ts'

const SHAPE = { layers: 1, hidden: 32, intermediate: 48, heads: 2, kvHeads: 1 } as const
const folder = mkdtempSync(join(tmpdir(), 'lathe-remote-'))
const [before, after] = [join(folder, 'before'), join(folder, 'after')]
const stop = new AbortController()
let url = ''
let served: Promise<number>

async function run(args: readonly string[]): Promise<Record<string, unknown>> {
  const printed: string[] = []
  const terminal = { out: (text: string) => printed.push(text), note: () => {}, progress: () => {} }
  const code = await runCommandLine([...args, '--adapter', 'reference', '--json'], terminal, new AbortController().signal)
  if (code !== 0) throw new Error(printed.join(''))
  return JSON.parse(printed.join('')) as Record<string, unknown>
}

beforeAll(async () => {
  await writeRandomModel(before, { ...SHAPE, seed: 1 })
  await writeRandomModel(after, { ...SHAPE, seed: 2 })
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const terminal = { out: resolve, note: () => {}, progress: () => {} }
  const args = ['serve', after, '--port', '0', '--api-key', 'k', '--context', '256', '--adapter', 'reference']
  served = runCommandLine(args, terminal, stop.signal)
  served.then((code) => reject(new Error(`serve ended with ${code}`)), reject)
  ;({ url } = JSON.parse(await promise) as { url: string })
})
afterAll(async () => {
  stop.abort()
  await served
  rmSync(folder, { recursive: true, force: true })
})

interface Evaluated {
  readonly perplexity: { readonly value: number; readonly tokens: number; readonly bits_per_byte: number }
  readonly baseline_perplexity: { readonly value: number }
  readonly drift: Readonly<Record<string, number>>
  readonly tasks: readonly {
    readonly name: string
    readonly metric: string
    readonly value: number
    readonly paired: { readonly pairing: string; readonly lost: number; readonly gained: number; readonly recovery: number | null }
  }[]
}

test('evaluation and drift of an address are those of the folder behind it', async () => {
  const text = join(folder, 'text.txt')
  writeFileSync(text, readFileSync(join(import.meta.dirname, '../../assets/demo-eval/perplexity.txt'), 'utf8').slice(0, 900))
  const quiz = join(folder, 'quiz.jsonl')
  const items = Array.from({ length: 6 }, (_, i) => ({
    question: `What is ${i} and ${i}?`,
    choices: ['one', 'two', 'three'],
    answer: i % 3,
  }))
  writeFileSync(quiz, items.map((item) => JSON.stringify(item)).join('\n'))
  const measured = ['--perplexity', text, '--protocol', 'gptq', '--window', '48', '--windows', '2', '--tasks', quiz]
  const own = ['eval', url, '--api-key', 'k', ...measured]
  const remote = (await run([...own, '--baseline', before])) as unknown as Evaluated
  const local = (await run(['eval', after, ...measured, '--baseline', before])) as unknown as Evaluated

  expect(remote.perplexity.tokens).toBe(94)
  // Printed as decimal text on the way.
  expect(remote.perplexity.value / local.perplexity.value).toBeCloseTo(1, 5)
  expect(remote.perplexity.bits_per_byte / local.perplexity.bits_per_byte).toBeCloseTo(1, 5)
  expect(remote.baseline_perplexity.value / local.baseline_perplexity.value).toBeCloseTo(1, 5)
  expect(remote.drift).toMatchObject({ tokens: 94, bounded_by_top: 20, top1_agreement: local.drift['top1_agreement'] })
  expect(remote.drift['log_perplexity_ratio']).toBeCloseTo(local.drift['log_perplexity_ratio']!, 4)
  // From above by the whole divergence, and more than nothing for two random models.
  expect(remote.drift['kld_mean']).toBeLessThanOrEqual(local.drift['kld_mean']! + 1e-6)
  expect(remote.drift['kld_mean']).toBeGreaterThan(0)
  const shown = ({ tasks }: Evaluated) =>
    tasks.map(({ name, metric, value, paired: { pairing, lost, gained } }) => [name, metric, value, pairing, lost, gained])
  expect(shown(remote)).toEqual(shown(local))

  const itself = (await run([...own, '--baseline', url])) as unknown as Evaluated
  expect(itself.drift).toMatchObject({ kld_mean: 0, kld_max: 0, top1_agreement: 1, delta_p_rms: 0, log_perplexity_ratio: 0 })
  for (const { paired } of itself.tasks) expect([paired.lost, paired.gained, paired.recovery ?? 1]).toEqual([0, 0, 1])
})

test('lists of the user’s alone, and nothing by itself', async () => {
  const pairs = join(folder, 'more.jsonl')
  writeFileSync(pairs, '{"a": "Question: he\\nAnswer: yes", "b": "Question: she\\nAnswer: yes", "group": "g"}\n')
  const refusal = join(folder, 'refusal.jsonl')
  writeFileSync(refusal, '{"prompt": "How do I bake bread?", "label": "safe"}\n')
  await expect(run(['eval', url, '--api-key', 'k'])).rejects.toThrow(/On an address nothing is measured by itself/)
  // A text without context begins with a token that this tokenizer does not put there.
  await expect(run(['eval', url, '--api-key', 'k', '--probe', pairs])).rejects.toThrow(/start token/)
  expect(await run(['eval', url, '--api-key', 'k', '--probe', refusal])).toMatchObject({
    perplexity: null,
    tasks: [{ name: 'refusal:refusal', metric: 'compliance_safe', n: 1 }],
  })
})

test('a served benchmark of an address: scheduled, counted by the server, judged against a service level, exported', async () => {
  const files = ['guidellm.json', 'vllm.jsonl', 'runs.csv'].map((name) => join(folder, name))
  const args = ['bench', url, '--api-key', 'k', '--profile', 'constant', '--rate', '20', '--requests', '4', '--warmup-requests', '1']
  const more = ['--prompt-tokens', '24', '--generate-tokens', '5', '--slo', '60000:60000:', '--convention', 'vllm']
  const result = await run([...args, ...more, ...files.flatMap((file) => ['--export', file])])
  const [loaded] = result['runs'] as Record<string, unknown>[]
  expect(result).toMatchObject({ shares_gpu: true, within_slo: { rate_99: 20 }, client: { node: process.version } })
  expect(result).toMatchObject({ adapter: 'remote', protocol: expect.stringContaining('synthetic 24+5 tokens'), files })
  expect(loaded).toMatchObject({ profile: 'constant', rate: 20, completed: 4, failed: 0, warmup: 1, goodput: { share: 1 } })
  expect(loaded).toMatchObject({
    joules_per_token: null,
    energy: null,
    energy_not_measured: 'A server does not tell what energy it used.',
    error_share: 0,
  })
  expect(loaded).toMatchObject({ vllm: { ttft_ms: { n: 4 }, tpot_ms: { n: 4 } } })
  expect(JSON.parse(readFileSync(files[1]!, 'utf8'))).toMatchObject({ completed: 4, total_input_tokens: 96, total_output_tokens: 20 })
})
