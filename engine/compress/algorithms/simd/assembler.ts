/**
 * Just enough of a WebAssembly assembler to write a few SIMD kernels by hand without a toolchain: functions over one imported memory, made of
 * instruction bytes. Encodings from the WebAssembly core specification 2.0, §5 (binary format); each instruction is named as there.
 */

/** Instructions and their operands, as bytes. */
export type Code = readonly number[]

export const I32 = 0x7f
export const F32 = 0x7d
export const V128 = 0x7b
export type ValueType = typeof I32 | typeof F32 | typeof V128

export interface WasmFunction {
  readonly name: string
  readonly parameters: readonly ValueType[]
  readonly locals: readonly ValueType[]
  readonly body: Code
}

/** Unsigned LEB128. */
export function unsigned(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  do {
    const low = rest % 128
    rest = Math.floor(rest / 128)
    bytes.push(rest > 0 ? low | 0x80 : low)
  } while (rest > 0)
  return bytes
}

/** Signed LEB128 of an i32. */
export function signed(value: number): number[] {
  const bytes: number[] = []
  let rest = value | 0
  for (;;) {
    const low = rest & 0x7f
    rest >>= 7
    const isLast = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)
    bytes.push(isLast ? low : low | 0x80)
    if (isLast) return bytes
  }
}

export const get = (local: number): Code => [0x20, ...unsigned(local)]
export const set = (local: number): Code => [0x21, ...unsigned(local)]
export const tee = (local: number): Code => [0x22, ...unsigned(local)]
export const i32Const = (value: number): Code => [0x41, ...signed(value)]
export const I32_ADD: Code = [0x6a]
export const I32_SUB: Code = [0x6b]
export const I32_LT_S: Code = [0x48]
export const F64_ADD: Code = [0xa0]
export const F64_MUL: Code = [0xa2]
export const F64_LT: Code = [0x63]
export const F64_PROMOTE_F32: Code = [0xbb]
export const F64 = 0x7c
export const f64Load = (offset: number): Code => [0x2b, 3, ...unsigned(offset)]
export const i32Store = (offset: number): Code => [0x36, 2, ...unsigned(offset)]
export const f64Const = (value: number): Code => [0x44, ...new Uint8Array(Float64Array.of(value).buffer)]

/** Repeats `body` while the condition it leaves on the stack is true. */
export const loop = (...body: readonly Code[]): Code => [0x03, 0x40, ...body.flat(), 0x0d, 0, 0x0b]
/** Runs `body` if the stack's top is true. */
export const when = (...body: readonly Code[]): Code => [0x04, 0x40, ...body.flat(), 0x0b]

const simd = (opcode: number, ...operands: readonly number[]): Code => [0xfd, ...unsigned(opcode), ...operands]
const memory = (align: number, offset: number): readonly number[] => [align, ...unsigned(offset)]

export const v128Load = (offset = 0): Code => simd(0x00, ...memory(4, offset))
export const v128Load16x4U = (offset = 0): Code => simd(0x04, ...memory(1, offset))
export const v128Load32Splat = (offset = 0): Code => simd(0x09, ...memory(2, offset))
export const v128Store = (offset = 0): Code => simd(0x0b, ...memory(4, offset))
export const v128Store32Lane = (offset: number, lane: number): Code => simd(0x5a, ...memory(2, offset), lane)
export const V128_ZERO: Code = simd(0x0c, ...Array.from({ length: 16 }, () => 0))
/** Lanes 2 and 3 of the first operand in lanes 0 and 1: the upper half for `promote_low`. */
export const UPPER_HALF: Code = simd(0x0d, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15)
export const F32X4_SPLAT: Code = simd(0x13)
export const f32x4Lane = (lane: number): Code => simd(0x1f, lane)
export const F32X4_NEAREST: Code = simd(0x6a)
export const F32X4_ADD: Code = simd(0xe4)
export const F32X4_SUB: Code = simd(0xe5)
export const F32X4_MUL: Code = simd(0xe6)
export const F32X4_DIV: Code = simd(0xe7)
export const F32X4_PMIN: Code = simd(0xea)
export const F32X4_PMAX: Code = simd(0xeb)
export const F64X2_PROMOTE_LOW: Code = simd(0x5f)
export const F64X2_ABS: Code = simd(0xec)
export const F64X2_ADD: Code = simd(0xf0)
export const F64X2_SUB: Code = simd(0xf1)
export const F64X2_MUL: Code = simd(0xf2)
export const F64X2_PMAX: Code = simd(0xf7)
export const I32X4_SHL: Code = simd(0xab)
export const I32X4_TRUNC_SAT_F32X4_S: Code = simd(0xf8)
export const I16X8_NARROW_I32X4_S: Code = simd(0x85)
export const I8X16_NARROW_I16X8_S: Code = simd(0x65)

function section(id: number, entries: readonly Code[]): number[] {
  const content = [...unsigned(entries.length), ...entries.flat()]
  return [id, ...unsigned(content.length), ...content]
}

function name(text: string): number[] {
  return [...unsigned(text.length), ...new TextEncoder().encode(text)]
}

const MAGIC_AND_VERSION = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]

/** A module that imports `env.memory` and exports `functions`, none of which returns a value. */
export function assemble(functions: readonly WasmFunction[]): Uint8Array<ArrayBuffer> {
  const types = functions.map(({ parameters }) => [0x60, ...unsigned(parameters.length), ...parameters, 0])
  const bodies = functions.map(({ locals, body }) => {
    const declared = [...unsigned(locals.length), ...locals.flatMap((type) => [1, type])]
    const code = [...declared, ...body, 0x0b]
    return [...unsigned(code.length), ...code]
  })
  return Uint8Array.from([
    ...MAGIC_AND_VERSION,
    ...section(1, types),
    ...section(2, [[...name('env'), ...name('memory'), 0x02, 0x00, 0x00]]),
    ...section(
      3,
      functions.map((_, i) => unsigned(i)),
    ),
    ...section(
      7,
      functions.map((entry, i) => [...name(entry.name), 0x00, ...unsigned(i)]),
    ),
    ...section(10, bodies),
  ])
}
