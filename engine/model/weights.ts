/**
 * Stored tensors as the weights of a program, without touching a value: dense BF16/F16/F32 and every quantized format that stored-part.ts
 * knows are handed over as stored. Holds every tensor to the shape that the spec demands. Projections that read the same input stack into
 * one weight as far as their formats agree (specs/webgpu-kernels.md §a: fewer, larger matrices).
 */
import { classOf } from '../checkpoint/modules.ts'
import { schemesFor } from '../checkpoint/quantization-config.ts'
import type { ByteSource, Checkpoint, QuantizationGroup, TensorEntry } from '../checkpoint/types.ts'
import { LatheError } from '../contract/errors.ts'
import { sameFormat } from '../gpu/check-program.ts'
import type { InputQuantization, WeightPart, WeightSpec } from '../gpu/program.ts'
import { densePart, isQuantized, type PartSource, quantizedPart, type StoredPart } from './stored-part.ts'

/** A linear projection: `prefix`.weight (or what replaces it) is [rows, cols], `prefix`.bias is [rows]. */
export interface Projection {
  readonly prefix: string
  readonly rows: number
  readonly cols: number
  readonly bias: boolean
}

/** One linear of a stack: its weight, its bias, the first output column it owns, and how its input is rounded. */
export interface StackedLinear {
  readonly weight: WeightSpec
  readonly bias: WeightSpec | null
  readonly outOffset: number
  readonly inputQuantization: InputQuantization | null
}

/** Hands out the weights of one checkpoint and remembers which tensors it used. */
export class WeightMap {
  readonly weights: WeightSpec[] = []
  readonly used = new Set<string>()
  readonly #checkpoint: Checkpoint
  readonly #groups: ReadonlyMap<string, QuantizationGroup | null>
  readonly #source: PartSource

  constructor(checkpoint: Checkpoint) {
    this.#checkpoint = checkpoint
    this.#groups = quantizedModules(checkpoint)
    this.#source = {
      has: (name) => checkpoint.tensors.has(name),
      entry: (name) => this.#entry(name),
      open: (name) => this.#open(name),
    }
  }

  has(prefix: string): boolean {
    return this.#checkpoint.tensors.has(`${prefix}.weight`) || this.#checkpoint.tensors.has(`${prefix}.weight_packed`)
  }

  /** A norm's weight, [1, length]. */
  vector(name: string, length: number): WeightSpec {
    return this.#weight(name, [densePart(this.#source, name, [length])])
  }

  /** A matrix that is looked up by row, such as the embedding. */
  matrix(prefix: string, rows: number, cols: number): WeightSpec {
    return this.#weight(`${prefix}.weight`, [this.#part(prefix, rows, cols).part])
  }

  /** A linear that stands alone, such as the output head. */
  linear(prefix: string, rows: number, cols: number): StackedLinear {
    const { part, inputQuantization } = this.#part(prefix, rows, cols)
    return { weight: this.#weight(`${prefix}.weight`, [part]), bias: null, outOffset: 0, inputQuantization }
  }

  /** Projections of one input whose outputs lie side by side: one linear for each run of equal formats. */
  stack(name: string, projections: readonly Projection[]): readonly StackedLinear[] {
    const runs: {
      readonly outOffset: number
      readonly parts: WeightPart[]
      readonly biases: WeightPart[]
      readonly inputQuantization: InputQuantization | null
    }[] = []
    let outOffset = 0
    for (const { prefix, rows, cols, bias } of projections) {
      const { part, inputQuantization } = this.#part(prefix, rows, cols)
      const biases = bias ? [densePart(this.#source, `${prefix}.bias`, [rows])] : []
      const run = runs.at(-1)
      if (
        run !== undefined &&
        stacks(run.parts.at(-1), part) &&
        sameInput(run.inputQuantization, inputQuantization) &&
        biases.every((next) => stacks(run.biases.at(-1), next))
      ) {
        run.parts.push(part)
        run.biases.push(...biases)
      } else {
        runs.push({ outOffset, parts: [part], biases, inputQuantization })
      }
      outOffset += rows
    }
    return runs.map((run) => ({
      weight: this.#weight(`${name}.weight`, run.parts),
      bias: run.biases.length === 0 ? null : this.#weight(`${name}.bias`, run.biases),
      outOffset: run.outOffset,
      inputQuantization: run.inputQuantization,
    }))
  }

  #weight(name: string, parts: readonly WeightPart[]): WeightSpec {
    const [first] = parts
    if (first === undefined) throw new LatheError('internal', `The weight ${name} has no parts.`, 'This is a defect in Lathe. Report it.')
    const vector = parts.every((part) => part.rows === 1)
    const sum = (of: (part: WeightPart) => number): number => parts.reduce((total, part) => total + of(part), 0)
    const rows = vector ? 1 : sum((part) => part.rows)
    const cols = vector ? sum((part) => part.cols) : first.cols
    const weight = { id: this.weights.length, name: parts.length === 1 ? first.name : name, parts, rows, cols, format: first.format }
    this.weights.push(weight)
    return weight
  }

  #part(prefix: string, rows: number, cols: number): StoredPart {
    if (isQuantized(this.#source, prefix)) return quantizedPart(this.#source, prefix, rows, cols, this.#groups.get(prefix) ?? null)
    return { part: densePart(this.#source, `${prefix}.weight`, [rows, cols]), inputQuantization: null }
  }

  #entry(name: string): TensorEntry {
    const entry = this.#checkpoint.tensors.get(name)
    if (entry === undefined) {
      throw new LatheError(
        'checkpoint.missing-tensor',
        `The checkpoint has no tensor "${name}", which config.json calls for.`,
        'Check that every safetensors shard is in the folder and that config.json belongs to these weights.',
        { data: { tensor: name } },
      )
    }
    this.used.add(name)
    return entry
  }

  #open(name: string): ByteSource {
    return this.#checkpoint.open(name)
  }
}

/** The config group of every module that is stored quantized. */
function quantizedModules(checkpoint: Checkpoint): ReadonlyMap<string, QuantizationGroup | null> {
  const { quantization } = checkpoint
  if (quantization === null) return new Map()
  const names = new Set(
    Array.from(checkpoint.tensors.keys()).flatMap((name) => (/^(.*)\.weight_(?:packed|scale)$/.exec(name)?.[1] ?? []) as string[]),
  )
  const modules = Array.from(names, (name) => ({ name, className: classOf(name) }))
  const groups = schemesFor(quantization, modules)
  return new Map(modules.map(({ name }, i) => [name, groups[i] ?? null]))
}

/** Whether `next` can lie below `last` in one matrix; see WeightSpec. */
function stacks(last: WeightPart | undefined, next: WeightPart): boolean {
  if (last === undefined || !sameFormat(last.format, next.format)) return false
  if (last.rows === 1 && next.rows === 1) return true
  const { format } = last
  const wholeZeroWords = format.kind !== 'packed-int' || !format.hasZeroPoint || (last.rows * format.bits) % 32 === 0
  const consecutive = [last, next].every((part) => (part.groupIndex ?? null) === null)
  return last.cols === next.cols && last.rows > 1 && next.rows > 1 && wholeZeroWords && consecutive
}

/** Inputs with scales of their own are rounded each for itself: the content of a static scale is not known here. */
function sameInput(a: InputQuantization | null, b: InputQuantization | null): boolean {
  if (a === null || b === null) return a === b
  if (a.staticScale !== null || b.staticScale !== null) return false
  return a.element === b.element && a.scale === b.scale && a.groupSize === b.groupSize && a.scaleDtype === b.scaleDtype
}
