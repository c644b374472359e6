/**
 * What a decode step costs outside of the device: queue, schedule, build, apply, emit, detokenize, deliver. The fake model answers at once, so all
 * the time that passes is the host's. Run: node engine/runtime/bench/host-time.ts
 */
import { BlockPool } from '../block-pool.ts'
import { Core } from '../core.ts'
import { LocalRuntime } from '../local-runtime.ts'
import { PrefixHasher } from '../prefix-hash.ts'
import { FixedStepBudget } from '../step-budget.ts'
import { createFakeBackend, fakeTokenizer, GREEDY } from '../test/fake-runtime.ts'
import { InstantExecutable } from '../test/instant-executable.ts'

const VOCABULARY = 32_000
const CONTEXT = 32_768
const BLOCK_SIZE = 32
const OUTPUT_TOKENS = 2000

const pieces = new Map(Array.from({ length: VOCABULARY }, (_, id) => [id, ` word${id}`] as const))

async function measure(batch: number, promptTokens: number): Promise<{ hostMs: number; wallMs: number }> {
  const blocksPerSequence = CONTEXT / BLOCK_SIZE
  const blocks = batch * Math.ceil((promptTokens + OUTPUT_TOKENS) / BLOCK_SIZE) + blocksPerSequence + 1
  const executable = new InstantExecutable({ tokens: 512, rows: 64, sequences: batch, blocksPerSequence }, VOCABULARY)
  await using runtime = new LocalRuntime({
    info: {
      modelId: 'instant',
      adapterId: 'instant',
      software: true,
      contextLimit: CONTEXT,
      modelContextLimit: CONTEXT,
      maxSequences: batch,
      kvDtype: 'f16',
      vocabulary: VOCABULARY,
      eosTokenIds: [],
      defaultSampling: GREEDY,
      weightBytes: 0,
      kvBytes: 0,
      otherBytes: 0,
      loadMs: 0,
    },
    backend: createFakeBackend(),
    tokenizer: fakeTokenizer(pieces, []),
    createCore: (emit) =>
      new Core({
        executable,
        pool: new BlockPool(blocks, BLOCK_SIZE),
        hasher: new PrefixHasher(BLOCK_SIZE),
        budget: new FixedStepBudget(512),
        contextLimit: CONTEXT,
        modelId: 'instant',
        emit,
      }),
    release: () => undefined,
  })
  let decodeStarted = 0
  let steps = 0
  const one = async (index: number): Promise<void> => {
    const prompt = Uint32Array.from({ length: promptTokens }, (_, i) => (i * 7 + index) % VOCABULARY)
    const request = { id: `r${index}`, promptTokens: prompt, sampling: { ...GREEDY, temperature: 1 }, maxTokens: OUTPUT_TOKENS }
    for await (const event of runtime.generate({ ...request, stopStrings: ['never said'] })) {
      if (event.kind === 'tokens' && decodeStarted === 0) {
        decodeStarted = performance.now()
        steps = executable.steps
      }
    }
  }
  await Promise.all(Array.from({ length: batch }, (_, index) => one(index)))
  const wallMs = (performance.now() - decodeStarted) / (executable.steps - steps)
  return { hostMs: runtime.telemetry().hostMsPerStep ?? Number.NaN, wallMs }
}

await measure(1, 64)
console.log('batch  prompt   in the loop   whole step (ms; delivery to the consumer included)')
for (const batch of [1, 8, 32]) {
  for (const prompt of [64, 16_384]) {
    const { hostMs, wallMs } = await measure(batch, prompt)
    console.log(
      `${String(batch).padStart(5)} ${String(prompt).padStart(7)} ${hostMs.toFixed(4).padStart(13)} ${wallMs.toFixed(4).padStart(12)}`,
    )
  }
}
