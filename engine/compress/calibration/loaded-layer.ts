/**
 * The LayerContext of a run: one layer's tensors as f32, what steps have done to them, and the statistics of its inputs, collected when first
 * asked for. Everything here is gone when the layer is.
 */
import { createHash } from 'node:crypto'
import { findNonFinite, isDenseDtype, widenToF32 } from '../../checkpoint/dtypes.ts'
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import type { Checkpoint, TensorEntry } from '../../checkpoint/types.ts'
import { LatheError } from '../../contract/errors.ts'
import type { HessianSource } from '../../gpu/second-order.ts'
import { LAYER_INPUTS, inputWidths } from '../../model/layer-program.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { ClipOptions } from '../algorithms/awq.ts'
import { compareNames } from '../module-roles.ts'
import type { WorkerPool } from '../worker-pool.ts'
import type { ActivationStore } from './activations.ts'
import type {
  Candidate,
  InputStatistics,
  LayerChanges,
  LayerContext,
  LayerInput,
  LayerLinear,
  LayerNorm,
  LayerProbe,
  LinearStorage,
  LinearRole,
  NormRole,
  OutputErrors,
} from './layer-context.ts'
import type { CollectedStatistics, LayerRunner } from './layer-runner.ts'
import { sharedFloats } from './compute-job.ts'
import { openProbe } from './layer-probe.ts'
import { clippedLinear, openOutputErrors, roundedLinear } from './layer-trials.ts'
import type { TrialMatter } from './layer-trials.ts'
import { withValues } from './memory-checkpoint.ts'

interface LayerTensor {
  readonly entry: TensorEntry
  readonly dtype: DenseDtype
  readonly sha256: string
  readonly original: Float32Array
  /** The original with what smoothing did to it: what pruned weights are repaired towards. */
  target: Float32Array
  current: Float32Array
}

export interface LoadedLayerOptions {
  readonly source: Checkpoint
  readonly runner: LayerRunner
  readonly store: ActivationStore
  readonly layer: number
  readonly seed: number
  /** Gram matrices held at once; more inputs are collected in several passes. */
  readonly gramBytes: number
  readonly storage: (module: string) => LinearStorage | null
  readonly pool: WorkerPool
  readonly note: (text: string) => void
  readonly warn: (text: string) => void
  readonly throwIfCancelled: () => void
}

const ROLES: readonly { readonly suffix: string; readonly role: LinearRole; readonly input: LayerInput }[] = [
  { suffix: 'self_attn.q_proj', role: 'q', input: 'attention' },
  { suffix: 'self_attn.k_proj', role: 'k', input: 'attention' },
  { suffix: 'self_attn.v_proj', role: 'v', input: 'attention' },
  { suffix: 'self_attn.qkv_proj', role: 'qkv', input: 'attention' },
  { suffix: 'self_attn.o_proj', role: 'o', input: 'context' },
  { suffix: 'mlp.gate_proj', role: 'gate', input: 'mlp' },
  { suffix: 'mlp.up_proj', role: 'up', input: 'mlp' },
  { suffix: 'mlp.gate_up_proj', role: 'gateUp', input: 'mlp' },
  { suffix: 'mlp.down_proj', role: 'down', input: 'activated' },
]

const NORMS: Readonly<Record<NormRole, string>> = { attention: 'input_layernorm.weight', mlp: 'post_attention_layernorm.weight' }

export function layerPrefix(layer: number): string {
  return `model.layers.${layer}.`
}

/** An input's sums on the device, and what its activations were divided by since. */
interface OnDevice {
  readonly collected: CollectedStatistics
  readonly divisors: Float32Array[]
}

export class LoadedLayer implements LayerContext, Disposable {
  readonly layer: number
  readonly spec: ModelSpec
  readonly seed: number
  readonly note: (text: string) => void
  readonly warn: (text: string) => void
  readonly throwIfCancelled: () => void
  readonly #options: LoadedLayerOptions
  readonly #tensors: ReadonlyMap<string, LayerTensor>
  readonly #statistics = new Map<LayerInput, InputStatistics>()
  #keyValueMaxima: Promise<{ readonly k: number; readonly v: number }> | null = null
  readonly #onDevice = new Map<LayerInput, OnDevice>()
  readonly #forgotten = new Set<LayerInput>()
  #collected: CollectedStatistics | null = null
  #reference: Float32Array | null = null
  readonly #masks = new Map<string, Uint8Array>()

  private constructor(options: LoadedLayerOptions, tensors: ReadonlyMap<string, LayerTensor>) {
    this.#options = options
    this.#tensors = tensors
    this.layer = options.layer
    this.spec = options.runner.spec
    this.seed = options.seed
    this.note = options.note
    this.warn = options.warn
    this.throwIfCancelled = options.throwIfCancelled
  }

  /** Reads all tensors of the layer. Throws `checkpoint.non-finite`, `checkpoint.unsupported-scheme`. */
  static async load(options: LoadedLayerOptions): Promise<LoadedLayer> {
    const { source, layer } = options
    const prefix = layerPrefix(layer)
    const entries = [...source.tensors.values()].filter(({ name }) => name.startsWith(prefix)).sort((a, b) => compareNames(a.name, b.name))
    const tensors = new Map<string, LayerTensor>()
    for (const entry of entries) {
      options.throwIfCancelled()
      const { dtype } = entry
      if (!isDenseDtype(dtype)) continue
      const bytes = await source.open(entry.name).read(0, entry.byteLength)
      const bad = findNonFinite(bytes, dtype)
      if (bad !== null) {
        throw new LatheError(
          'checkpoint.non-finite',
          `${entry.name} holds ${bad.firstValue} at element ${bad.firstIndex}.`,
          'The model is damaged: no finite result can come of it. Download it again, or export it again from training.',
          { data: { tensor: entry.name, index: bad.firstIndex } },
        )
      }
      // Threads read it where it is.
      const values = widenToF32(bytes, dtype, sharedFloats(entry.shape.reduce((product, size) => product * size, 1)))
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      tensors.set(entry.name, { entry, dtype, sha256, original: values, target: values, current: values })
    }
    return new LoadedLayer(options, tensors)
  }

  /** Calibration tokens. */
  get tokens(): number {
    return this.#options.runner.tokens
  }

  get linears(): readonly LayerLinear[] {
    return ROLES.flatMap(({ suffix, role, input }): readonly LayerLinear[] => {
      const module = layerPrefix(this.layer) + suffix
      const tensor = this.#tensors.get(`${module}.weight`)
      if (tensor === undefined) return []
      const [rows = 0, cols = 0] = tensor.entry.shape
      const bias = this.#tensors.get(`${module}.bias`)?.current ?? null
      return [{ role, module, input, rows, cols, dtype: tensor.dtype, weight: tensor.current, bias }]
    })
  }

  get norms(): readonly LayerNorm[] {
    return (['attention', 'mlp'] as const).map((role) => {
      const name = layerPrefix(this.layer) + NORMS[role]
      return { role, name, weight: this.#tensor(name).current }
    })
  }

  linear(role: LinearRole): LayerLinear {
    const found = this.linears.find((linear) => linear.role === role)
    if (found === undefined) throw new Error(`layer ${this.layer} has no ${role}`)
    return found
  }

  original(module: string): Float32Array {
    return this.#tensor(`${module}.weight`).target
  }

  /** Current values by tensor name, and what is known of the source's. */
  tensor(name: string): {
    readonly values: Float32Array
    readonly changed: boolean
    readonly sha256: string
    readonly original: Float32Array
  } {
    const { current, original, sha256 } = this.#tensor(name)
    return { values: current, changed: current !== original, sha256, original }
  }

  storage(module: string): LinearStorage | null {
    return this.#options.storage(module)
  }

  mask(module: string): Uint8Array | null {
    return this.#masks.get(module) ?? null
  }

  setMask(module: string, mask: Uint8Array): void {
    this.#masks.set(module, mask)
  }

  replace(changes: LayerChanges): void {
    const set = (name: string, values: Float32Array): void => {
      const tensor = this.#tensor(name)
      if (values.length !== tensor.current.length) throw new RangeError(`${name} has ${tensor.current.length} values, got ${values.length}`)
      tensor.current = values
    }
    for (const [module, values] of changes.weights ?? []) set(`${module}.weight`, values)
    for (const [module, values] of changes.biases ?? []) set(`${module}.bias`, values)
    for (const [role, values] of changes.norms ?? []) set(layerPrefix(this.layer) + NORMS[role], values)
    for (const [input, divisor] of changes.inputsDividedBy ?? []) {
      this.#smoothTargets(input, divisor, changes)
      const known = this.#statistics.get(input)
      if (known !== undefined) this.#statistics.set(input, divided(known, divisor))
      this.#onDevice.get(input)?.divisors.push(divisor)
    }
    for (const input of changes.stale ?? []) {
      this.#statistics.delete(input)
      this.#onDevice.delete(input)
    }
  }

  /** Smoothing rewrites what the layer should compute: readers by their columns, the producer as handed in. */
  #smoothTargets(input: LayerInput, divisor: Float32Array, changes: LayerChanges): void {
    for (const { module, input: own, cols } of this.linears) {
      const tensor = this.#tensor(`${module}.weight`)
      if (own === input) tensor.target = tensor.target.map((value, i) => value * (divisor[i % cols] as number))
      else if (changes.weights?.has(module) === true && !this.#masks.has(module)) tensor.target = tensor.current
    }
  }

  async statistics(input: LayerInput): Promise<InputStatistics> {
    const known = this.#statistics.get(input)
    if (known !== undefined) return known
    const { collected, divisors } = await this.#collect(input)
    return this.#download(collected, input, divisors)
  }

  /** The Hessian of an input for the device's own factorization: where it lies if it is there unchanged, else from the host. */
  async hessian(input: LayerInput): Promise<HessianSource> {
    const known = this.#statistics.get(input)
    if (known !== undefined) return { kind: 'host', gram: known.gram }
    const { collected, divisors } = await this.#collect(input)
    if (divisors.length === 0) return { kind: 'device', ...collected.gramOnDevice(input) }
    return { kind: 'host', gram: (await this.#download(collected, input, divisors)).gram }
  }

  /** Mean square and range of each column, without the matrix. */
  async columnStatistics(input: LayerInput): Promise<Omit<InputStatistics, 'gram'>> {
    const known = this.#statistics.get(input)
    if (known !== undefined) return known
    const { collected, divisors } = await this.#collect(input)
    if (divisors.length > 0) return this.#download(collected, input, divisors)
    return columnMeans(await collected.columns(input), inputWidths(this.spec)[input], collected.tokens)
  }

  async #download(collected: CollectedStatistics, input: LayerInput, divisors: readonly Float32Array[]): Promise<InputStatistics> {
    const width = inputWidths(this.spec)[input]
    const gram = await collected.gram(input)
    for (let i = 0; i < gram.length; i++) gram[i] = (gram[i] as number) / collected.tokens
    let statistics: InputStatistics = { gram, ...columnMeans(await collected.columns(input), width, collected.tokens) }
    for (const divisor of divisors) statistics = divided(statistics, divisor)
    this.#statistics.set(input, statistics)
    this.#onDevice.delete(input)
    return statistics
  }

  /** Statistics of `input` on the device, from the last pass or a new one that takes in all other inputs that are missing and fit. */
  async #collect(input: LayerInput): Promise<OnDevice> {
    const present = this.#onDevice.get(input)
    if (present !== undefined) return present
    // What an earlier pass left and somebody may still ask for moves to the host.
    for (const [other, { collected, divisors }] of this.#onDevice) await this.#download(collected, other, divisors)
    this.#release()
    const widths = inputWidths(this.spec)
    const batch = [input]
    let bytes = widths[input] ** 2 * 4
    for (const other of LAYER_INPUTS) {
      if (other === input || this.#statistics.has(other) || this.#forgotten.has(other)) continue
      if (bytes + widths[other] ** 2 * 4 > this.#options.gramBytes) continue
      batch.push(other)
      bytes += widths[other] ** 2 * 4
    }
    const { runner, store } = this.#options
    this.note('Running the calibration text')
    const collected = await runner.collect(this.#checkpoint({}), this.layer, batch, (group) => store.get(group))
    this.#collected = collected
    this.#reference ??= collected.firstOutput
    for (const name of batch) this.#onDevice.set(name, { collected, divisors: [] })
    return { collected, divisors: [] }
  }

  /** Largest |k| and |v| that the layer caches over the calibration text, with the weights as they are now. */
  keyValueMaxima(): Promise<{ readonly k: number; readonly v: number }> {
    const { runner, store } = this.#options
    this.#keyValueMaxima ??= runner.keyValueMaxima(this.#checkpoint({}), this.layer, (group) => store.get(group))
    return this.#keyValueMaxima
  }

  /** The layer's output of the first group before values were chosen; null where no statistics were asked for. */
  get referenceOutput(): Float32Array | null {
    return this.#reference
  }

  /** Frees what is known of an input that no later step will ask for. */
  forget(input: LayerInput): void {
    this.#forgotten.add(input)
    this.#statistics.delete(input)
    this.#onDevice.delete(input)
    if (this.#onDevice.size === 0) this.#release()
  }

  [Symbol.dispose](): void {
    this.#onDevice.clear()
    this.#release()
  }

  #release(): void {
    this.#collected?.[Symbol.dispose]()
    this.#collected = null
  }

  async outputErrors(input: LayerInput): Promise<OutputErrors> {
    const linears = this.linears.filter((linear) => linear.input === input)
    const sources = { hessian: () => this.hessian(input), gram: async () => (await this.statistics(input)).gram }
    return openOutputErrors(linears, this.#options.runner.backend, sources, await this.#trialMatter(input))
  }

  async rounded(linear: LayerLinear, factors: Float64Array | null): Promise<Float32Array> {
    return roundedLinear(linear, factors, await this.#trialMatter(linear.input))
  }

  async clipped(linear: LayerLinear, options: ClipOptions): Promise<Float32Array> {
    const { gram } = await this.statistics(linear.input)
    return clippedLinear(linear, gram, options, await this.#trialMatter(linear.input))
  }

  async #trialMatter(input: LayerInput): Promise<TrialMatter> {
    const { meanSquare } = await this.columnStatistics(input)
    const { pool, storage, throwIfCancelled } = this.#options
    return { pool, storage, meanSquare, throwIfCancelled }
  }

  probe({ part, tokens }: { readonly part: 'attention' | 'mlp'; readonly tokens: number }): Promise<LayerProbe> {
    const { runner, store } = this.#options
    const checkpoint = (candidate: Candidate): Checkpoint => this.#checkpoint(candidate)
    return openProbe({ runner, store, layer: this.layer, part, tokens, checkpoint })
  }

  #checkpoint(candidate: Candidate): Checkpoint {
    const values = new Map<string, Float32Array>()
    for (const [name, tensor] of this.#tensors) if (tensor.current !== tensor.original) values.set(name, tensor.current)
    for (const [module, weight] of candidate.weights ?? []) values.set(`${module}.weight`, weight)
    for (const [role, weight] of candidate.norms ?? []) values.set(layerPrefix(this.layer) + NORMS[role], weight)
    return withValues(this.#options.source, values)
  }

  #tensor(name: string): LayerTensor {
    const tensor = this.#tensors.get(name)
    if (tensor === undefined) throw new Error(`layer ${this.layer} has no tensor ${name}`)
    return tensor
  }
}

function columnMeans(columns: Float32Array, width: number, tokens: number): Omit<InputStatistics, 'gram'> {
  const part = (row: number, scale: number): Float32Array => columns.slice(row * width, (row + 1) * width).map((value) => value * scale)
  return {
    columns: width,
    tokens,
    meanAbsolute: part(0, 1 / tokens),
    meanSquare: part(1, 1 / tokens),
    maximum: part(2, 1),
    minimum: part(3, -1),
  }
}

function divided(statistics: InputStatistics, divisor: Float32Array): InputStatistics {
  const { columns } = statistics
  const inverse = Float64Array.from(divisor, (value) => 1 / value)
  const gram = new Float32Array(statistics.gram.length)
  for (let i = 0; i < columns; i++) {
    for (let j = 0; j < columns; j++) {
      gram[i * columns + j] = (statistics.gram[i * columns + j] as number) * (inverse[i] as number) * (inverse[j] as number)
    }
  }
  const scale = (values: Float32Array, power: 1 | 2): Float32Array => values.map((value, i) => value * (inverse[i] as number) ** power)
  return {
    ...statistics,
    gram,
    meanAbsolute: scale(statistics.meanAbsolute, 1),
    meanSquare: scale(statistics.meanSquare, 2),
    maximum: scale(statistics.maximum, 1),
    minimum: scale(statistics.minimum, 1),
  }
}
