/**
 * Predicted against measured decode speed: a calibration of the adapter (engine/gpu/calibration.ts) and models of two sizes in three stored formats, in
 * turn within each round, so that an adapter that drifts drifts under both. Measured through the runtime that serves, one sequence, made-up weights;
 * predicted from the model's configuration alone, as the planner does. Both are lower quartiles of single steps, since
 * other programs only ever slow one down; the median is printed beside them. Exits with 1 where a prediction is more than 25 % off.
 *
 *   node app/dev/report/decode-prediction.ts [adapter…] [--rounds 15] [--tokens 24] [--context 128]
 */
import { parseArgs } from 'node:util'
import { HOST_SECONDS } from '../../../engine/capacity/machine.ts'
import { stepPartsOfShape } from '../../../engine/capacity/step-parts.ts'
import { modelShapeOf } from '../../../engine/capacity/model-shape.ts'
import { chooseAdapter } from '../../../engine/gpu/adapters.ts'
import type { DecoderShape } from '../../../engine/gpu/bench/synthetic.ts'
import { Calibration } from '../../../engine/gpu/calibration.ts'
import { type ProductFormat, stepSeconds } from '../../../engine/gpu/step-costs.ts'
import { lowerQuartile } from '../../../engine/gpu/step-timer.ts'
import { openBackend } from '../../../engine/gpu/webgpu/backend.ts'
import { openRuntime } from '../../../engine/runtime/open-runtime.ts'
import type { Runtime } from '../../../engine/runtime/types.ts'
import { syntheticCheckpoint, type SyntheticScheme } from './synthetic-checkpoint.ts'

/** The bar of the planner: a prediction is to be within this of what is measured. */
const MOST_ERROR = 0.25
/** Rounds that don't count. */
const WARMUPS = 2

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '15' },
    tokens: { type: 'string', default: '24' },
    context: { type: 'string', default: '128' },
  },
})
const [rounds, tokens, context] = [values.rounds, values.tokens, values.context].map(Number) as [number, number, number]

const SCHEMES: readonly (SyntheticScheme & { readonly kernel: ProductFormat })[] = [
  { title: 'BF16', bits: 16, groupSize: null, kernel: 'bf16' },
  { title: 'W8A16', bits: 8, groupSize: null, kernel: 'int8' },
  { title: 'W4A16 g128', bits: 4, groupSize: 128, kernel: 'int4' },
]
const MODELS: Readonly<Record<'software' | 'hardware', readonly { readonly title: string; readonly shape: DecoderShape }[]>> = {
  software: [
    {
      title: 'sample model',
      shape: { layers: 6, hidden: 256, heads: 4, kvHeads: 2, headDim: 64, intermediate: 640, vocabulary: 2048 },
    },
    {
      title: '30 M',
      shape: { layers: 8, hidden: 512, heads: 8, kvHeads: 4, headDim: 64, intermediate: 1536, vocabulary: 8192 },
    },
  ],
  hardware: [
    {
      title: 'Llama 3.2 1B',
      shape: { layers: 16, hidden: 2048, heads: 32, kvHeads: 8, headDim: 64, intermediate: 8192, vocabulary: 128_256 },
    },
    {
      title: 'Llama 3.1 8B',
      shape: { layers: 32, hidden: 4096, heads: 32, kvHeads: 8, headDim: 128, intermediate: 14_336, vocabulary: 128_256 },
    },
  ],
}

interface Subject {
  readonly name: string
  readonly runtime: Runtime
  readonly parts: ReturnType<typeof stepPartsOfShape>
  /** Between tokens, all rounds. */
  readonly seconds: number[]
}

/** Seconds between tokens of one answer. */
async function tokenSeconds(runtime: Runtime, round: number): Promise<number[]> {
  const promptTokens = Uint32Array.from({ length: context }, (_, index) => (17 + round + index * 7919) % runtime.info.vocabulary)
  const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0 }
  const times: number[] = []
  for await (const event of runtime.generate({ id: `${round}`, promptTokens, sampling, maxTokens: tokens, ignoreEos: true })) {
    if (event.kind === 'tokens') for (let n = 0; n < event.ids.length; n++) times.push(performance.now())
  }
  return times.slice(1).map((time, index) => (time - (times[index] ?? time)) / 1000)
}

function median(list: readonly number[]): number {
  return list.toSorted((a, b) => a - b)[list.length >> 1] ?? NaN
}

/** Largest error of the adapter's predictions. */
async function checkAdapter(wanted: string | null): Promise<number> {
  const { adapter } = await chooseAdapter(wanted)
  await using backend = await openBackend(adapter.id)
  await using stack = new AsyncDisposableStack()
  const subjects: Subject[] = []
  for (const { title, shape } of MODELS[backend.software ? 'software' : 'hardware']) {
    for (const scheme of SCHEMES) {
      const name = `${title} | ${scheme.title}`
      const source = syntheticCheckpoint(shape, scheme, 4096)
      const limits = { contextTokens: context + tokens, maxSequences: 1, fixedTokenBudget: 128 }
      const runtime = stack.use(await openRuntime({ source, backend, modelId: name, kvDtype: 'f16', tokenizer: null, ...limits }))
      const parts = stepPartsOfShape(modelShapeOf(source.config), scheme.kernel)
      subjects.push({ name, runtime, parts, seconds: [] })
    }
  }
  const began = performance.now()
  const calibration = stack.use(await Calibration.open(backend))
  const opened = performance.now()
  let calibrating = 0
  for (let round = -WARMUPS; round < rounds; round++) {
    if (round === 0) calibration.forget()
    const started = performance.now()
    await calibration.round()
    calibrating = performance.now() - started
    for (const { runtime, seconds } of subjects) {
      const times = await tokenSeconds(runtime, round + WARMUPS)
      if (round >= 0) seconds.push(...times)
    }
  }
  const costs = calibration.costs()
  const host = `${((opened - began) / 1000).toFixed(1)} s to prepare, ${(calibrating / 1000).toFixed(2)} s a round`
  console.log(
    `\n${adapter.name}, driver ${adapter.driver}: context ${context}, ${rounds} rounds of ${tokens} tokens; calibration ${host}\n`,
  )
  console.log('| model | stored as | predicted tok/s | measured tok/s | median tok/s | predicted / measured |\n|---|---|--:|--:|--:|--:|')
  const errors = subjects.map(({ name, parts, seconds }) => {
    const predicted = 1 / (stepSeconds(costs, parts, context + tokens / 2) + HOST_SECONDS)
    const measured = 1 / lowerQuartile(seconds)
    const cells = [
      name,
      ...[predicted, measured, 1 / median(seconds)].map((value) => value.toPrecision(3)),
      (predicted / measured).toFixed(2),
    ]
    console.log(`| ${cells.join(' | ')} |`)
    return Math.abs(predicted / measured - 1)
  })
  const worst = Math.max(...errors)
  console.log(`\nLargest error ${(worst * 100).toFixed(0)} %.`)
  return worst
}

const worst: number[] = []
for (const wanted of positionals.length === 0 ? [null] : positionals) worst.push(await checkAdapter(wanted))
if (worst.some((error) => !(error <= MOST_ERROR))) process.exitCode = 1
