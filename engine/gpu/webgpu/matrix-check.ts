/**
 * Are this device's matrix units right? One linear of every edge that tiles have, against f64 on the CPU, before the mode may be used: drivers have
 * given wrong results and crashed on such kernels (specs/dawn-node.md §7), and no test elsewhere covers this card. About ten megaflops.
 */
import { linearProgramOf } from '../linear-program.ts'
import type { Capacity, KvLayout, Program, StepInput, WeightBytes, WeightSpec } from '../program.ts'
import type { CompileContext } from './compile.ts'
import { WebGpuExecutable } from './executable.ts'
import { WebGpuKvCache } from './kv-cache.ts'
import type { Ledger } from './ledger.ts'
import type { MatrixMode } from './matrix-units.ts'

/** No multiple of a tile, a fragment or a stage; more than one tile each way. */
const TOKENS = 150
const ROWS = 201
const COLS = 164
/** Factors of the inputs' rows: halves hold neither the second nor the third. */
const INPUT_SCALES = [1, 1e6, 1e-9]
/** Of an error relative to √Σ(w·x)²: see kernels/linear-matrix.test.ts. */
const TOLERANCE = 5 * 2 ** -12

const BLOCK_SIZE = 32
const KV: KvLayout = { layers: 1, kvHeads: 1, headDim: 2, blockSize: BLOCK_SIZE, blocks: Math.ceil(TOKENS / BLOCK_SIZE) + 1, dtype: 'f32' }
const CAPACITY: Capacity = { tokens: TOKENS, rows: 1, sequences: 1, blocksPerSequence: KV.blocks - 1 }

/** Null if they are, else what was wrong with the result. Throws what compiling the kernels throws. */
export async function checkMatrixUnits(
  context: Omit<CompileContext, 'account' | 'matrixUnits'>,
  ledger: Ledger,
  mode: MatrixMode,
): Promise<string | null> {
  const inputs = pattern(TOKENS * COLS, 3).map((value, i) => value * (INPUT_SCALES[Math.floor(i / COLS) % INPUT_SCALES.length] ?? 1))
  const weights = pattern(ROWS * COLS, 5)
  using kv = await WebGpuKvCache.create(context.gpu, ledger.open('matrix check'), KV)
  using executable = await WebGpuExecutable.compile(
    { ...context, account: ledger.open('matrix check'), matrixUnits: mode },
    programOf(inputs, weights),
    { capacity: CAPACITY, kv, owner: 'matrix check', keepValues: true },
  )
  await executable.step(STEP)
  const linear = executable.program.operations[1]
  if (linear?.op !== 'linear') throw new Error('no linear')
  return compare(await executable.read(linear.out), inputs, weights)
}

/** Compares every result; exported for tests. */
export function compare(found: Float32Array, inputs: Float32Array, weights: Float32Array): string | null {
  let worst = 0
  for (let token = 0; token < TOKENS; token++) {
    for (let row = 0; row < ROWS; row++) {
      let sum = 0
      let squares = 0
      for (let k = 0; k < COLS; k++) {
        const term = (weights[row * COLS + k] ?? NaN) * (inputs[token * COLS + k] ?? NaN)
        sum += term
        squares += term * term
      }
      const error = Math.abs((found[token * ROWS + row] ?? NaN) - sum) / Math.sqrt(squares)
      if (!(error <= worst)) worst = Number.isNaN(error) ? Infinity : error
    }
  }
  if (worst <= TOLERANCE) return null
  return `Its matrix units failed the check at the start: an error of ${worst.toPrecision(2)} where ${TOLERANCE.toPrecision(2)} is allowed.`
}

/** Values in (−1, 1) that bf16 holds. */
function pattern(count: number, seed: number): Float32Array<ArrayBuffer> {
  let state = seed
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return ((state >>> 24) - 127.5) / 128
  })
}

function bytesOf(data: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>): WeightBytes {
  const bytes = new Uint8Array(data.buffer)
  return { byteLength: bytes.length, read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)) }
}

function weightOf(id: number, rows: number, dtype: 'f32' | 'bf16', values: WeightBytes): WeightSpec {
  const format = { kind: 'dense', dtype } as const
  const name = `matrix check ${id}`
  return { id, name, rows, cols: COLS, format, parts: [{ name, rows, cols: COLS, format, values, scale: null, zeroPoint: null }] }
}

function programOf(inputs: Float32Array<ArrayBuffer>, weights: Float32Array<ArrayBuffer>): Program {
  const halves = Uint16Array.from(new Uint32Array(weights.buffer), (bits) => bits >>> 16)
  const input = weightOf(0, TOKENS, 'f32', bytesOf(inputs))
  const weight = weightOf(1, ROWS, 'bf16', bytesOf(halves))
  return linearProgramOf(input, [weight])
}

const each = Uint32Array.from({ length: TOKENS }, (_, i) => i)
const STEP: StepInput = {
  tokenIds: each,
  positions: each,
  slots: each.map((i) => BLOCK_SIZE + i),
  sequenceOfToken: new Uint32Array(TOKENS),
  queryStart: Uint32Array.of(0, TOKENS),
  sequenceLength: Uint32Array.of(TOKENS),
  blockTable: Uint32Array.from({ length: CAPACITY.blocksPerSequence }, (_, i) => i + 1),
  logitRows: Uint32Array.of(TOKENS - 1),
  samplers: [null],
  targets: Uint32Array.of(0),
  topCount: 0,
}
