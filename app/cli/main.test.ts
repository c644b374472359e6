/** The command line as a person or a script meets it: a process with arguments, two streams and an exit code. */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { writeRandomModel } from '../../engine/compress/testing/random-model.ts'
import { runCommandLine } from './run.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const main = join(root, 'app/cli/main.ts')
const demo = join(root, 'assets/demo-model')
const data = join(root, '../shared/data')
const hasData = existsSync(join(data, 'golden'))
if (!hasData) console.log('skipped: golden values, because ../shared/data is not here')

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lathe-cli-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

interface Finished {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

interface RunOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
  /** Called with all of stderr so far whenever there is more; may send a signal. */
  readonly onError?: (err: string, kill: (signal: NodeJS.Signals) => void) => void
}

/** Runs on the reference backend unless the arguments say otherwise: it is everywhere and always the same. */
async function lathe(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const child = spawn(process.execPath, [main, ...args], {
    cwd: folder,
    env: { ...process.env, LATHE_ADAPTER: 'reference', ...options.env },
    stdio: 'pipe',
  })
  let out = ''
  let err = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text
    options.onError?.(err, (signal) => child.kill(signal))
  })
  child.stdin.end(options.input ?? '')
  const { promise, resolve } = Promise.withResolvers<number | null>()
  child.on('close', resolve)
  return { code: await promise, out, err }
}

async function json(args: readonly string[], options?: RunOptions): Promise<Record<string, unknown>> {
  const { code, out, err } = await lathe([...args, '--json'], options)
  if (code !== 0) throw new Error(`lathe ${args.join(' ')} ended with ${code}: ${err}`)
  return JSON.parse(out) as Record<string, unknown>
}

const reports = new Map<string, Record<string, unknown>>()

/** The demo model in 4 bits, made once. */
async function fourBitDemo(): Promise<string> {
  const out = join(folder, 'demo-4bit')
  if (!reports.has(out)) reports.set(out, await json(['compress', demo, '--preset', 'quick-4bit', '--out', out]))
  return out
}

/** The same code without a process of its own, for the many cases that end before any work. */
async function failure(args: readonly string[]): Promise<{ code: string; message: string; hint: string }> {
  const printed: string[] = []
  const terminal = { out: (text: string) => printed.push(text), note: () => {}, progress: () => {} }
  expect(await runCommandLine([...args, '--json'], terminal, new AbortController().signal)).toBe(1)
  const parsed = JSON.parse(printed.join('')) as { error: { code: string; message: string; hint: string } }
  expect(Object.keys(parsed)).toEqual(['error'])
  return parsed.error
}

describe('what is not understood', () => {
  it('is refused with the nearest, in one JSON object, with exit code 1', async () => {
    const errors = await Promise.all([
      failure(['inspct', demo]),
      failure(['inspect', demo, '--tensor']),
      failure(['compress', demo, '--preset', 'quick-4bti', '--out', join(folder, 'never')]),
      failure(['eval', demo, '--protocol', 'roling']),
      failure(['logits', demo, '--tokens', '1,x']),
      failure(['inspect']),
      failure(['inspect', join(folder, 'nowhere')]),
      failure(['compress', demo, '--preset', 'quick-4bit']),
      failure(['chat', demo, '--prompt', 'x', '--temperature', '9']),
      failure(['inspect', demo, '--adapter']),
      failure(['chat', demo, '--prompt', ' ']),
    ])
    expect(errors.map((error) => [error.code, error.message, error.hint].join(' | '))).toEqual([
      'request.invalid | There is no command "inspct". | Did you mean "inspect"?',
      'request.invalid | There is no option --tensor. | Did you mean --tensors?',
      expect.stringMatching(/^compress\.invalid-recipe \| There is no preset "quick-4bti"\. \| Did you mean quick-4bit\?/),
      expect.stringMatching(/^request\.invalid \| --protocol can't be "roling"\. Did you mean "rolling"\?/),
      expect.stringMatching(/^request\.invalid \| --tokens must be whole numbers/),
      expect.stringMatching(/^request\.invalid \| The model folder is missing\. \| Usage: lathe inspect/),
      expect.stringMatching(/^checkpoint\.not-found \| There is nothing at .*nowhere/),
      expect.stringMatching(/^request\.invalid \| --out is missing/),
      expect.stringMatching(/^request\.invalid \| --temperature must be a number from 0 to 2, not "9"/),
      expect.stringMatching(/^request\.invalid \| .*--adapter/),
      expect.stringMatching(/^request\.invalid \| --prompt is empty/),
    ])
    expect(readdirSync(folder)).toEqual([])
  })

  it('goes to stderr for people, with nothing on stdout, and to stdout as JSON', async () => {
    expect(await lathe(['logits', demo, '--tokens', '1,99999', '--json'])).toMatchObject({
      code: 1,
      out: '{"error":{"code":"request.invalid","message":"Token 99999 is outside the vocabulary of 2048.","hint":"Use ids below that."}}\n',
    })
    expect(await lathe(['inspct'])).toEqual({
      code: 1,
      out: '',
      err: 'request.invalid: There is no command "inspct".\nDid you mean "inspect"?\n',
    })
  })
})

interface Ready {
  readonly url: string
  readonly api_key: string
  readonly model: string
}

type Memory = Readonly<Record<string, number>>

describe('serve', () => {
  it('says where it is, answers a completion with its key only, reads prompts apart, and ends with Ctrl-C', async () => {
    const apart = ['--prefill-engines', '1']
    const child = spawn(
      process.execPath,
      [main, 'serve', demo, '--port', '0', '--name', 'pebble demo', '--context', '256', '--parallel', '2', ...apart],
      {
        cwd: folder,
        env: { ...process.env, LATHE_ADAPTER: 'reference' },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    const closed = new Promise<number | null>((resolve) => child.on('close', resolve))
    const ready = await new Promise<Ready>((resolve, reject) => {
      child.stdout.setEncoding('utf8').once('data', (line: string) => resolve(JSON.parse(line) as Ready))
      child.once('exit', (code) => reject(new Error(`serve ended with ${code} before it was ready`)))
    })
    expect(ready).toMatchObject({ url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/v1$/), model: 'pebble-demo' })
    const ask = (key: string): Promise<Response> =>
      fetch(`${ready.url}/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
        body: JSON.stringify({
          model: 'pebble-demo',
          messages: [
            { role: 'user', content: 'Mara lives by the harbour and paints boats. She has a dog named Gus who swims. Who is Mara?' },
          ],
          max_tokens: 4,
          temperature: 0,
        }),
      })
    expect((await ask('wrong')).status).toBe(401)
    const answered = await ask(ready.api_key)
    expect(answered.status).toBe(200)
    const body = (await answered.json()) as { choices: { message: { content: string } }[]; usage: { completion_tokens: number } }
    expect(body.choices[0]?.message.content).toMatch(/Mara/)
    expect(body.usage.completion_tokens).toBe(4)
    const fit = await fetch(new URL('/studio/fit', ready.url), { headers: { authorization: `Bearer ${ready.api_key}` } })
    const { predicted, measured, ...estimate } = (await fit.json()) as { predicted: Memory; measured: Memory }
    expect(estimate).toMatchObject({ model: 'pebble-demo', context: 256, concurrency: 2, loaded: [{ in_use: true }] })
    // The reader of prompts holds the weights and a context again.
    expect(2 * predicted['weight_bytes']!).toBe(measured['weight_bytes'])
    expect(predicted['resident_bytes']).toBeGreaterThan(predicted['weight_bytes']!)
    const metrics = await fetch(new URL('/metrics', ready.url), { headers: { authorization: `Bearer ${ready.api_key}` } })
    expect(await metrics.text()).toMatch(/vllm:prompt_tokens_by_source_total\{[^}]*external_kv_transfer[^}]*\} 32\n/)
    child.kill('SIGINT')
    expect(await closed).toBe(0)
  })

  it('names what it can not do', async () => {
    expect(await failure(['serve', demo, '--overlong', 'cut'])).toMatchObject({ code: 'request.invalid' })
    expect(await failure(['serve', demo, '--speculate', 'guesses'])).toMatchObject({
      code: 'runtime.invalid-request',
      hint: 'Use ngram[:k] | draft:<folder>.',
    })
    expect(await failure(['serve', demo, '--prefill-engines', '0', '--prefill-adapter', 'reference'])).toMatchObject({
      message: expect.stringMatching(/--prefill-engines/),
    })
    expect(await failure(['serve', demo, '--kv-dtype', 'int9'])).toMatchObject({ message: expect.stringMatching(/int8, int4/) })
    for (const key of ['', 'two words'])
      expect(await failure(['serve', demo, '--api-key', key])).toMatchObject({ message: expect.stringMatching(/^--api-key is empty/) })
    expect(await failure(['serve', demo, '--host', '192.0.2.1', '--port', '0'])).toMatchObject({
      code: 'request.invalid',
      message: '192.0.2.1 is no address of this machine.',
    })
  })
})

describe('cache', () => {
  it('measures what a type of KV cache saves and costs', async () => {
    const { types, ...found } = await json(['cache', demo, '--tokens', '24', '--window', '24', '--types', 'int8,int4'])
    expect(found).toMatchObject({ tokens: 24, window: 24, adapter: 'reference' })
    const [int8, int4] = types as { kv_dtype: string; bytes_per_token: number; kld_mean: number; positions: number }[]
    // 6 layers × 2 heads × (4 bytes of scale + 64 codes) × keys and values
    expect(int8).toMatchObject({ kv_dtype: 'int8', bytes_per_token: 6 * 2 * (4 + 64) * 2, positions: 23 })
    expect(int4).toMatchObject({ kv_dtype: 'int4', bytes_per_token: 6 * 2 * (4 + 32) * 2 })
    expect(int8!.kld_mean).toBeGreaterThan(0)
    expect(int8!.kld_mean).toBeLessThan(int4!.kld_mean)
    expect(await failure(['cache', demo, '--types', 'int3'])).toMatchObject({ code: 'request.invalid' })
  })
})

describe('help', () => {
  it('lists the commands, and each command its options', async () => {
    const { code, out } = await lathe(['help'])
    expect(code).toBe(0)
    for (const command of ['inspect', 'compress', 'eval', 'bench', 'serve', 'chat', 'logits', 'cache', 'plan', 'doctor'])
      expect(out).toContain(`  ${command} `)
    expect((await lathe(['compress', '--help'])).out).toBe((await lathe(['help', 'compress'])).out)
  })
})

describe('inspect, plan, doctor', () => {
  it('need no GPU and print what they know', async () => {
    expect(await json(['inspect', demo])).toMatchObject({
      parameters: 4656384,
      weight_bytes: 9312768,
      scheme: 'BF16',
      runnable: true,
      license: 'mit',
      architecture: { layers: 6, context_length: 1024 },
    })
    expect(await json(['plan', demo, '--gpu', 'RTX 4090', '--context', '1024', '--concurrency', '4'])).toMatchObject({
      gpu: 'RTX 4090',
      // 2 (K, V) × 6 layers × 2 heads × 64 × 2 bytes × 1024 tokens × 4 requests
      kv_bytes: 2 * 6 * 2 * 64 * 2 * 1024 * 4,
      verdict: 'fits',
      largest_context: 1024,
    })
    // bytes of the cache as vLLM's log implies them, of the weights as published
    expect(await json(['plan', 'Mistral-Small-24B', '--gpu', 'H100', '--users', '100', '--cost', '2.5'])).toMatchObject({
      gpus_per_copy: 1,
      kv_bytes_per_token: 163_840,
      weight_bytes: 2 * 23_572_403_200,
      best_scheme: 'bf16',
      service: { cost_per_million_tokens: { low: expect.any(Number) }, gpus_for_users: expect.any(Number) },
    })
    expect((await failure(['plan', 'lama-3.1-8b', '--gpu', 'H100'])).hint).toContain('llama-3.1-8b')
    const doctor = await json(['doctor'])
    expect(doctor).toMatchObject({ host: { node_version: process.versions.node } })
    expect((doctor['adapters'] as { id: string; selected: boolean }[]).find((adapter) => adapter.id === 'reference')?.selected).toBe(true)
  })

  it('doctor names a wanted adapter that is not there instead of taking another', async () => {
    const doctor = await json(['doctor', '--adapter', 'no such card'])
    expect((doctor['adapters'] as { selected: boolean }[]).filter((adapter) => adapter.selected)).toEqual([])
    expect((doctor['advice'] as { what: string }[])[0]?.what).toBe('No usable adapter matches "no such card"')
    expect((await failure(['bench', demo, '--adapter', 'no such card'])).code).toBe('gpu.no-adapter')
  })

  it('eval looks at its output folder before it measures', async () => {
    const file = join(folder, 'not-a-folder')
    writeFileSync(file, '')
    for (const out of [file, join(file, 'below')])
      expect(await failure(['eval', demo, '--out', out])).toMatchObject({ code: 'disk.permission', message: `${out} can't be written to.` })
  })

  it('bench writes what --export names or says so before it measures', async () => {
    expect(await failure(['bench', demo, '--export', 'load.csv'])).toMatchObject({
      code: 'request.invalid',
      message: '--export is for a load, and of a folder none is asked for.',
    })
    expect((await failure(['bench', demo, '--slo', 'chat'])).message).toContain('--slo')
  })

  it('plan does not call fitting what vLLM refuses', async () => {
    const printed: string[] = []
    const terminal = { out: (text: string) => printed.push(text), note: () => {}, progress: () => {} }
    const asked = ['plan', 'llama-3.1-8b', '--gpu', 'L4', '--tensor-parallel', '3', '--cost', '1']
    expect(await runCommandLine(asked, terminal, new AbortController().signal)).toBe(0)
    expect(printed.join('')).toMatch(/Verdict +no: .*32 attention heads/)
    expect(printed.join('')).toMatch(/Cost of 1 M output tokens .* serving 40 % of the paid time/)
  })
})

/** One prompt of a golden file (data/README.md); log-probabilities rounded to six digits. */
interface Golden {
  readonly tokens: readonly number[]
  readonly prompt_logprobs: readonly (number | null)[]
  readonly last_top10: readonly (readonly [id: number, logit: number])[]
}

describe.skipIf(!hasData)('logits', () => {
  it.each(['stories260k', 'random-qwen3', 'llmcompressor-gptq-w4a16-g128'])('of %s equal the golden values', async (model) => {
    const cases = JSON.parse(readFileSync(join(data, 'golden', `${model}.json`), 'utf8')) as Golden[]
    const golden = cases.toSorted((a, b) => a.tokens.length - b.tokens.length).at(-1)!
    const result = await json(['logits', join(data, 'models', model), '--tokens', golden.tokens.join(','), '--top', '10'])
    expect(result['tokens']).toEqual(golden.tokens)
    const own = result['prompt_logprobs'] as (number | null)[]
    const worst = Math.max(...own.map((value, index) => Math.abs((value ?? 0) - (golden.prompt_logprobs[index] ?? 0))))
    expect(own.map((value) => value === null)).toEqual(golden.prompt_logprobs.map((value) => value === null))
    expect(worst).toBeLessThan(1e-3)
    const top = result['top'] as { id: number; logprob: number }[][]
    expect(top).toHaveLength(golden.tokens.length)
    expect(top.at(-1)!.map((entry) => entry.id)).toEqual(golden.last_top10.map(([id]) => id))
  })
})

describe('compress', () => {
  it('chooses a scheme per layer for a target, and writes the recipe instead of running it', async () => {
    const path = join(folder, 'map.yaml')
    const target = ['compress', demo, '--measure', 'weights', '--schemes', 'W8A16 g128,W4A16 g128', '--write-recipe', path, '--target']
    const report = await json([...target, '4.2MB'])
    const map = report['map'] as { bytes_out: number; units: { scheme: string | null; loss: number }[] }
    expect(report).toMatchObject({ recipe: path, bytes_out: map.bytes_out })
    expect(map.bytes_out).toBeLessThanOrEqual(4.2e6)
    expect(map.bytes_out).toBeGreaterThan(3.9e6)
    expect(new Set(map.units.map(({ scheme }) => scheme))).toEqual(new Set(['W8A16 g128', 'W4A16 g128']))
    const again = await json(['compress', demo, '--recipe', path, '--write-recipe', join(folder, 'again.yaml')])
    expect(again).toMatchObject({ bytes_out: map.bytes_out, scheme: report['scheme'], map: null })
    expect(readFileSync(join(folder, 'again.yaml'), 'utf8')).toBe(readFileSync(path, 'utf8'))
    const errors = await Promise.all([failure([...target, '5.5bats']), failure(['compress', demo, '--target', '4.2MB'])])
    expect(errors.map(({ code, message }) => `${code}: ${message}`)).toEqual([
      'request.invalid: --target can\'t be "5.5bats".',
      'request.invalid: --out is missing.',
    ])
  })

  it('prints the fixed fields, refuses to overwrite, and takes a recipe file', async () => {
    const out = await fourBitDemo()
    const report = reports.get(out)!
    expect(report).toMatchObject({ out, preset: 'quick-4bit', bytes_in: 9312768, resumed: false })
    expect(report['bytes_out']).toBeLessThan(9312768 / 2.5)
    expect(report['seconds']).toBeGreaterThan(0)
    expect(report['peak_rss_bytes']).toBeGreaterThan(1e6)
    expect(report['tensors']).toHaveLength(42)
    expect((report['tensors'] as object[])[0]).toEqual({
      name: expect.any(String),
      scheme: 'W4A16 g128',
      sqnr_db: expect.any(Number),
      relative_error: expect.any(Number),
      max_error: expect.any(Number),
      cosine: expect.any(Number),
      bytes: expect.any(Number),
    })
    expect(report['ignored']).toEqual([{ name: 'model.embed_tokens', reason: expect.any(String) }])
    expect((await failure(['compress', demo, '--preset', 'quick-4bit', '--out', out])).code).toBe('checkpoint.already-exists')
    const again = join(folder, 'by-recipe')
    await json(['compress', demo, '--recipe', join(out, 'recipe.yaml'), '--out', again])
    expect(readFileSync(join(again, 'model.safetensors'))).toEqual(readFileSync(join(out, 'model.safetensors')))
  })

  it('stops cleanly on Ctrl-C, leaves no half folder, and goes on with --resume', async () => {
    const out = join(folder, 'interrupted')
    const args = ['compress', demo, '--preset', 'near-lossless-8bit', '--out', out, '--json']
    let sent = false
    const first = await lathe(args, {
      onError: (err, kill) => {
        if (sent || !err.includes('quantize')) return
        sent = true
        kill('SIGINT')
      },
    })
    // a machine may be quicker than the signal; then there is nothing to resume
    const wasStopped = first.code === 1
    expect(existsSync(out)).toBe(!wasStopped)
    const error = wasStopped ? (JSON.parse(first.out) as { error: { code: string } }).error.code : 'job.cancelled'
    expect(error).toBe('job.cancelled')
    if (wasStopped) await json([...args.slice(0, -1), '--resume'])
    const whole = join(folder, 'uninterrupted')
    await json(['compress', demo, '--preset', 'near-lossless-8bit', '--out', whole])
    expect(readFileSync(join(out, 'model.safetensors'))).toEqual(readFileSync(join(whole, 'model.safetensors')))
  })
})

describe('eval, chat, bench', () => {
  it('eval prints perplexity, drift and tasks of a variant beside its baseline', async () => {
    const variant = await fourBitDemo()
    const text = join(folder, 'text.txt')
    writeFileSync(text, readFileSync(join(root, 'assets/demo-eval/perplexity.txt'), 'utf8').slice(0, 2000))
    const tasks = join(root, 'assets/demo-eval/arithmetic.jsonl')
    const pairs = join(folder, 'pairs.jsonl')
    writeFileSync(pairs, '{"a": "He was late.", "b": "She was late.", "group": "late"}\n')
    const args = [
      'eval',
      variant,
      '--baseline',
      demo,
      '--perplexity',
      text,
      '--window',
      '64',
      '--windows',
      '1',
      '--tasks',
      tasks,
      '--limit',
      '2',
      '--probe',
      pairs,
    ]
    const result = await json(args)
    expect(result).toMatchObject({
      model: variant,
      baseline: demo,
      adapter: expect.stringMatching(/^Reference/),
      perplexity: { tokens: 64, protocol: 'rolling', window: 64 },
      tasks: [
        { name: 'arithmetic', metric: 'acc', n: 2, chance: 0.25 },
        { name: 'fairness:pairs', metric: 'prefers_a', n: 1, output_type: 'probe', paired: { changed: expect.any(Number) } },
        { name: 'fairness:pairs', metric: 'likelihood_gap', n: 1 },
      ],
    })
    const { perplexity, drift } = result as { perplexity: Record<string, number>; drift: Record<string, number> }
    expect(perplexity['value']).toBeCloseTo(Math.exp(perplexity['nll']!), 6)
    expect(perplexity['value']).toBeGreaterThan(1)
    expect(perplexity['value']).toBeLessThan(3)
    expect(perplexity['bits_per_byte']).toBeGreaterThan(0)
    expect(drift['kld_mean']).toBeGreaterThan(0)
    expect(drift['kld_mean']).toBeLessThan(0.05)
    expect(drift['kld_p99']).toBeGreaterThan(drift['kld_mean']!)
    expect(drift['top1_agreement']).toBeGreaterThan(0.9)
  })

  it('chat answers one prompt, the same again with the same seed, and holds a conversation', async () => {
    const ask = ['chat', demo, '--prompt', 'Where is the Old Lighthouse?', '--seed', '7', '--max-tokens', '12']
    const answer = await json(ask)
    expect(answer).toMatchObject({ completion_tokens: expect.any(Number), seed: 7, software_adapter: true })
    expect(answer['text']).toMatch(/Lighthouse/)
    expect((await json(ask))['text']).toBe(answer['text'])
    const plain = await lathe(ask)
    expect(plain.out).toBe(`${String(answer['text'])}\n`)
    const talk = await lathe(['chat', demo, '--temperature', '0', '--max-tokens', '12', '--context', '64'], {
      input: `Hello\n/clear\n${'too long '.repeat(64)}\nWhere is the Old Lighthouse?\n`,
    })
    expect(talk).toMatchObject({ code: 0, err: expect.stringMatching(/the context holds 64.*The message was not sent/) })
    expect(talk.out).toMatch(/Lighthouse/)
  })

  it('chat stopped by Ctrl-C ends with an error that carries what was said', async () => {
    let sent = false
    const stopped = await lathe(['chat', demo, '--prompt', 'Tell me a long story.', '--json'], {
      onError: (err, kill) => {
        if (sent || !err.includes('loading')) return
        sent = true
        kill('SIGINT')
      },
    })
    expect(stopped.code).toBe(1)
    expect(JSON.parse(stopped.out)).toMatchObject({ error: { code: 'job.cancelled' } })
  })

  it('bench prints the engine’s speed with its conditions', async () => {
    const result = await json(['bench', demo, '--prompt-tokens', '16', '--generate-tokens', '4', '--repeats', '2', '--warmups', '0'])
    expect(result).toMatchObject({
      model: demo,
      runs: [],
      software_adapter: true,
      engine: { prompt_tokens: 16, generated_tokens: 4, repeats: 2 },
    })
    const { engine } = result as { engine: Record<string, number> }
    for (const name of ['prefill_tokens_per_second', 'decode_tokens_per_second', 'peak_gpu_bytes', 'load_seconds'])
      expect(engine[name]).toBeGreaterThan(0)
    // A counter of the processor where this machine shows one, else the reason; never neither, never both.
    expect([engine['joules_per_token'] === null, engine['energy'] === null]).toEqual(
      Array.from({ length: 2 }, () => typeof engine['energy_not_measured'] === 'string'),
    )
  })

  it('bench measures a baseline in turn, and the grid', async () => {
    const [before, after] = [join(folder, 'tiny-before'), join(folder, 'tiny-after')]
    for (const [seed, to] of [before, after].entries())
      await writeRandomModel(to, { layers: 1, hidden: 32, intermediate: 32, heads: 2, kvHeads: 1, seed })
    const args = [
      'bench',
      after,
      '--baseline',
      before,
      '--grid',
      '--contexts',
      '8,40',
      '--batches',
      '2',
      '--repeats',
      '1',
      '--warmups',
      '0',
    ]
    const result = await json([...args, '--prompt-tokens', '8', '--generate-tokens', '3'])
    const cells = ['prefill 1 8', 'prefill 1 40', 'decode 2 8', 'decode 2 40']
    const { engine, baseline } = result as { engine: EngineJson; baseline: { model: string; engine: EngineJson } }
    for (const { points } of [engine, baseline.engine])
      expect(points.map(({ kind, batch, context }) => `${kind} ${batch} ${context}`)).toEqual(cells)
    expect(engine.versus).toMatchObject({ baseline: before, decode_ratio: { n: 1 } })
    expect(baseline).toMatchObject({ model: before, engine: { versus: null } })
    expect(engine.points.every(({ tokens_per_second: speed }) => speed.min > 0)).toBe(true)
  })
})

interface EngineJson {
  readonly versus: object | null
  readonly points: readonly { kind: string; batch: number; context: number; tokens_per_second: { min: number } }[]
}
