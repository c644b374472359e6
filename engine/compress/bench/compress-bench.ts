/**
 * How fast a model is compressed, beside a plain copy of the same files on the same disk, and how much memory it takes. Generates a sharded
 * BF16 model with the shapes of a 1.1 B Llama (2.2 GB), prints a table, deletes everything.
 *
 *   node engine/compress/bench/compress-bench.ts [--layers 22] [--folder <where to work>] [--json]
 *
 * Each compression runs in a process of its own, so that its peak resident memory is its own. Weights are normal deviates; one block of them
 * is repeated at varying offsets, because making 1.1 billion would take longer than everything measured here.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, fsyncSync, mkdirSync, mkdtempSync, openSync, closeSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { narrowFromF32 } from '../../checkpoint/dtypes.ts'
import { createSafetensorsWriter, planSafetensors } from '../../checkpoint/safetensors-writer.ts'
import type { TensorLayout } from '../../checkpoint/safetensors-writer.ts'
import { compress } from '../pipeline.ts'
import { parseRecipeYaml } from '../recipe-yaml.ts'

const HIDDEN = 2048
const INTERMEDIATE = 5632
const VOCABULARY = 32_000
const KEY_VALUE = 256

/** Name in the table → preset id, or a recipe where no preset has it. */
const RUNS: readonly (readonly [string, string])[] = [
  ['W8A16 channel, round to nearest', 'near-lossless-8bit'],
  ['W4A16 g128, round to nearest', 'QuantizationModifier: {scheme: W4A16, ignore: [lm_head]}'],
  ['W4A16 g128, MSE search', 'quick-4bit'],
  ['W4A16 g32 asymmetric, MSE search', 'fine-4bit'],
]

function tensor(name: string, ...shape: number[]): TensorLayout {
  return { name, dtype: 'BF16', shape }
}

function layoutOf(layers: number): TensorLayout[] {
  const layer = (i: number): TensorLayout[] => {
    const p = `model.layers.${i}`
    return [
      tensor(`${p}.input_layernorm.weight`, HIDDEN),
      tensor(`${p}.self_attn.q_proj.weight`, HIDDEN, HIDDEN),
      tensor(`${p}.self_attn.k_proj.weight`, KEY_VALUE, HIDDEN),
      tensor(`${p}.self_attn.v_proj.weight`, KEY_VALUE, HIDDEN),
      tensor(`${p}.self_attn.o_proj.weight`, HIDDEN, HIDDEN),
      tensor(`${p}.post_attention_layernorm.weight`, HIDDEN),
      tensor(`${p}.mlp.gate_proj.weight`, INTERMEDIATE, HIDDEN),
      tensor(`${p}.mlp.up_proj.weight`, INTERMEDIATE, HIDDEN),
      tensor(`${p}.mlp.down_proj.weight`, HIDDEN, INTERMEDIATE),
    ]
  }
  return [
    tensor('model.embed_tokens.weight', VOCABULARY, HIDDEN),
    ...Array.from({ length: layers }, (_, i) => layer(i)).flat(),
    tensor('model.norm.weight', HIDDEN),
    tensor('lm_head.weight', VOCABULARY, HIDDEN),
  ]
}

/** 8 M normal deviates (Box–Muller over a small generator) as bf16. */
function noise(): Uint8Array {
  let state = 12345
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state + 0.5) / 2 ** 32
  }
  const values = new Float32Array(8 << 20)
  for (let i = 0; i < values.length; i += 2) {
    const radius = 0.02 * Math.sqrt(-2 * Math.log(uniform()))
    const angle = 2 * Math.PI * uniform()
    values[i] = radius * Math.cos(angle)
    values[i + 1] = radius * Math.sin(angle)
  }
  return narrowFromF32(values, 'BF16')
}

async function generate(folder: string, layers: number): Promise<number> {
  mkdirSync(folder)
  const plan = planSafetensors(layoutOf(layers), { maxShardBytes: 800_000_000 })
  const block = noise()
  await using writer = await createSafetensorsWriter({ folder, plan })
  let shift = 0
  for (const { name, byteLength } of plan.files.flatMap((file) => file.tensors)) {
    for (let done = 0; done < byteLength;) {
      // An odd multiple of the element size, so that no two tensors are equal.
      shift = (shift + 7_654_322) % (block.byteLength / 2)
      const length = Math.min(byteLength - done, block.byteLength - shift)
      await writer.write(name, block.subarray(shift, shift + length))
      done += length
    }
  }
  await writer.finish()
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: HIDDEN,
    intermediate_size: INTERMEDIATE,
    num_hidden_layers: layers,
    num_attention_heads: 32,
    num_key_value_heads: 4,
    vocab_size: VOCABULARY,
    torch_dtype: 'bfloat16',
  }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config, null, 2))
  return plan.fileBytes
}

function copyAll(from: string, to: string): { seconds: number; secondsToDisk: number } {
  mkdirSync(to)
  const start = performance.now()
  for (const name of readdirSync(from)) copyFileSync(join(from, name), join(to, name))
  const seconds = (performance.now() - start) / 1000
  for (const name of readdirSync(to)) {
    const handle = openSync(join(to, name), 'r+')
    fsyncSync(handle)
    closeSync(handle)
  }
  const secondsToDisk = (performance.now() - start) / 1000
  rmSync(to, { recursive: true })
  return { seconds, secondsToDisk }
}

interface Measured {
  readonly seconds: number
  readonly cpuSeconds: number
  readonly peakRssBytes: number
  readonly bytesOut: number
}

async function runChild(source: string, out: string, what: string): Promise<void> {
  const report = await compress({
    sourceFolder: source,
    outFolder: out,
    recipe: what.includes(':') ? { recipe: parseRecipeYaml(what) } : { presetId: what },
    seed: 0,
    resume: false,
    latheVersion: 'bench',
  })
  // The kernel's own figure for the whole process, threads included (kilobytes).
  const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage()
  const cpuSeconds = (userCPUTime + systemCPUTime) / 1e6
  const measured: Measured = { seconds: report.seconds, cpuSeconds, peakRssBytes: maxRSS * 1024, bytesOut: report.bytesOut }
  process.stdout.write(JSON.stringify(measured))
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      layers: { type: 'string', default: '22' },
      folder: { type: 'string', default: tmpdir() },
      json: { type: 'boolean', default: false },
    },
  })
  const [mode, source, out, what] = positionals
  if (mode === 'child' && source !== undefined && out !== undefined && what !== undefined) return runChild(source, out, what)

  const work = mkdtempSync(join(resolve(values.folder), 'lathe-bench-'))
  try {
    const model = join(work, 'model')
    const bytes = await generate(model, Number(values.layers))
    const shards = readdirSync(model).filter((name) => name.endsWith('.safetensors'))
    // Once unmeasured, so that all that follows reads from the same page cache.
    copyAll(model, join(work, 'copy'))
    const copies = [copyAll(model, join(work, 'copy')), copyAll(model, join(work, 'copy'))]
    const copy = Math.min(...copies.map((one) => one.seconds))
    const copyToDisk = Math.min(...copies.map((one) => one.secondsToDisk))
    const rate = (seconds: number): number => bytes / 1e6 / seconds
    // Other work on the machine slows the threads of a compression more than the one of a copy: say how much there was.
    const load = loadavg()[0] ?? 0
    const rows: Record<string, unknown>[] = [
      { what: 'copy of the files', seconds: copy, mb_per_second: rate(copy), of_copy: 1 },
      { what: 'copy, forced to the disk', seconds: copyToDisk, mb_per_second: rate(copyToDisk), of_copy: copy / copyToDisk },
    ]
    for (const [name, recipe] of RUNS) {
      const output = join(work, 'result')
      const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), 'child', model, output, recipe], { encoding: 'utf8' })
      if (child.status !== 0) throw new Error(`${name} failed: ${child.stderr}`)
      const { seconds, cpuSeconds, peakRssBytes, bytesOut } = JSON.parse(child.stdout) as Measured
      const ratio = copy / seconds
      rows.push({
        what: name,
        seconds,
        cpu_seconds: cpuSeconds,
        mb_per_second: rate(seconds),
        of_copy: ratio,
        peak_rss_mb: peakRssBytes / 1e6,
        out_mb: bytesOut / 1e6,
      })
      rmSync(output, { recursive: true })
    }
    if (values.json)
      return console.log(JSON.stringify({ bytes, shards: shards.length, cores: availableParallelism(), load_before: load, rows }))
    const largest = Math.max(...shards.map((name) => statSync(join(model, name)).size))
    console.log(`Source: ${(bytes / 1e9).toFixed(2)} GB BF16 in ${shards.length} shards (largest ${(largest / 1e6).toFixed(0)} MB).`)
    console.log(
      `Machine: ${availableParallelism()} cores, ${cpus()[0]?.model ?? 'unknown CPU'}, Node ${process.version}, load ${load.toFixed(1)} before the runs. Verification included.\n`,
    )
    console.log('| | seconds | CPU seconds | source MB/s | of copy | peak RSS | result |\n|---|---:|---:|---:|---:|---:|---:|')
    for (const row of rows) {
      const number = (key: string, digits: number, unit = ''): string => {
        const value = row[key]
        return typeof value === 'number' ? `${value.toFixed(digits)}${unit}` : '–'
      }
      console.log(
        `| ${String(row['what'])} | ${number('seconds', 1)} | ${number('cpu_seconds', 1)} | ${number('mb_per_second', 0)} | ${number('of_copy', 2)} | ${number('peak_rss_mb', 0, ' MB')} | ${number('out_mb', 0, ' MB')} |`,
      )
    }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

await main()
