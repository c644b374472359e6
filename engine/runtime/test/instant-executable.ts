/** A model that answers at once with the next token id: what is left of a step's time is the host's. */
import type { Capacity, Executable, KernelTiming, Program, StepInput, StepOutput } from '../../gpu/program.ts'

export class InstantExecutable implements Executable {
  readonly program: Program
  readonly capacity: Capacity
  steps = 0

  constructor(capacity: Capacity, vocabulary: number) {
    this.capacity = capacity
    const logits = { id: 0, name: 'logits', extent: 'rows' as const, width: vocabulary }
    this.program = { operations: [], weights: [], ropes: [], logits, vocabulary }
  }

  async step({ tokenIds, logitRows }: StepInput): Promise<StepOutput> {
    this.steps++
    const rows = logitRows.length
    const sampled = logitRows.map((token) => (tokenIds[token]! + 1) % this.program.vocabulary)
    return {
      sampled,
      sampledLogprob: new Float32Array(rows),
      argmax: sampled,
      targetLogprob: new Float32Array(rows),
      topIds: new Uint32Array(0),
      topLogprobs: new Float32Array(0),
      nonFinite: false,
    }
  }

  read(): Promise<Float32Array> {
    return Promise.reject(new Error('An instant model has no activations'))
  }

  profile(): Promise<readonly KernelTiming[]> {
    return Promise.resolve([])
  }

  [Symbol.dispose](): void {
    // It holds nothing.
  }
}
