/**
 * Shape rules of a Program, checked once before a backend prepares it, so that kernels may trust every extent and a mistake in a model
 * builder is an error with two numbers in it and not a wrong logit. Knows the seam only (program.ts): no device, no model family.
 */
import { LatheError } from '../contract/errors.ts'
import type {
  Accumulator,
  Capacity,
  InputQuantization,
  KvLayout,
  Operation,
  Program,
  RopeTable,
  Value,
  WeightFormat,
  WeightPart,
  WeightSpec,
} from './program.ts'

const DENSE_BYTES = { f32: 4, f16: 2, bf16: 2 } as const
export const SCALE_BYTES = { ...DENSE_BYTES, e4m3: 1, e8m0: 1 } as const
/** Bits of a code of a packed-float weight. */
export const FLOAT_BITS = { e4m3: 8, e2m1: 4 } as const

/** Bytes of each stored array of one part: values, and scale and zero point where the format has them. */
export function partBytes(
  rows: number,
  cols: number,
  format: WeightFormat,
): { readonly values: number; readonly scale: number; readonly zeroPoint: number } {
  if (format.kind === 'dense') return { values: rows * cols * DENSE_BYTES[format.dtype], scale: 0, zeroPoint: 0 }
  const groups = Math.ceil(cols / format.groupSize)
  if (format.kind === 'packed-float') {
    return { values: (rows * cols * FLOAT_BITS[format.element]) / 8, scale: rows * groups * SCALE_BYTES[format.scaleDtype], zeroPoint: 0 }
  }
  return {
    values: rows * Math.ceil((cols * format.bits) / 32) * 4,
    scale: rows * groups * DENSE_BYTES[format.scaleDtype],
    zeroPoint: format.hasZeroPoint ? Math.ceil((rows * format.bits) / 32) * groups * 4 : 0,
  }
}

/** Stored bytes of a weight, which is also what uploading it moves. */
export function weightBytes(weight: WeightSpec): number {
  return weight.parts.reduce((sum, { rows, cols, format }) => {
    const bytes = partBytes(rows, cols, format)
    return sum + bytes.values + bytes.scale + bytes.zeroPoint
  }, 0)
}

export function sameFormat(a: WeightFormat, b: WeightFormat): boolean {
  return formatKey(a) === formatKey(b)
}

function formatKey(format: WeightFormat): string {
  return JSON.stringify(Object.entries(format).sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Throws `gpu.invalid-operation` naming the first rule that the program breaks. */
export function checkProgram(program: Program, capacity: Capacity, kv: KvLayout): void {
  for (const [name, bound] of Object.entries(capacity)) require(Number.isSafeInteger(bound) && bound > 0, `capacity.${name} is ${bound}`)
  const weights = new Map(program.weights.map((weight) => [weight.id, weight]))
  require(weights.size === program.weights.length, 'two weights share an id')
  for (const weight of program.weights) checkWeight(weight)
  const ropes = new Set(program.ropes)
  for (const rope of program.ropes) checkRope(rope)
  const written = new Map<number, Value>()
  const accumulators = new Map<number, Accumulator>()
  let onlyInputs = true
  for (const operation of program.operations) {
    checkOperation(operation, { weights, ropes, written, kv, accumulators, onlyInputs })
    onlyInputs &&= operation.op === 'input'
  }
  const { logits, vocabulary } = program
  require(written.get(logits.id) === logits, `logits ${describe(logits)} are never written`)
  require(logits.extent === 'rows' && logits.width === vocabulary, `logits ${describe(logits)} are not [rows, ${vocabulary}]`)
}

function checkWeight(weight: WeightSpec): void {
  const { name, parts, rows, cols, format } = weight
  const vector = rows === 1
  require(parts.length > 0, `weight ${name} has no parts`)
  for (const part of parts) {
    require(sameFormat(part.format, format), `weight ${name}: part ${part.name} is stored in another format`)
    checkPart(part)
  }
  const sum = (of: (part: WeightPart) => number): number => parts.reduce((total, part) => total + of(part), 0)
  if (vector) {
    require(parts.every((part) => part.rows === 1), `vector ${name} has a part of several rows`)
    require(sum((part) => part.cols) === cols, `vector ${name} has ${cols} columns, its parts ${sum((part) => part.cols)}`)
  } else {
    require(parts.every((part) => part.cols === cols), `weight ${name} has ${cols} columns, a part of it does not`)
    require(sum((part) => part.rows) === rows, `weight ${name} has ${rows} rows, its parts ${sum((part) => part.rows)}`)
  }
  const ordered = parts.some((part) => (part.groupIndex ?? null) !== null)
  require(!ordered || parts.length === 1, `weight ${name} stacks parts of which one has groups in an order of its own`)
  if (format.kind === 'packed-int' && format.hasZeroPoint) {
    const whole = parts.slice(0, -1).every((part) => (part.rows * format.bits) % 32 === 0)
    require(whole, `weight ${name} stacks parts whose zero points share a word`)
  }
}

function checkPart(part: WeightPart): void {
  const { name, rows, cols, format } = part
  require(Number.isSafeInteger(rows) && Number.isSafeInteger(cols) && rows > 0 && cols > 0, `${name} is [${rows}, ${cols}]`)
  if (format.kind === 'packed-int') {
    require(format.groupSize > 0 && cols % format.groupSize === 0, `${name}: groups of ${format.groupSize} do not divide ${cols} columns`)
  }
  const expected = partBytes(rows, cols, format)
  const found = { values: part.values.byteLength, scale: part.scale?.byteLength ?? 0, zeroPoint: part.zeroPoint?.byteLength ?? 0 }
  if (format.kind === 'packed-float') {
    require(format.element === 'e4m3' || cols % 2 === 0, `${name}: ${cols} columns of 4-bit floats do not fill bytes`)
    const bytes = part.globalScale?.byteLength ?? 0
    require(bytes === (format.hasGlobalScale ? 4 : 0), `${name}: its global scale holds ${bytes} bytes`)
  }
  if (part.groupIndex !== undefined && part.groupIndex !== null) {
    require(format.kind === 'packed-int', `${name}: only integers have groups in an order of their own`)
    require(part.groupIndex.byteLength === cols * 4, `${name}: ${part.groupIndex.byteLength} bytes of group indices for ${cols} columns`)
  }
  for (const field of ['values', 'scale', 'zeroPoint'] as const) {
    require(found[field] === expected[field], `${name}: ${field} holds ${found[field]} bytes, its shape needs ${expected[field]}`)
  }
}

function checkRope(rope: RopeTable): void {
  const { positions, rotaryDim, cos, sin } = rope
  require(rotaryDim > 0 && rotaryDim % 2 === 0, `rope ${rope.id}: rotaryDim ${rotaryDim} is not even`)
  const length = positions * (rotaryDim / 2)
  require(cos.length === length && sin.length === length, `rope ${rope.id}: tables hold ${cos.length}, not ${length}`)
}

interface Scope {
  readonly weights: ReadonlyMap<number, WeightSpec>
  readonly ropes: ReadonlySet<RopeTable>
  readonly written: Map<number, Value>
  readonly kv: KvLayout
  readonly accumulators: Map<number, Accumulator>
  /** Whether all operations so far were inputs. */
  readonly onlyInputs: boolean
}

function checkOperation(operation: Operation, scope: Scope): void {
  const { op } = operation
  const reads = (value: Value, width: number, extent: Value['extent'] = value.extent): void => {
    require(scope.written.get(value.id) === value, `${op} reads ${describe(value)}, which nothing has written`)
    require(value.width === width && value.extent === extent, `${op} reads ${describe(value)}, needs [${extent}, ${width}]`)
  }
  const writes = (value: Value, width: number, extent: Value['extent']): void => {
    const known = scope.written.get(value.id)
    require(known === undefined || known === value, `value id ${value.id} is used twice`)
    require(value.width === width && value.extent === extent, `${op} writes ${describe(value)}, needs [${extent}, ${width}]`)
    scope.written.set(value.id, value)
  }
  const uses = (weight: WeightSpec, rows: number, cols: number): void => {
    require(scope.weights.get(weight.id) === weight, `${op} uses weight ${weight.name}, which the program does not list`)
    require(weight.rows === rows &&
      weight.cols === cols, `${op}: ${weight.name} is [${weight.rows}, ${weight.cols}], needs [${rows}, ${cols}]`)
  }
  const attends = (at: { heads: number; kvHeads: number; headDim: number; layer: number }): void => {
    const { kv } = scope
    require(at.heads % at.kvHeads === 0, `${op}: ${at.kvHeads} kv heads do not divide ${at.heads} heads`)
    require(at.kvHeads === kv.kvHeads && at.headDim === kv.headDim, `${op}: heads differ from the cache's ${kv.kvHeads} × ${kv.headDim}`)
    require(at.layer >= 0 && at.layer < kv.layers, `${op}: layer ${at.layer} of a cache with ${kv.layers}`)
  }
  switch (operation.op) {
    case 'embed':
      uses(operation.weight, operation.weight.rows, operation.out.width)
      return writes(operation.out, operation.weight.cols, 'tokens')
    case 'rmsNorm':
      reads(operation.x, operation.x.width)
      uses(operation.weight, 1, operation.x.width)
      return writes(operation.out, operation.x.width, operation.x.extent)
    case 'linear': {
      const { x, weight, bias, out, outOffset, accumulate } = operation
      reads(x, weight.cols)
      uses(weight, weight.rows, weight.cols)
      if (bias !== null) uses(bias, 1, weight.rows)
      if (operation.inputQuantization) checkInputQuantization(operation.inputQuantization, weight.name)
      require(outOffset >= 0 &&
        outOffset + weight.rows <= out.width, `linear writes columns ${outOffset}…${outOffset + weight.rows} of ${describe(out)}`)
      if (accumulate) reads(out, out.width, x.extent)
      return writes(out, out.width, x.extent)
    }
    case 'swiglu':
      reads(operation.gateUp, 2 * operation.out.width)
      return writes(operation.out, operation.gateUp.width / 2, operation.gateUp.extent)
    case 'ropeAppend': {
      const { heads, kvHeads, headDim, qNorm, kNorm, rope } = operation
      attends(operation)
      reads(operation.qkv, (heads + 2 * kvHeads) * headDim, 'tokens')
      if (qNorm !== null) uses(qNorm, 1, headDim)
      if (kNorm !== null) uses(kNorm, 1, headDim)
      require(scope.ropes.has(rope), `ropeAppend uses rope ${rope.id}, which the program does not list`)
      require(rope.rotaryDim <= headDim, `ropeAppend rotates ${rope.rotaryDim} of ${headDim} dimensions`)
      return writes(operation.q, heads * headDim, 'tokens')
    }
    case 'attention': {
      const width = operation.heads * operation.headDim
      attends(operation)
      require(operation.window === null || operation.window > 0, `attention window ${operation.window}`)
      reads(operation.q, width, 'tokens')
      return writes(operation.out, width, 'tokens')
    }
    case 'gatherRows':
      reads(operation.x, operation.out.width, 'tokens')
      return writes(operation.out, operation.x.width, 'rows')
    case 'input':
      require(scope.onlyInputs, `input ${describe(operation.out)} comes after other operations`)
      return writes(operation.out, operation.out.width, 'tokens')
    case 'gram':
    case 'columnSums': {
      const { x, out } = operation
      reads(x, out.width, 'tokens')
      require(out.kind === (op === 'gram' ? 'gram' : 'columns'), `${op} adds to ${out.name}, which holds ${out.kind}`)
      const known = scope.accumulators.get(out.id)
      require(known === undefined || known === out, `accumulator id ${out.id} is used twice`)
      scope.accumulators.set(out.id, out)
    }
  }
}

/** Combinations that some stored format means; see InputQuantization. */
function checkInputQuantization(quantization: InputQuantization, name: string): void {
  const { element, scale, groupSize, scaleDtype, staticScale, staticDtype } = quantization
  const kind = `${element} inputs of ${name} per ${scale}`
  require((scale === 'group') === (groupSize !== null && groupSize > 0 && groupSize % 4 === 0), `${kind} with groups of ${groupSize}`)
  require(scale !== 'tensor' || staticScale !== null, `${kind} without a scale`)
  require(scale !== 'token' || staticScale === null, `${kind} with a static scale`)
  require(staticScale === null || staticScale.byteLength === DENSE_BYTES[staticDtype], `${kind}: a static scale is one number`)
  require(element !== 'int8' || scale !== 'group', `${kind}: integers have no groups`)
  require(element !== 'e2m1' || scale === 'group', `${kind}: 4-bit floats have groups`)
  require(scale === 'group' || scaleDtype === 'f32', `${kind} with ${scaleDtype} scales`)
  require((scaleDtype === 'e4m3') === (scale === 'group' && staticScale !== null), `${kind}: scales in E4M3 go with a factor for all`)
}

function describe(value: Value): string {
  return `${value.name} [${value.extent}, ${value.width}]`
}

function require(holds: boolean, what: string): void {
  if (!holds)
    throw new LatheError(
      'gpu.invalid-operation',
      `The program is malformed: ${what}.`,
      'This is a defect in Lathe. Report it with the model.',
    )
}
