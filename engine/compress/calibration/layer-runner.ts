/**
 * Runs one decoder layer over all calibration activations: samples packed into steps, one KV cache for all layers, results read back or only
 * added to statistics. Bits depend on the adapter alone, not on how samples are packed (DESIGN §3).
 */
import { absmax } from '../algorithms/round-to-floats.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'
import type { Accumulator, Backend, Capacity, Executable, KvCache, RopeTable, StatefulExecutable, StepInput } from '../../gpu/program.ts'
import { isStateful } from '../../gpu/program.ts'
import { buildLayerProgram, inputWidths } from '../../model/layer-program.ts'
import type { InputAccumulators, LayerInput, LayerProgram } from '../../model/layer-program.ts'
import { DEFAULT_BLOCK_SIZE } from '../../model/memory.ts'
import { ropeTable } from '../../model/rope.ts'
import type { ModelSpec } from '../../model/spec.ts'

/** WebGPU's guaranteed storage binding; the widest activation of a step fits it on every adapter. */
const BINDING_BYTES = 128 << 20
/** Beyond this a step gains nothing and takes long to cancel; a CPU's step is long anyway. */
const MAX_TOKENS = { gpu: 2048, software: 1024 } as const
const OWNER = 'calibration'

/** Tokens that run in one step, of one or several samples; a sample longer than a step takes several, one after another. */
interface PlannedStep {
  readonly firstRow: number
  readonly rows: number
  readonly input: StepInput
}

/** Samples whose activations are stored together. */
interface Group {
  readonly rows: number
  readonly firstSample: number
  readonly samples: number
  readonly steps: readonly PlannedStep[]
}

/** What one pass left on the device, until disposed. */
export interface CollectedStatistics extends Disposable {
  readonly tokens: number
  readonly inputs: readonly LayerInput[]
  /** The layer's output of the first group. */
  readonly firstOutput: Float32Array
  /** Σ|x|, Σx², max(0, x), max(0, −x): [4, width]. */
  columns(input: LayerInput): Promise<Float32Array>
  /** Σ x·xᵀ, [width, width]. */
  gram(input: LayerInput): Promise<Float32Array>
  /** The same where it lies. */
  gramOnDevice(input: LayerInput): { readonly executable: StatefulExecutable; readonly accumulator: Accumulator }
}

export class LayerRunner implements AsyncDisposable {
  readonly spec: ModelSpec
  readonly backend: Backend
  readonly groups: readonly Group[]
  readonly tokens: number
  readonly #capacity: Capacity
  readonly #kv: KvCache
  readonly #rope: RopeTable
  readonly #throwIfCancelled: () => void
  #peakBytes = 0

  private constructor(parts: {
    spec: ModelSpec
    backend: Backend
    groups: readonly Group[]
    capacity: Capacity
    kv: KvCache
    rope: RopeTable
    throwIfCancelled: () => void
  }) {
    this.spec = parts.spec
    this.backend = parts.backend
    this.groups = parts.groups
    this.tokens = parts.groups.reduce((sum, group) => sum + group.rows, 0)
    this.#capacity = parts.capacity
    this.#kv = parts.kv
    this.#rope = parts.rope
    this.#throwIfCancelled = parts.throwIfCancelled
  }

  static async create(
    spec: ModelSpec,
    backend: Backend,
    sampleLengths: readonly number[],
    throwIfCancelled: () => void,
  ): Promise<LayerRunner> {
    const { tokens, groups } = planGroups(sampleLengths, stepTokens(spec, backend.kind !== 'webgpu' || backend.software))
    const longest = Math.max(...sampleLengths)
    const blocksPerSequence = Math.ceil(longest / DEFAULT_BLOCK_SIZE)
    const sequences = Math.max(...groups.map((group) => group.samples))
    const steps = planSteps(groups, sampleLengths, tokens, blocksPerSequence)
    const capacity: Capacity = { tokens, rows: 1, sequences, blocksPerSequence }
    const blocks = 1 + Math.max(...groups.map((group) => blocksOf(group, sampleLengths)))
    const { kvHeads, headDim } = spec
    const kv = await backend.createKvCache({ layers: 1, kvHeads, headDim, blockSize: DEFAULT_BLOCK_SIZE, blocks, dtype: 'f32' }, OWNER)
    return new LayerRunner({ spec, backend, groups: steps, capacity, kv, rope: ropeTable(spec.rope, longest), throwIfCancelled })
  }

  /** Sums over all tokens of the inputs asked for, with the weights of `checkpoint`. */
  async collect(
    checkpoint: Checkpoint,
    layer: number,
    inputs: readonly LayerInput[],
    activations: (group: number) => Promise<Float32Array>,
  ): Promise<CollectedStatistics> {
    const built = buildLayerProgram(this.spec, checkpoint, { layer, rope: this.#rope, statistics: inputs, stopAfter: 'layer' })
    const executable = await this.#compile(built)
    let firstOutput = new Float32Array(0)
    try {
      for (const [index, group] of this.groups.entries()) {
        const rows = await activations(index)
        if (index === 0) firstOutput = new Float32Array(rows.length)
        for (const step of group.steps) {
          await this.#step(executable, built, rows, step)
          if (index === 0) firstOutput.set(await executable.read(built.hidden), step.firstRow * this.spec.hiddenSize)
        }
      }
    } catch (error) {
      executable[Symbol.dispose]()
      throw error
    }
    const accumulators = (input: LayerInput): InputAccumulators => {
      const found = built.statistics.get(input)
      if (found === undefined) throw new Error(`no statistics of ${input} were collected`)
      return found
    }
    return {
      tokens: this.tokens,
      inputs,
      firstOutput,
      columns: (input) => executable.accumulated(accumulators(input).columns),
      gram: (input) => executable.accumulated(accumulators(input).gram),
      gramOnDevice: (input) => ({ executable, accumulator: accumulators(input).gram }),
      [Symbol.dispose]: () => executable[Symbol.dispose](),
    }
  }

  /** The layer's output (or the hidden states after attention) of the given groups, one after another. */
  async outputs(
    checkpoint: Checkpoint,
    layer: number,
    options: {
      readonly at: 'attention' | 'layer'
      /** `attention`: `activations` are hidden states after attention, and only the MLP is run; default the layer's inputs. */
      readonly from?: 'attention'
      readonly groups: readonly number[]
      readonly activations: (group: number) => Promise<Float32Array>
      readonly take: (group: number, output: Float32Array) => Promise<void>
    },
  ): Promise<void> {
    const { at, from = null } = options
    const program = { layer, rope: this.#rope, statistics: [], stopAfter: at, startAfter: from }
    const built = buildLayerProgram(this.spec, checkpoint, program)
    using executable = await this.#compile(built)
    for (const index of options.groups) {
      const group = this.groups[index]
      if (group === undefined) throw new RangeError(`no group ${index}`)
      const rows = await options.activations(index)
      const output = new Float32Array(rows.length)
      for (const step of group.steps) {
        await this.#step(executable, built, rows, step)
        output.set(await executable.read(built.hidden), step.firstRow * this.spec.hiddenSize)
      }
      await options.take(index, output)
    }
  }

  /** Largest magnitudes that the layer puts into its cache: keys after rotation, and values. */
  async keyValueMaxima(
    checkpoint: Checkpoint,
    layer: number,
    activations: (group: number) => Promise<Float32Array>,
  ): Promise<{ readonly k: number; readonly v: number }> {
    const built = buildLayerProgram(this.spec, checkpoint, { layer, rope: this.#rope, statistics: [], stopAfter: 'attention' })
    using executable = await this.#compile(built)
    const maxima = { k: 0, v: 0 }
    for (const [index, group] of this.groups.entries()) {
      const rows = await activations(index)
      for (const step of group.steps) {
        await this.#step(executable, built, rows, step)
        for (const which of ['k', 'v'] as const) {
          maxima[which] = Math.max(maxima[which], absmax(await this.#kv.read(0, which, step.input.slots)))
        }
      }
    }
    return maxima
  }

  /** Most that the backend held at any time, whoever owned it. */
  get peakBytes(): number {
    return this.#peakBytes
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#kv[Symbol.dispose]()
    return Promise.resolve()
  }

  async #compile(built: LayerProgram): Promise<StatefulExecutable> {
    this.#throwIfCancelled()
    const executable: Executable = await this.backend.compile(built.program, { capacity: this.#capacity, kv: this.#kv, owner: OWNER })
    this.#peakBytes = Math.max(
      this.#peakBytes,
      this.backend
        .usage()
        .values()
        .reduce((sum, { bytes }) => sum + bytes, 0),
    )
    if (!isStateful(executable)) throw new Error('this backend cannot calibrate')
    return executable
  }

  async #step(executable: StatefulExecutable, built: LayerProgram, rows: Float32Array, step: PlannedStep): Promise<void> {
    this.#throwIfCancelled()
    const width = this.spec.hiddenSize
    executable.write(built.hidden, rows.subarray(step.firstRow * width, (step.firstRow + step.rows) * width))
    await executable.step(step.input)
  }
}

/** Tokens of one step at most. */
export function stepTokens(spec: ModelSpec, software: boolean): number {
  const widest = Math.max(2 * spec.intermediateSize, (spec.heads + 2 * spec.kvHeads) * spec.headDim, ...Object.values(inputWidths(spec)))
  const most = software ? MAX_TOKENS.software : MAX_TOKENS.gpu
  return Math.max(1, Math.min(most, Math.floor(BINDING_BYTES / (4 * widest))))
}

/** Whole samples in order, as many as fit a step; a longer one has a group to itself. */
function planGroups(
  lengths: readonly number[],
  limit: number,
): { readonly tokens: number; readonly groups: readonly Omit<Group, 'steps'>[] } {
  const groups: { rows: number; firstSample: number; samples: number }[] = []
  for (const [sample, length] of lengths.entries()) {
    const last = groups.at(-1)
    if (last !== undefined && last.rows + length <= limit) {
      last.rows += length
      last.samples++
    } else groups.push({ rows: length, firstSample: sample, samples: 1 })
  }
  return { tokens: Math.min(limit, Math.max(...groups.map((group) => group.rows))), groups }
}

function blocksOf(group: Pick<Group, 'firstSample' | 'samples'>, lengths: readonly number[]): number {
  const own = lengths.slice(group.firstSample, group.firstSample + group.samples)
  return own.reduce((sum, length) => sum + Math.ceil(length / DEFAULT_BLOCK_SIZE), 0)
}

function planSteps(
  groups: readonly Omit<Group, 'steps'>[],
  lengths: readonly number[],
  limit: number,
  blocksPerSequence: number,
): readonly Group[] {
  return groups.map((group) => {
    const own = lengths.slice(group.firstSample, group.firstSample + group.samples)
    if (group.rows <= limit) return { ...group, steps: [{ firstRow: 0, rows: group.rows, input: stepOf(own, 0, blocksPerSequence) }] }
    const steps: PlannedStep[] = []
    for (let firstRow = 0; firstRow < group.rows; firstRow += limit) {
      const rows = Math.min(limit, group.rows - firstRow)
      steps.push({ firstRow, rows, input: stepOf([firstRow + rows], firstRow, blocksPerSequence) })
    }
    return { ...group, steps }
  })
}

/** Samples of these lengths side by side, of which the first `past` tokens (of a single sample) are cached already. */
function stepOf(lengths: readonly number[], past: number, blocksPerSequence: number): StepInput {
  const tokens = lengths.reduce((sum, length) => sum + length, 0) - past
  const positions = new Uint32Array(tokens)
  const slots = new Uint32Array(tokens)
  const sequenceOfToken = new Uint32Array(tokens)
  const queryStart = new Uint32Array(lengths.length + 1)
  const blockTable = new Uint32Array(lengths.length * blocksPerSequence)
  let token = 0
  // Block 0 is the null block.
  let block = 1
  for (const [sequence, length] of lengths.entries()) {
    for (let i = 0; i < Math.ceil(length / DEFAULT_BLOCK_SIZE); i++) blockTable[sequence * blocksPerSequence + i] = block + i
    for (let position = past; position < length; position++) {
      positions[token] = position
      slots[token] = (block + Math.floor(position / DEFAULT_BLOCK_SIZE)) * DEFAULT_BLOCK_SIZE + (position % DEFAULT_BLOCK_SIZE)
      sequenceOfToken[token] = sequence
      token++
    }
    block += Math.ceil(length / DEFAULT_BLOCK_SIZE)
    queryStart[sequence + 1] = token
  }
  return {
    tokenIds: new Uint32Array(tokens),
    positions,
    slots,
    sequenceOfToken,
    queryStart,
    sequenceLength: Uint32Array.from(lengths),
    blockTable,
    logitRows: new Uint32Array(0),
    samplers: [],
    targets: new Uint32Array(0),
    topCount: 0,
  }
}
