import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { dequantizeRows, openDequantizer } from './dequantize.ts'
import { asBytes, asInt32, widenToF32 } from './dtypes.ts'
import type { StoredLinear } from './modules.ts'
import { storedLinear, storedLinears } from './modules.ts'
import { openCheckpoint } from './open.ts'
import { DEMO_MODEL, fromHex, latheError, sharedData, temporaryFolder, tensorFile } from './test/fixtures.ts'
import type { Checkpoint } from './types.ts'

const models = sharedData('models')

function config(weights: Record<string, unknown>, format: string): string {
  const quantization = { quant_method: 'compressed-tensors', format, config_groups: { g: { targets: ['Linear'], weights } } }
  return JSON.stringify({ model_type: 'llama', quantization_config: quantization })
}

async function open(
  weights: Record<string, unknown>,
  format: string,
  tensors: readonly [string, string, readonly number[], Uint8Array][],
): Promise<Checkpoint> {
  const file = tensorFile(tensors.map(([suffix, dtype, shape, data]) => ({ name: `p.${suffix}`, dtype, shape, data })))
  return openCheckpoint(await temporaryFolder({ 'config.json': config(weights, format), 'model.safetensors': file }))
}

async function only(checkpoint: Checkpoint): Promise<StoredLinear> {
  const linear = await storedLinear(checkpoint, 'p')
  if (linear === null) throw new Error('no linear')
  return linear
}

async function all(checkpoint: Checkpoint): Promise<number[]> {
  const linear = await only(checkpoint)
  return [...(await dequantizeRows(checkpoint, linear, 0, linear.rows))]
}

const shape = (rows: number, cols: number): Uint8Array => asBytes(BigInt64Array.of(BigInt(rows), BigInt(cols)))
const words = (...values: number[]): Uint8Array => asBytes(Int32Array.from(values))

describe('worked examples of specs/compressed-tensors.md §6.2', () => {
  it('int4 symmetric: word F5C82C68, scale 4D3E', async () => {
    await using checkpoint = await open({ num_bits: 4, group_size: 8 }, 'pack-quantized', [
      ['weight_packed', 'I32', [1, 1], words(0xf5c82c68 | 0)],
      ['weight_scale', 'BF16', [1, 1], fromHex('4D3E')],
      ['weight_shape', 'I64', [2], shape(1, 8)],
    ])
    expect(await all(checkpoint)).toEqual([0, -2, 4, -6, 0, 4, -3, 7].map((code) => code * 0.2001953125 + 0))
  })

  it('int4 asymmetric: word F4C70B58, scale 393E, zero point -1 as word 00000007', async () => {
    await using checkpoint = await open({ num_bits: 4, group_size: 8, symmetric: false }, 'pack-quantized', [
      ['weight_packed', 'I32', [1, 1], words(0xf4c70b58 | 0)],
      ['weight_scale', 'BF16', [1, 1], fromHex('393E')],
      ['weight_zero_point', 'I32', [1, 1], words(7)],
      ['weight_shape', 'I64', [2], shape(1, 8)],
    ])
    expect(await all(checkpoint)).toEqual([0, -3, 3, -8, -1, 4, -4, 7].map((code) => (code + 1) * 0.1806640625))
  })

  it('int8 channel: raw bytes, scale 413C', async () => {
    await using checkpoint = await open({ num_bits: 8, strategy: 'channel' }, 'int-quantized', [
      ['weight', 'I8', [1, 8], asBytes(Int8Array.of(8, -30, 59, -102, 4, 76, -51, 127))],
      ['weight_scale', 'BF16', [1, 1], fromHex('413C')],
    ])
    expect(await all(checkpoint)).toEqual([8, -30, 59, -102, 4, 76, -51, 127].map((code) => code * 0.01177978515625))
  })

  it('fp8 channel: 5FED75FB5778F37E, scale 5B3B', async () => {
    await using checkpoint = await open({ num_bits: 8, type: 'float', strategy: 'channel' }, 'float-quantized', [
      ['weight', 'F8_E4M3', [1, 8], fromHex('5FED75FB5778F37E')],
      ['weight_scale', 'BF16', [1, 1], fromHex('5B3B')],
    ])
    expect(await all(checkpoint)).toEqual([30, -104, 208, -352, 15, 256, -176, 448].map((code) => Math.fround(code * 0.0033416748046875)))
  })
})

describe('layouts', () => {
  it('zero points per row and group, packed down the columns', async () => {
    // 9 rows of one group: the zero points of §5.1. Codes all 0, scale 1, so every value is minus its zero point.
    const zeros = [-8, -7, 0, 7, 1, -1, 2, 3, 5]
    await using checkpoint = await open({ num_bits: 4, strategy: 'channel', symmetric: false }, 'pack-quantized', [
      ['weight_packed', 'I32', [9, 1], words(...zeros.map(() => 0x88888888 | 0))],
      ['weight_scale', 'F32', [9, 1], asBytes(new Float32Array(9).fill(1))],
      ['weight_zero_point', 'I32', [2, 1], words(-1166411760, 13)],
      ['weight_shape', 'I64', [2], shape(9, 1)],
    ])
    expect(await all(checkpoint)).toEqual(zeros.map((zero) => 0 - zero))
    const linear = await only(checkpoint)
    expect([...(await dequantizeRows(checkpoint, linear, 3, 5))]).toEqual([-7, -1])
  })

  it('group indices: columns keep their place, groups are looked up', async () => {
    await using checkpoint = await open({ num_bits: 8, group_size: 2, actorder: 'group' }, 'pack-quantized', [
      ['weight_packed', 'I32', [1, 1], words(0x84838281 | 0)],
      ['weight_scale', 'F32', [1, 2], asBytes(Float32Array.of(10, 100))],
      ['weight_g_idx', 'I32', [4], words(1, 0, 0, 1)],
      ['weight_shape', 'I64', [2], shape(1, 4)],
    ])
    expect(await all(checkpoint)).toEqual([100, 20, 30, 400])
  })

  it('group indices outside the groups are refused', async () => {
    await using checkpoint = await open({ num_bits: 8, group_size: 2, actorder: 'group' }, 'pack-quantized', [
      ['weight_packed', 'I32', [1, 1], words(0)],
      ['weight_scale', 'F32', [1, 2], asBytes(Float32Array.of(10, 100))],
      ['weight_g_idx', 'I32', [4], words(0, 1, 2, 0)],
      ['weight_shape', 'I64', [2], shape(1, 4)],
    ])
    const linear = await only(checkpoint)
    expect((await latheError(() => openDequantizer(checkpoint, linear), 'checkpoint.invalid-tensor')).message).toMatch(/group 2 of 2/)
  })

  it('fp8 blocks with ragged edges', async () => {
    const ones = new Uint8Array(3 * 5).fill(0x38)
    await using checkpoint = await open({ num_bits: 8, type: 'float', strategy: 'block', block_structure: [2, 2] }, 'float-quantized', [
      ['weight', 'F8_E4M3', [3, 5], ones],
      ['weight_scale', 'F32', [2, 3], asBytes(Float32Array.of(1, 2, 3, 4, 5, 6))],
    ])
    expect(await all(checkpoint)).toEqual([1, 1, 2, 2, 3, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6])
    expect([...(await dequantizeRows(checkpoint, await only(checkpoint), 2, 3))]).toEqual([4, 4, 5, 5, 6])
  })

  it('one scale for a whole tensor', async () => {
    await using checkpoint = await open({ num_bits: 8, type: 'float', strategy: 'tensor' }, 'naive-quantized', [
      ['weight', 'F8_E4M3', [2, 2], Uint8Array.of(0x38, 0xb8, 0x40, 0)],
      ['weight_scale', 'F16', [1], fromHex('0042')],
    ])
    expect(await all(checkpoint)).toEqual([3, -3, 6, 0])
  })

  it('dense rows in their own dtype', async () => {
    await using checkpoint = await openCheckpoint(DEMO_MODEL)
    const linear = await storedLinear(checkpoint, 'model.layers.0.self_attn.k_proj')
    const rows = await dequantizeRows(checkpoint, linear!, 5, 7)
    const bytes = await checkpoint.open('model.layers.0.self_attn.k_proj.weight').read(5 * 512, 1024)
    expect([...rows]).toEqual([...widenToF32(bytes, 'BF16')])
    await expect(dequantizeRows(checkpoint, linear!, 0, 129)).rejects.toThrow(RangeError)
  })

  it('decodes NVFP4: E2M1 by E4M3 scale by the factor, a divisor (§6.3)', async () => {
    await using checkpoint = await open({ num_bits: 4, type: 'float', strategy: 'tensor_group', group_size: 16 }, 'nvfp4-pack-quantized', [
      ['weight_packed', 'U8', [1, 8], Uint8Array.of(0x00, 0x29, 0x3a, 0xc4, 0xe5, 0xf6, 0x80, 0x71)],
      ['weight_scale', 'F8_E4M3', [1, 1], Uint8Array.of(0x7e)],
      ['weight_global_scale', 'F32', [1], new Uint8Array(Float32Array.of(672).buffer)],
    ])
    const decoded = await dequantizeRows(checkpoint, await only(checkpoint), 0, 1)
    const codes = [0, 0, -0.5, 1, -1, 1.5, 2, -2, 3, -4, 4, -6, 0, -0, 0.5, 6]
    expect([...decoded]).toEqual(codes.map((code) => Math.fround(code * (448 / 672))))
  })

  it.each([
    ['mxfp4-pack-quantized', 4, ['weight_packed', 'U8', [1, 16], new Uint8Array(16).fill(0xf1)], [0.5, -6]],
    ['mxfp8-quantized', 8, ['weight', 'F8_E4M3', [1, 32], new Uint8Array(32).fill(0x7e)], [448, 448]],
  ] as const)('decodes %s: an element by a power of two (§6.4)', async (format, num_bits, codes, pair) => {
    const args = { num_bits, type: 'float', strategy: 'group', group_size: 32, scale_dtype: 'torch.uint8' }
    await using checkpoint = await open(args, format, [
      [codes[0], codes[1], [...codes[2]], codes[3]],
      ['weight_scale', 'U8', [1, 1], Uint8Array.of(125)],
    ])
    const decoded = await dequantizeRows(checkpoint, await only(checkpoint), 0, 1)
    expect([...decoded.subarray(0, 2)]).toEqual(pair.map((value) => value / 4))
  })
})

/** Straight from §5.1, one element at a time with big integers: shares no code with what it checks. */
function decodePacked(packed: Int32Array, row: number, wordsPerRow: number, cols: number, bits: number): number[] {
  let value = 0n
  for (let word = wordsPerRow - 1; word >= 0; word--) value = (value << 32n) | BigInt(packed[row * wordsPerRow + word]! >>> 0)
  return Array.from({ length: cols }, (_, col) => Number((value >> BigInt(col * bits)) & ((1n << BigInt(bits)) - 1n)) - 2 ** (bits - 1))
}

interface Compared {
  readonly name: string
  readonly source: Float32Array
  readonly stored: Float32Array
  readonly linear: StoredLinear
  readonly scales: Float32Array
}

/** Every quantized matrix of a variant beside the demo model's own. */
async function compare(variant: string): Promise<Compared[]> {
  await using original = await openCheckpoint(DEMO_MODEL)
  await using checkpoint = await openCheckpoint(join(models ?? '', `llmcompressor-${variant}`))
  const results: Compared[] = []
  for (const linear of await storedLinears(checkpoint)) {
    if (linear.format === 'dense') continue
    const { name, rows } = linear
    const bytes = await original.open(`${name}.weight`).read(0, original.tensors.get(`${name}.weight`)!.byteLength)
    const scale = linear.tensors.scale!
    const scales = widenToF32(await checkpoint.open(scale.name).read(0, scale.byteLength), scale.dtype)
    results.push({ name, source: widenToF32(bytes, 'BF16'), stored: await dequantizeRows(checkpoint, linear, 0, rows), linear, scales })
  }
  expect(results.length).toBe(42)
  return results
}

function relativeError(source: Float32Array, stored: Float32Array): number {
  let difference = 0
  let norm = 0
  for (let i = 0; i < source.length; i++) {
    difference += (source[i]! - stored[i]!) ** 2
    norm += source[i]! ** 2
  }
  return Math.sqrt(difference / norm)
}

describe.skipIf(models === null)('the demo model as LLM Compressor stored it', () => {
  // Round-to-nearest bounds every single element by its scale (a misplaced group, row or column would break it at once): half a step, or the
  // clamped half step at the top of the range; 3 % more for the bf16 arithmetic that the library quantized in.
  it.each([
    ['rtn-w3-g64', 0.53],
    ['w8a8', 0.75], // bf16 holds quotients of 64 to 128 in steps of a half, so -115.25 becomes -115.5 and then -116
  ])('%s: every element within %f steps of the source', async (variant, steps) => {
    for (const { name, source, stored, linear, scales } of await compare(variant)) {
      const groups = linear.cols / (linear.groupSize ?? linear.cols)
      let worst = 0
      for (let i = 0; i < source.length; i++) {
        const row = Math.floor(i / linear.cols)
        const group = Math.floor((i % linear.cols) / (linear.groupSize ?? linear.cols))
        worst = Math.max(worst, Math.abs(source[i]! - stored[i]!) / scales[row * groups + group]!)
      }
      expect({ name, within: worst <= steps, worst }).toEqual({ name, within: true, worst })
    }
  })

  it('gptq-w4a16-g128: three quarters of all elements within half a step, although GPTQ moves the rest on purpose', async () => {
    let within = 0
    let count = 0
    for (const { source, stored, linear, scales } of await compare('gptq-w4a16-g128')) {
      const groups = linear.cols / 128
      for (let i = 0; i < source.length; i++) {
        const scale = scales[Math.floor(i / linear.cols) * groups + Math.floor((i % linear.cols) / 128)]!
        if (Math.abs(source[i]! - stored[i]!) <= scale / 2) within++
      }
      count += source.length
    }
    expect(within / count).toBeGreaterThan(0.75)
  })

  it.each([
    ['gptq-w4a16-g128', 0.25],
    ['rtn-w3-g64', 0.27],
    ['fp8-dynamic', 0.03],
    ['w8a8', 0.012],
  ])('%s: relative error of every matrix below %f', async (variant, limit) => {
    const errors = (await compare(variant)).map(({ source, stored }) => relativeError(source, stored))
    expect(Math.max(...errors)).toBeLessThan(limit)
    expect(Math.min(...errors)).toBeGreaterThan(limit / 10)
  })

  it('equals an independent decoder of 3- and 4-bit words, value by value', async () => {
    for (const variant of ['rtn-w3-g64', 'gptq-w4a16-g128']) {
      await using checkpoint = await openCheckpoint(join(models ?? '', `llmcompressor-${variant}`))
      const linear = (await storedLinear(checkpoint, 'model.layers.3.mlp.down_proj'))!
      const { packed, scale } = linear.tensors
      const codes = asInt32(await checkpoint.open(packed!.name).read(0, packed!.byteLength))
      const scales = widenToF32(await checkpoint.open(scale!.name).read(0, scale!.byteLength), scale!.dtype)
      const stored = await dequantizeRows(checkpoint, linear, 100, 110)
      const groups = linear.cols / linear.groupSize!
      for (let row = 100; row < 110; row++) {
        const expected = decodePacked(codes, row, packed!.shape[1]!, linear.cols, linear.args!.numBits).map((code, col) =>
          Math.fround(code * scales[row * groups + Math.floor(col / linear.groupSize!)]!),
        )
        expect([...stored.subarray((row - 100) * linear.cols, (row - 99) * linear.cols)].map((value) => value + 0)).toEqual(
          expected.map((value) => value + 0),
        )
      }
    }
  })
})
