/**
 * Stored tensors as the weights of a program, without touching a value: dense BF16/F16/F32 and compressed-tensors pack-quantized int4/int8
 * are handed over in their stored bytes. Holds every tensor to the shape that the spec demands. Projections that read the same input stack into
 * one weight as far as their formats agree (specs/webgpu-kernels.md §a: fewer, larger matrices).
 */
import { LatheError } from '../contract/errors.ts'
import type { ByteSource, Checkpoint, QuantizationArgs, TensorEntry } from '../checkpoint/types.ts'
import { sameFormat } from '../gpu/check-program.ts'
import type { WeightFormat, WeightPart, WeightSpec } from '../gpu/program.ts'

/** A linear projection: `prefix`.weight (or its packed form) is [rows, cols], `prefix`.bias is [rows]. */
export interface Projection {
  readonly prefix: string
  readonly rows: number
  readonly cols: number
  readonly bias: boolean
}

/** One linear of a stack: its weight, its bias, and the first output column it owns. */
export interface StackedLinear {
  readonly weight: WeightSpec
  readonly bias: WeightSpec | null
  readonly outOffset: number
}

const DENSE_DTYPES = { F32: 'f32', F16: 'f16', BF16: 'bf16' } as const
type DenseFormat = Extract<WeightFormat, { kind: 'dense' }>

/** Hands out the weights of one checkpoint and remembers which tensors it used. */
export class WeightMap {
  readonly weights: WeightSpec[] = []
  readonly used = new Set<string>()
  readonly #checkpoint: Checkpoint

  constructor(checkpoint: Checkpoint) {
    this.#checkpoint = checkpoint
  }

  has(prefix: string): boolean {
    return this.#checkpoint.tensors.has(`${prefix}.weight`) || this.#checkpoint.tensors.has(`${prefix}.weight_packed`)
  }

  /** A norm's weight, [1, length]. */
  vector(name: string, length: number): WeightSpec {
    return this.#weight(name, [this.#densePart(name, [length])])
  }

  /** A matrix that stands alone, such as the embedding. */
  matrix(prefix: string, rows: number, cols: number): WeightSpec {
    return this.#weight(`${prefix}.weight`, [this.#part(prefix, rows, cols)])
  }

  /** Projections of one input whose outputs lie side by side: one linear for each run of equal formats. */
  stack(name: string, projections: readonly Projection[]): readonly StackedLinear[] {
    const runs: { readonly outOffset: number; readonly parts: WeightPart[]; readonly biases: WeightPart[] }[] = []
    let outOffset = 0
    for (const { prefix, rows, cols, bias } of projections) {
      const part = this.#part(prefix, rows, cols)
      const biases = bias ? [this.#densePart(`${prefix}.bias`, [rows])] : []
      const run = runs.at(-1)
      if (run !== undefined && stacks(run.parts.at(-1), part) && biases.every((next) => stacks(run.biases.at(-1), next))) {
        run.parts.push(part)
        run.biases.push(...biases)
      } else {
        runs.push({ outOffset, parts: [part], biases })
      }
      outOffset += rows
    }
    return runs.map((run) => ({
      weight: this.#weight(`${name}.weight`, run.parts),
      bias: run.biases.length === 0 ? null : this.#weight(`${name}.bias`, run.biases),
      outOffset: run.outOffset,
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

  #part(prefix: string, rows: number, cols: number): WeightPart {
    return this.#checkpoint.tensors.has(`${prefix}.weight_packed`)
      ? this.#packedPart(prefix, rows, cols)
      : this.#densePart(`${prefix}.weight`, [rows, cols])
  }

  #densePart(name: string, shape: readonly number[]): WeightPart {
    const entry = this.#entry(name)
    checkShape(entry, shape)
    const rows = shape.length === 1 ? 1 : (shape[0] ?? 0)
    const format: DenseFormat = { kind: 'dense', dtype: denseDtype(entry) }
    return { name, rows, cols: shape.at(-1) ?? 0, format, values: this.#open(name), scale: null, zeroPoint: null }
  }

  #packedPart(prefix: string, rows: number, cols: number): WeightPart {
    const packed = this.#entry(`${prefix}.weight_packed`)
    const scale = this.#entry(`${prefix}.weight_scale`)
    if (this.#checkpoint.tensors.has(`${prefix}.weight_g_idx`)) {
      throw unsupported(prefix, 'its columns are grouped by activation order (weight_g_idx)')
    }
    const bits = packedBits(packed, rows, cols)
    const groups = scale.shape[1] ?? 0
    if (groups === 0 || cols % groups !== 0) throw wrongShape(scale, `[${rows}, groups] with groups a divisor of ${cols}`)
    checkShape(scale, [rows, groups])
    checkDtype(packed, 'I32')
    const zero = this.#checkpoint.tensors.has(`${prefix}.weight_zero_point`) ? this.#entry(`${prefix}.weight_zero_point`) : null
    if (zero !== null) {
      checkShape(zero, [Math.ceil((rows * bits) / 32), groups])
      checkDtype(zero, 'I32')
    }
    if (this.#checkpoint.tensors.has(`${prefix}.weight_shape`)) checkShape(this.#entry(`${prefix}.weight_shape`), [2])
    const format = {
      kind: 'packed-int',
      bits,
      groupSize: cols / groups,
      hasZeroPoint: zero !== null,
      scaleDtype: denseDtype(scale),
    } as const
    this.#checkDeclared(prefix, format)
    return {
      name: packed.name,
      rows,
      cols,
      format,
      values: this.#open(packed.name),
      scale: this.#open(scale.name),
      zeroPoint: zero === null ? null : this.#open(zero.name),
    }
  }

  /** What the shapes say must be what some group of the quantization config says. */
  #checkDeclared(prefix: string, format: Extract<WeightFormat, { kind: 'packed-int' }>): void {
    const groups = this.#checkpoint.quantization?.groups ?? []
    const declared = groups.some((group) => group.weights !== null && describes(group.weights, format))
    if (!declared) {
      const { bits, groupSize, hasZeroPoint } = format
      const found = `${bits} bits, groups of ${groupSize}, ${hasZeroPoint ? 'with' : 'without'} zero points`
      throw new LatheError(
        'checkpoint.invalid-tensor',
        `${prefix} is packed as ${found}, but quantization_config describes no such weights.`,
        'config.json and the weights disagree: get both from the same checkpoint.',
      )
    }
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

/** Whether `next` can lie below `last` in one matrix; see WeightSpec. */
function stacks(last: WeightPart | undefined, next: WeightPart): boolean {
  if (last === undefined || !sameFormat(last.format, next.format)) return false
  if (last.rows === 1 && next.rows === 1) return true
  const { format } = last
  const wholeZeroWords = format.kind === 'dense' || !format.hasZeroPoint || (last.rows * format.bits) % 32 === 0
  return last.cols === next.cols && last.rows > 1 && next.rows > 1 && wholeZeroWords
}

function describes(args: QuantizationArgs, format: Extract<WeightFormat, { kind: 'packed-int' }>): boolean {
  // A group as wide as the matrix is stored exactly as channel strategy is.
  const grouped = args.strategy === 'group' ? args.groupSize === format.groupSize : args.strategy === 'channel'
  return args.type === 'int' && args.numBits === format.bits && args.symmetric !== format.hasZeroPoint && grouped
}

/** 4 or 8, from the words of a row. */
function packedBits(packed: TensorEntry, rows: number, cols: number): 4 | 8 {
  for (const bits of [4, 8] as const) {
    if (packed.shape.length === 2 && packed.shape[0] === rows && packed.shape[1] === Math.ceil((cols * bits) / 32)) return bits
  }
  const words = packed.shape[1]
  const other = [1, 2, 3, 5, 6, 7].find((bits) => packed.shape[0] === rows && words === Math.ceil((cols * bits) / 32))
  if (other !== undefined) throw unsupported(packed.name, `it is packed with ${other} bits per weight`)
  throw wrongShape(packed, `[${rows}, ${Math.ceil((cols * 4) / 32)}] for 4 bits or [${rows}, ${Math.ceil((cols * 8) / 32)}] for 8`)
}

function denseDtype(entry: TensorEntry): DenseFormat['dtype'] {
  const { dtype } = entry
  if (dtype === 'F32' || dtype === 'F16' || dtype === 'BF16') return DENSE_DTYPES[dtype]
  throw unsupported(entry.name, `it is stored as ${dtype}`)
}

function checkDtype(entry: TensorEntry, dtype: TensorEntry['dtype']): void {
  if (entry.dtype === dtype) return
  throw new LatheError(
    'checkpoint.invalid-tensor',
    `${entry.name} is stored as ${entry.dtype}; the packed format stores it as ${dtype}.`,
    'The file was written by a tool that does not follow the compressed-tensors format.',
  )
}

function checkShape(entry: TensorEntry, shape: readonly number[]): void {
  const equal = entry.shape.length === shape.length && entry.shape.every((size, i) => size === shape[i])
  if (!equal) throw wrongShape(entry, `[${shape.join(', ')}]`)
}

function wrongShape(entry: TensorEntry, expected: string): LatheError {
  return new LatheError(
    'checkpoint.invalid-tensor',
    `${entry.name} has shape [${entry.shape.join(', ')}], config.json calls for ${expected}.`,
    'Check that config.json belongs to these weights.',
    { data: { tensor: entry.name, found: [...entry.shape], expected } },
  )
}

function unsupported(name: string, reason: string): LatheError {
  return new LatheError(
    'checkpoint.unsupported-scheme',
    `Lathe can't run ${name}: ${reason}.`,
    'Runnable are BF16, F16 and F32, and 4- or 8-bit pack-quantized integers. Start from the original, uncompressed model.',
  )
}
