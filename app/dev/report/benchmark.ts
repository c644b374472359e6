/**
 * Every speed of Lathe in one run: compression beside a plain copy with its peak memory, then on each adapter prefill and decode of the demo model
 * per scheme, measured in turn, and what share of a step each kernel takes. Software adapters say that they are.
 *
 *   node app/dev/report/benchmark.ts [adapter…] [--layers 22] [--folder <where to work>] [--prompt 256] [--generate 64] [--repeats 3]
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { measureThroughput } from '../../../engine/benchmark/throughput.ts'
import { compress } from '../../../engine/compress/pipeline.ts'
import { listPresets } from '../../../engine/compress/presets.ts'
import { LatheError } from '../../../engine/contract/index.ts'
import type { KernelShare, SampleStats } from '../../../engine/contract/index.ts'
import { chooseAdapter, listAdapters } from '../../../engine/gpu/adapters.ts'
import { openBackend } from '../../../engine/gpu/webgpu/backend.ts'
import { openRuntime } from '../../../engine/runtime/open-runtime.ts'
import type { Runtime } from '../../../engine/runtime/types.ts'
import { profileRuntime } from '../../../engine/studio/bindings/profile.ts'
import { ROOT, runNode } from '../tools.ts'

/** Kernels below this share of a step are summed up in one word. */
const LEAST_SHARE = 0.02

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    layers: { type: 'string', default: '22' },
    folder: { type: 'string', default: tmpdir() },
    prompt: { type: 'string', default: '256' },
    generate: { type: 'string', default: '64' },
    repeats: { type: 'string', default: '3' },
  },
})

interface Subject {
  readonly name: string
  readonly folder: string
}

async function makeVariants(scratch: string): Promise<readonly Subject[]> {
  const original = join(ROOT, 'assets/demo-model')
  const subjects: Subject[] = [{ name: 'Original (BF16)', folder: original }]
  // A calibrated preset stores what a data-free one does and runs as fast.
  for (const preset of listPresets().filter(({ needsCalibration }) => !needsCalibration)) {
    const outFolder = join(scratch, preset.id)
    const recipe = { presetId: preset.id }
    await compress({ sourceFolder: original, outFolder, recipe, seed: 0, resume: false, latheVersion: 'benchmark' })
    subjects.push({ name: `${preset.title} (${preset.scheme})`, folder: outFolder })
  }
  return subjects
}

async function measureAdapter(wanted: string, subjects: readonly Subject[]): Promise<void> {
  const { adapter } = await chooseAdapter(wanted)
  const software = adapter.type === 'software' ? ' (software: computed on the CPU, its speeds say nothing about a GPU)' : ''
  console.log(`\n## ${adapter.name}${software}, driver ${adapter.driver}\n`)
  const options = {
    promptTokens: Number(values.prompt),
    generatedTokens: Number(values.generate),
    warmups: 1,
    repeats: Number(values.repeats),
  }
  await using backend = await openBackend(adapter.id, { profile: 'production' })
  const contextTokens = options.promptTokens + options.generatedTokens
  const runtimes: Runtime[] = []
  try {
    for (const { name, folder } of subjects) {
      runtimes.push(await openRuntime({ source: folder, backend, modelId: name, contextTokens, kvDtype: 'f16' }))
    }
    const measured = await measureThroughput(
      runtimes.map((runtime) => ({ modelId: runtime.info.modelId, runtime, peakGpuBytes: () => 0 })),
      options,
    )
    console.log(`Median [least, most] of ${options.repeats} runs in turn, ${options.promptTokens} + ${options.generatedTokens} tokens.\n`)
    console.log('| demo model | weights MB | decode tok/s | prefill tok/s | first token ms |\n|---|--:|--:|--:|--:|')
    for (const [index, { name }] of subjects.entries()) {
      const result = measured[index]
      if (result === undefined) throw new Error(`${name} was not measured`)
      const weights = (result.weightGpuBytes / 1e6).toFixed(2)
      const cells = [result.decodeTokensPerSecond, result.prefillTokensPerSecond, result.timeToFirstTokenMs].map(describeSamples)
      console.log(`| ${name} | ${weights} | ${cells.join(' | ')} |`)
    }
    console.log('\nShare of each kernel, from GPU timestamps (which slow the step down: shares only).\n')
    for (const runtime of runtimes) {
      const { decode, prefill } = await profileRuntime(runtime, new AbortController().signal)
      console.log(`- ${runtime.info.modelId}\n  - decode: ${describeShares(decode)}\n  - prefill: ${describeShares(prefill)}`)
    }
  } catch (error) {
    // An adapter without timestamps can be measured, not profiled; anything else is a failure.
    if (!(error instanceof LatheError) || error.code !== 'gpu.unsupported') throw error
    console.log(`Not profiled: ${error.message}`)
  } finally {
    for (const runtime of runtimes) await runtime[Symbol.asyncDispose]()
  }
}

function describeSamples({ median, min, max }: SampleStats): string {
  return `${threeDigits(median)} [${threeDigits(min)}, ${threeDigits(max)}]`
}

function threeDigits(value: number): string {
  return String(Number(value.toPrecision(3)))
}

function describeShares(shares: readonly KernelShare[]): string {
  const small = shares.filter(({ share }) => share < LEAST_SHARE)
  const shown = shares.filter(({ share }) => share >= LEAST_SHARE).map(({ kernel, share }) => `${kernel} ${(100 * share).toFixed(0)} %`)
  const rest = small.reduce((sum, { share }) => sum + share, 0)
  return [...shown, ...(small.length === 0 ? [] : [`${small.length} others ${(100 * rest).toFixed(1)} %`])].join(', ')
}

const scratch = await mkdtemp(join(values.folder, 'lathe-benchmark-'))
try {
  console.log('## Compression\n')
  const compressBench = join(ROOT, 'engine/compress/bench/compress-bench.ts')
  const exitCode = await runNode(compressBench, ['--layers', values.layers, '--folder', scratch], { loud: true })
  if (exitCode !== 0) throw new Error(`the compression benchmark ended with ${exitCode}`)
  const subjects = await makeVariants(scratch)
  const usable = (await listAdapters()).filter((adapter) => adapter.usable && adapter.type !== 'reference').map((adapter) => adapter.id)
  const wanted = positionals.length > 0 ? positionals : usable
  if (wanted.length === 0) console.log('\nNo adapter: `lathe doctor` says what is missing.')
  for (const adapter of wanted) await measureAdapter(adapter, subjects)
} finally {
  await rm(scratch, { recursive: true, force: true })
}
