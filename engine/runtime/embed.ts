/**
 * The hidden state of a text: what the final norm makes of its last token, or of all of them on average. Runs between the steps of the core, on
 * blocks that wait their turn in its queue, so that chats go on beside it. The rows are those that logits would be made from.
 */
import { LatheError } from '../contract/errors.ts'
import type { Program, StepInput, Value } from '../gpu/program.ts'
import type { LocalRuntime } from './local-runtime.ts'
import { Request } from './request.ts'
import { validateTokens } from './sampling.ts'
import { StepBuilder } from './step-builder.ts'
import type { EmbedRequest } from './types.ts'

/** Throws `runtime.invalid-request`, `runtime.context-exceeded`, `runtime.non-finite`, `runtime.aborted`. [hidden] */
export async function embed(runtime: LocalRuntime, { tokens, pooling, signal }: EmbedRequest): Promise<Float32Array> {
  const { core, info } = runtime
  validateTokens(tokens, info.vocabulary)
  const count = tokens.length
  if (count > info.contextLimit) {
    throw new LatheError(
      'runtime.context-exceeded',
      `The text has ${count} tokens; the context holds ${info.contextLimit}.`,
      'Embed it in parts.',
    )
  }
  const state = finalState(core.executable.program)
  // One more than is fed: a sequence's last token never is.
  const sequence = new Uint32Array(count + 1)
  sequence.set(tokens)
  using reservation = await runtime.reserve(sequence, signal)
  const request = new Request('embed', sequence, { kind: 'score', from: 1, topCount: 0 }, 0)
  request.table = [...reservation.table]
  const { capacity } = core.executable
  const builder = new StepBuilder(capacity, core.pool.blockSize)
  const sum = new Float64Array(state.width)
  for (let start = 0; start < count;) {
    if (signal?.aborted === true) throw new LatheError('runtime.aborted', 'The embedding was cancelled.', 'Start it again.')
    const most = Math.min(capacity.tokens, core.stepTokens(), pooling === 'mean' ? capacity.rows : Infinity)
    const end = Math.min(count, start + Math.max(1, most))
    const rows = pooling === 'mean' ? end - start : end === count ? 1 : 0
    const states = await core.exclusive(async () => {
      const input: StepInput = builder.build({ entries: [{ request, start, count: end - start, rows }], tokens: end - start, rows })
      const began = performance.now()
      await core.executable.step(input)
      core.observeStep(end - start, performance.now() - began)
      return rows === 0 ? null : core.executable.read(state)
    })
    if (states !== null) for (const [index, value] of states.entries()) sum[index % state.width] = (sum[index % state.width] ?? 0) + value
    start = end
  }
  const divisor = pooling === 'mean' ? count : 1
  const vector = Float32Array.from(sum, (value) => value / divisor)
  if (vector.every(Number.isFinite)) return vector
  throw new LatheError(
    'runtime.non-finite',
    'The model’s hidden state is not a number (NaN or infinity).',
    'Its weights are damaged or overflow. Use another variant.',
    { data: { modelId: info.modelId } },
  )
}

/** What the matrix that makes the logits reads. */
function finalState(program: Program): Value {
  let made = program.logits
  for (;;) {
    const operation = program.operations.findLast((candidate) => 'out' in candidate && candidate.out.id === made.id)
    if (operation === undefined || !('x' in operation)) throw new Error('The program makes its logits in a way that is not known')
    if (operation.op === 'linear') return operation.x
    // A scaling or capping of the logits.
    made = operation.x
  }
}
