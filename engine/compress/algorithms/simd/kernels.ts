/**
 * The inner loops of round-to-nearest as WebAssembly SIMD, four weights at a time; the same arithmetic as round-to-nearest.ts and
 * mse-scale-search.ts in JavaScript, which say what is computed and are what these are tested against. All work on groups of `count`
 * weights, a multiple of 4, that lie one after the other. Pointers are byte offsets into the imported memory, multiples of 16.
 */
import * as wasm from './assembler.ts'
import type { Code, ValueType, WasmFunction } from './assembler.ts'

export interface Kernels {
  /** bf16 at `source` → f32 at `target`. `count` a multiple of 4. */
  widenBf16(source: number, target: number, count: number): void
  /** Four partial minima and four maxima (zero included) of each group: 32 bytes per group at `out`. */
  ranges(values: number, groups: number, count: number, out: number): void
  /**
   * For each group the index (i32 at `out`) of the candidate with the least squared error, the first of equals. `candidates` holds
   * `candidateCount` per group, CANDIDATE_BYTES each: f32 1/scale, f32 lowest and highest code less the zero point, f32 scale (not
   * read), f64 scale². Sums are in f32.
   */
  search(values: number, groups: number, count: number, candidates: number, candidateCount: number, out: number): void
  /**
   * Codes (i8 at `codes`) and error of each group. `parameters` holds 16 bytes per group: f32 scale, f32 zero point, 8 unused. Adds to the
   * f64 sums at `sums`, two lanes each: Σw², Σe², Σw·e, max |e|.
   */
  quantize(values: number, groups: number, count: number, parameters: number, codes: number, sums: number, qmin: number, qmax: number): void
}

/** What is used of the standard API; its types come with the DOM library, which the engine does not have. */
declare const WebAssembly: {
  readonly Memory: new (options: { initial: number }) => WasmMemory
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object
  readonly Instance: new (module: object, imports: { env: { memory: WasmMemory } }) => { readonly exports: unknown }
}

export interface WasmMemory {
  readonly buffer: ArrayBuffer
  grow(pages: number): number
}

export const PAGE_BYTES = 65_536

export function createMemory(bytes: number): WasmMemory {
  return new WebAssembly.Memory({ initial: Math.ceil(bytes / PAGE_BYTES) })
}

export const CANDIDATE_BYTES = 24
export const PARAMETER_BYTES = 16
export const RANGE_BYTES = 32
export const SUMS_BYTES = 64

const { I32, F32, F64, V128, get, set, tee, i32Const, loop } = wasm

/** Local variables by name, so that bodies read like code. */
class Locals {
  readonly types: number[] = []
  readonly parameters: number
  constructor(parameters: number) {
    this.parameters = parameters
  }
  add(type: number): number {
    this.types.push(type)
    return this.parameters + this.types.length - 1
  }
}

function code(...parts: readonly Code[]): Code {
  return parts.flat()
}

/** local += constant */
function advance(local: number, bytes: number): Code {
  return code(get(local), i32Const(bytes), wasm.I32_ADD, set(local))
}

/** local -= constant, and true on the stack while it is above 0. */
function countDown(local: number, step: number): Code {
  return code(i32Const(0), get(local), i32Const(step), wasm.I32_SUB, tee(local), wasm.I32_LT_S)
}

function clamp(value: Code, low: number, high: number): Code {
  return code(value, get(low), wasm.F32X4_PMAX, get(high), wasm.F32X4_PMIN)
}

function widenBf16(): WasmFunction {
  const [source, target, count] = [0, 1, 2]
  const body = loop(
    get(target),
    get(source),
    wasm.v128Load16x4U(),
    i32Const(16),
    wasm.I32X4_SHL,
    wasm.v128Store(),
    advance(source, 8),
    advance(target, 16),
    countDown(count, 4),
  )
  return { name: 'widenBf16', parameters: [I32, I32, I32], locals: [], body }
}

function ranges(): WasmFunction {
  const [values, groups, count, out] = [0, 1, 2, 3]
  const locals = new Locals(4)
  const [left, low, high, w] = [locals.add(I32), locals.add(V128), locals.add(V128), locals.add(V128)]
  const body = loop(
    code(wasm.V128_ZERO, set(low), wasm.V128_ZERO, set(high), get(count), set(left)),
    loop(
      code(get(values), wasm.v128Load(), set(w)),
      code(get(low), get(w), wasm.F32X4_PMIN, set(low)),
      code(get(high), get(w), wasm.F32X4_PMAX, set(high)),
      advance(values, 16),
      countDown(left, 4),
    ),
    code(get(out), get(low), wasm.v128Store()),
    code(get(out), get(high), wasm.v128Store(16)),
    advance(out, RANGE_BYTES),
    countDown(groups, 1),
  )
  return { name: 'ranges', parameters: [I32, I32, I32, I32], locals: locals.types as ValueType[], body }
}

function search(): WasmFunction {
  const [values, groups, count, candidates, candidateCount, out] = [0, 1, 2, 3, 4, 5]
  const locals = new Locals(6)
  const [at, left, index, best] = [locals.add(I32), locals.add(I32), locals.add(I32), locals.add(I32)]
  const [error, bestError] = [locals.add(F64), locals.add(F64)]
  const [inverse, low, high, sum, w] = [locals.add(V128), locals.add(V128), locals.add(V128), locals.add(V128), locals.add(V128)]
  const lane = (i: number): Code => code(get(sum), wasm.f32x4Lane(i), wasm.F64_PROMOTE_F32)
  const body = loop(
    code(i32Const(0), set(index), i32Const(0), set(best), wasm.f64Const(Infinity), set(bestError)),
    loop(
      code(get(candidates), wasm.v128Load32Splat(0), set(inverse)),
      code(get(candidates), wasm.v128Load32Splat(4), set(low)),
      code(get(candidates), wasm.v128Load32Splat(8), set(high)),
      code(wasm.V128_ZERO, set(sum), get(values), set(at), get(count), set(left)),
      loop(
        code(get(at), wasm.v128Load(), get(inverse), wasm.F32X4_MUL, set(w)),
        code(get(w), clamp(get(w), low, high), wasm.F32X4_NEAREST, wasm.F32X4_SUB, tee(w)),
        code(get(w), wasm.F32X4_MUL, get(sum), wasm.F32X4_ADD, set(sum)),
        advance(at, 16),
        countDown(left, 4),
      ),
      code(lane(0), lane(1), wasm.F64_ADD, lane(2), wasm.F64_ADD, lane(3), wasm.F64_ADD),
      code(get(candidates), wasm.f64Load(16), wasm.F64_MUL, tee(error), get(bestError), wasm.F64_LT),
      wasm.when(get(error), set(bestError), get(index), set(best)),
      advance(candidates, CANDIDATE_BYTES),
      advance(index, 1),
      code(get(index), get(candidateCount), wasm.I32_LT_S),
    ),
    code(get(out), get(best), wasm.i32Store(0)),
    advance(out, 4),
    code(get(at), set(values)),
    countDown(groups, 1),
  )
  return { name: 'search', parameters: [I32, I32, I32, I32, I32, I32], locals: locals.types as ValueType[], body }
}

function quantize(): WasmFunction {
  const [values, groups, count, parameters, codes, sums, qmin, qmax] = [0, 1, 2, 3, 4, 5, 6, 7]
  const locals = new Locals(8)
  const left = locals.add(I32)
  const [low, high, scale, zero] = [locals.add(V128), locals.add(V128), locals.add(V128), locals.add(V128)]
  const [w, q, stored] = [locals.add(V128), locals.add(V128), locals.add(V128)]
  const [source, error, cross, max] = [locals.add(V128), locals.add(V128), locals.add(V128), locals.add(V128)]
  const [e, wide] = [locals.add(V128), locals.add(V128)]
  const halves = [code(), wasm.UPPER_HALF]
  const upper = (local: number, shuffle: Code): Code => (shuffle.length === 0 ? get(local) : code(get(local), get(local), shuffle))
  const accumulate = (shuffle: Code): Code =>
    code(
      code(upper(w, shuffle), wasm.F64X2_PROMOTE_LOW, tee(wide)),
      code(upper(stored, shuffle), wasm.F64X2_PROMOTE_LOW, wasm.F64X2_SUB, set(e)),
      code(get(wide), get(wide), wasm.F64X2_MUL, get(source), wasm.F64X2_ADD, set(source)),
      code(get(e), get(e), wasm.F64X2_MUL, get(error), wasm.F64X2_ADD, set(error)),
      code(get(wide), get(e), wasm.F64X2_MUL, get(cross), wasm.F64X2_ADD, set(cross)),
      code(get(max), get(e), wasm.F64X2_ABS, wasm.F64X2_PMAX, set(max)),
    )
  const totals = [source, error, cross, max]
  const body = code(
    code(get(qmin), wasm.F32X4_SPLAT, set(low), get(qmax), wasm.F32X4_SPLAT, set(high)),
    ...totals.map((local, i) => code(get(sums), wasm.v128Load(i * 16), set(local))),
    loop(
      code(get(parameters), wasm.v128Load32Splat(0), set(scale)),
      code(get(parameters), wasm.v128Load32Splat(4), set(zero)),
      code(get(count), set(left)),
      loop(
        code(get(values), wasm.v128Load(), tee(w), get(scale), wasm.F32X4_DIV, get(zero), wasm.F32X4_ADD, set(q)),
        code(clamp(get(q), low, high), wasm.F32X4_NEAREST, set(q)),
        code(get(q), get(zero), wasm.F32X4_SUB, get(scale), wasm.F32X4_MUL, set(stored)),
        code(get(codes), get(q), wasm.I32X4_TRUNC_SAT_F32X4_S, tee(q), get(q), wasm.I16X8_NARROW_I32X4_S, tee(q)),
        code(get(q), wasm.I8X16_NARROW_I16X8_S, wasm.v128Store32Lane(0, 0)),
        ...halves.map(accumulate),
        advance(values, 16),
        advance(codes, 4),
        countDown(left, 4),
      ),
      advance(parameters, PARAMETER_BYTES),
      countDown(groups, 1),
    ),
    ...totals.map((local, i) => code(get(sums), get(local), wasm.v128Store(i * 16))),
  )
  return { name: 'quantize', parameters: [I32, I32, I32, I32, I32, I32, F32, F32], locals: locals.types as ValueType[], body }
}

/** Compiles the kernels over `memory`: under a millisecond, once per thread. */
export function compileKernels(memory: WasmMemory): Kernels {
  const module = new WebAssembly.Module(wasm.assemble([widenBf16(), ranges(), search(), quantize()]))
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernels
}
