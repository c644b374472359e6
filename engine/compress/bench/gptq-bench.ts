/**
 * `node engine/compress/bench/gptq-bench.ts [--adapter ID] [--shape llama-8b|tiny] [--torch]`: GPTQ of one decoder layer on the device, part by part:
 * Gram matrices of 128 × 2048 tokens, factorizations, rounding to W4 in groups of 128. With --torch the same arithmetic by gptq-torch.py on the same
 * card, before and after, and the ratio.
 *
 * Inputs are random with correlated columns of very different sizes (as activations have them), made in 8 pieces of 2048 tokens, each used 16
 * times; weights are normal. What is timed starts with inputs in device memory and ends with codes in host memory. Not timed: the layer's own
 * forward pass, reading and writing files.
 */
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { type Accumulator, isStateful, type Program, type Value } from '../../gpu/program.ts'
import { hasSecondOrder } from '../../gpu/second-order.ts'
import { openBackend } from '../../gpu/webgpu/backend.ts'

const TOKENS = 2048
const SAMPLES = 128
const PIECES = 8
const GROUP = 128

interface Input {
  readonly columns: number
  /** Rows of the linears that read it. */
  readonly rows: readonly number[]
}

interface Shape {
  readonly name: string
  readonly tokens: number
  readonly inputs: readonly Input[]
}

const SHAPES: readonly Shape[] = [
  {
    name: 'llama-8b',
    tokens: TOKENS,
    inputs: [
      { columns: 4096, rows: [4096, 1024, 1024] },
      { columns: 4096, rows: [4096] },
      { columns: 4096, rows: [14336, 14336] },
      { columns: 14336, rows: [4096] },
    ],
  },
  {
    name: 'tiny',
    tokens: 64,
    inputs: [
      { columns: 256, rows: [256, 128, 128] },
      { columns: 640, rows: [256] },
    ],
  },
]

/** A 32-bit xorshift; only speed is measured, so statistical quality does not matter, but every run sees the same numbers. */
function uniforms(seed: number): () => number {
  let state = seed | 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

/** [tokens, columns]: a common direction per token, noise, and one column in 64 twenty times as large. */
function activations(tokens: number, columns: number, seed: number): Float32Array {
  const random = uniforms(seed)
  const out = new Float32Array(tokens * columns)
  for (let token = 0; token < tokens; token++) {
    const common = random() - 0.5
    for (let column = 0; column < columns; column++) {
      const value = (random() - 0.5) * 2 + common * ((column % 7) - 3) * 0.3
      out[token * columns + column] = column % 64 === 5 ? value * 20 : value
    }
  }
  return out
}

interface Seconds {
  gram: number
  factor: number
  round: number
}

async function measure(
  adapter: string | null,
  { tokens, inputs }: Shape,
): Promise<{ adapter: string; seconds: Seconds; meanLoss: number }> {
  await using backend = await openBackend(adapter)
  if (!hasSecondOrder(backend)) throw new Error(`${backend.id} has no factorization on the device`)
  const seconds: Seconds = { gram: 0, factor: 0, round: 0 }
  let loss = 0
  for (const { columns, rows } of inputs) {
    const x: Value = { id: 0, name: 'x', extent: 'tokens', width: columns }
    const logits: Value = { id: 1, name: 'logits', extent: 'rows', width: columns }
    const gram: Accumulator = { id: 0, name: 'gram', kind: 'gram', width: columns }
    const operations: Program['operations'] = [
      { op: 'input', out: x },
      { op: 'gram', x, out: gram },
      { op: 'gatherRows', x, out: logits },
    ]
    const kvLayout = { layers: 1, kvHeads: 1, headDim: 4, blockSize: 16, blocks: Math.ceil(tokens / 16) + 1, dtype: 'f32' } as const
    using kv = await backend.createKvCache(kvLayout, 'bench')
    const capacity = { tokens, rows: 1, sequences: 1, blocksPerSequence: Math.ceil(tokens / 16) }
    const program: Program = { operations, weights: [], ropes: [], logits, vocabulary: columns }
    using executable = await backend.compile(program, { capacity, kv, owner: 'bench' })
    if (!isStateful(executable)) throw new Error('no accumulators')
    const step = {
      tokenIds: new Uint32Array(tokens),
      positions: Uint32Array.from({ length: tokens }, (_, i) => i),
      slots: Uint32Array.from({ length: tokens }, (_, i) => i + 16),
      sequenceOfToken: new Uint32Array(tokens),
      queryStart: Uint32Array.of(0, tokens),
      sequenceLength: Uint32Array.of(tokens),
      blockTable: Uint32Array.from({ length: capacity.blocksPerSequence }, (_, i) => i + 1),
      logitRows: new Uint32Array(0),
      samplers: [],
      targets: new Uint32Array(0),
      topCount: 0,
    }
    for (let piece = 0; piece < PIECES; piece++) {
      executable.write(x, activations(tokens, columns, piece + 1))
      if (piece === 0) {
        // The driver compiles at the first dispatch.
        await executable.step(step)
        executable.clear()
      }
      const started = performance.now()
      for (let n = 0; n < SAMPLES / PIECES; n++) await executable.step(step)
      seconds.gram += (performance.now() - started) / 1000
    }
    let started = performance.now()
    using solver = await backend.factorHessian({
      columns,
      source: { kind: 'device', executable, accumulator: gram },
      dampening: 0.01,
      order: 'importance',
    })
    seconds.factor += (performance.now() - started) / 1000
    if (solver === null) throw new Error('not factored')
    for (const [index, count] of rows.entries()) {
      const random = uniforms(1000 + index)
      const weight = Float32Array.from({ length: count * columns }, () => (random() + random() + random() - 1.5) * 0.03)
      const scales = new Float32Array((count * columns) / GROUP)
      for (let group = 0; group < scales.length; group++) {
        let most = 0
        for (const value of weight.subarray(group * GROUP, (group + 1) * GROUP)) most = Math.max(most, Math.abs(value))
        scales[group] = most / 7.5
      }
      started = performance.now()
      const grid = {
        element: { kind: 'integer', minimum: -8, maximum: 7 } as const,
        columnsPerScale: GROUP,
        scales,
        zeroPoints: null,
        mask: null,
      }
      const result = await solver.round({ rows: count, weight, ...grid })
      seconds.round += (performance.now() - started) / 1000
      loss += result.loss / result.codes.length
    }
  }
  return { adapter: backend.id, seconds, meanLoss: loss }
}

interface TorchSeconds extends Seconds {
  readonly device: string
}

function torch({ tokens, inputs }: Shape): TorchSeconds {
  const script = new URL('gptq-torch.py', import.meta.url).pathname
  const job = JSON.stringify({ tokens, samples: SAMPLES, pieces: PIECES, group: GROUP, inputs })
  const { stdout, status } = spawnSync('python3', [script, job], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  if (status !== 0) throw new Error('python3 gptq-torch.py failed: it needs PyTorch')
  return JSON.parse(stdout) as TorchSeconds
}

function line(name: string, { gram, factor, round }: Seconds): string {
  return `| ${name} | ${gram.toFixed(2)} | ${factor.toFixed(2)} | ${round.toFixed(2)} | ${(gram + factor + round).toFixed(2)} |`
}

const { values } = parseArgs({
  options: { adapter: { type: 'string' }, shape: { type: 'string', default: 'llama-8b' }, torch: { type: 'boolean', default: false } },
})
const shape = SHAPES.find(({ name }) => name === values.shape)
if (shape === undefined) throw new Error(`--shape takes ${SHAPES.map(({ name }) => name).join(' or ')}`)
const before = values.torch ? torch(shape) : null
const ours = await measure(values.adapter ?? null, shape)
const after = values.torch ? torch(shape) : null
console.log(`One layer of ${shape.name}, ${SAMPLES} × ${shape.tokens} tokens, W4 g${GROUP}, on ${ours.adapter}; seconds`)
console.log('| | Gram | factor | round | all |\n|---|--:|--:|--:|--:|')
if (before !== null) console.log(line(`PyTorch on ${before.device}, before`, before))
console.log(line('Lathe', ours.seconds))
if (after !== null) console.log(line('PyTorch, after', after))
if (before !== null && after !== null) {
  const sum = ({ gram, factor, round }: Seconds): number => gram + factor + round
  console.log(`Lathe takes ${((2 * sum(ours.seconds)) / (sum(before) + sum(after))).toFixed(2)} of PyTorch's time`)
}
