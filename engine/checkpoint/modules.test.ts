import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { ErrorCode } from '../contract/errors.ts'
import { asBytes } from './dtypes.ts'
import { classOf, storedLinear, storedLinears } from './modules.ts'
import { openCheckpoint } from './open.ts'
import { DEMO_MODEL, latheError, sharedData, temporaryFolder, tensorFile } from './test/fixtures.ts'

const models = sharedData('models')

interface TestTensor {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

const tensor = (name: string, dtype: string, shape: readonly number[], bytes: number): TensorFields => ({
  name,
  dtype,
  shape,
  data: new Uint8Array(bytes),
})
type TensorFields = TestTensor

/** A consistent 4-bit linear of 3 × 16 in groups of 8, before it is spoilt. */
const PACKED: Readonly<Record<string, TestTensor>> = {
  packed: tensor('p.weight_packed', 'I32', [3, 2], 24),
  scale: tensor('p.weight_scale', 'BF16', [3, 2], 12),
  shape: { name: 'p.weight_shape', dtype: 'I64', shape: [2], data: asBytes(BigInt64Array.of(3n, 16n)) },
}

const args = (change: Record<string, unknown> = {}): Record<string, unknown> => ({
  num_bits: 4,
  type: 'int',
  strategy: 'group',
  group_size: 8,
  ...change,
})

function configWith(weights: Record<string, unknown>, format = 'pack-quantized', ignore: string[] = []): string {
  return JSON.stringify({
    model_type: 'llama',
    quantization_config: { quant_method: 'compressed-tensors', format, ignore, config_groups: { g: { targets: ['Linear'], weights } } },
  })
}

async function openWith(config: string, tensors: readonly TestTensor[]): ReturnType<typeof openCheckpoint> {
  return openCheckpoint(await temporaryFolder({ 'config.json': config, 'model.safetensors': tensorFile(tensors) }))
}

describe('consistent checkpoints', () => {
  it('lists the matrices of the demo model', async () => {
    await using checkpoint = await openCheckpoint(DEMO_MODEL)
    const linears = await storedLinears(checkpoint)
    // 6 layers × 7 projections, and the (tied) embedding.
    expect(linears.length).toBe(43)
    expect(linears.every((linear) => linear.format === 'dense' && linear.args === null)).toBe(true)
    expect(linears.find((linear) => linear.name === 'model.layers.2.mlp.down_proj')).toMatchObject({
      rows: 256,
      cols: 640,
      byteLength: 256 * 640 * 2,
    })
  })

  it.skipIf(models === null).each([
    ['gptq-w4a16-g128', 'pack-quantized', 128, 256 * 80 * 4 + 256 * 5 * 2 + 16],
    ['rtn-w3-g64', 'pack-quantized', 64, 256 * 60 * 4 + 256 * 10 * 2 + 16],
    ['fp8-dynamic', 'float-quantized', 640, 256 * 640 + 256 * 2],
    ['w8a8', 'int-quantized', 640, 256 * 640 + 256 * 2],
  ])('lists what LLM Compressor wrote for %s', async (name, format, groupSize, byteLength) => {
    await using checkpoint = await openCheckpoint(join(models ?? '', `llmcompressor-${name}`))
    const linears = await storedLinears(checkpoint)
    const down = linears.find((linear) => linear.name === 'model.layers.2.mlp.down_proj')
    expect(down).toMatchObject({ rows: 256, cols: 640, format, groupSize, byteLength })
    expect(linears.filter((linear) => linear.format === format).length).toBe(42)
    expect(linears.filter((linear) => linear.format === 'dense').map((linear) => linear.name)).toEqual(['model.embed_tokens'])
  })

  it('finds one module, and none where there is no matrix', async () => {
    await using checkpoint = await openWith(configWith(args()), [...Object.values(PACKED), tensor('norm.weight', 'F32', [4], 16)])
    expect(await storedLinear(checkpoint, 'p')).toMatchObject({ name: 'p', rows: 3, cols: 16, groupSize: 8 })
    expect([await storedLinear(checkpoint, 'norm'), await storedLinear(checkpoint, 'absent')]).toEqual([null, null])
  })

  it('reads how a module is stored from its tensors, not from the targets', async () => {
    await using checkpoint = await openWith(configWith(args()), [tensor('kept.weight', 'BF16', [2, 3], 12)])
    expect(await storedLinears(checkpoint)).toMatchObject([{ name: 'kept', format: 'dense', rows: 2, cols: 3 }])
  })

  it('lists a format that cannot be dequantized yet', async () => {
    const weights = args({ type: 'float', strategy: 'tensor_group', group_size: 16, scale_dtype: 'torch.float8_e4m3fn' })
    await using checkpoint = await openWith(configWith(weights, 'nvfp4-pack-quantized'), [
      tensor('p.weight_packed', 'U8', [2, 16], 32),
      tensor('p.weight_scale', 'F8_E4M3', [2, 2], 4),
      tensor('p.weight_global_scale', 'F32', [1], 4),
    ])
    expect(await storedLinears(checkpoint)).toMatchObject([
      { rows: 2, cols: 32, format: 'nvfp4-pack-quantized', tensors: { extras: { weight_global_scale: {} } } },
    ])
  })

  it('knows embeddings by name', () => {
    expect(['model.embed_tokens', 'transformer.wte', 'lm_head', 'q_proj'].map(classOf)).toEqual([
      'Embedding',
      'Embedding',
      'Linear',
      'Linear',
    ])
  })
})

describe('contradictions', () => {
  const { packed, scale, shape } = PACKED as Record<'packed' | 'scale' | 'shape', TestTensor>
  const shapeOf = (rows: bigint, cols: bigint): TestTensor => ({ ...shape, data: asBytes(BigInt64Array.of(rows, cols)) })
  const zero = tensor('p.weight_zero_point', 'I32', [1, 2], 8)

  it.each<[string, string, readonly TestTensor[], ErrorCode, RegExp]>([
    ['no packed weight', configWith(args()), [scale, shape], 'checkpoint.missing-tensor', /weight_packed/],
    ['no scale', configWith(args()), [packed, shape], 'checkpoint.missing-tensor', /weight_scale/],
    ['no shape', configWith(args()), [packed, scale], 'checkpoint.missing-tensor', /weight_shape/],
    ['rows that differ', configWith(args()), [packed, scale, shapeOf(4n, 16n)], 'checkpoint.invalid-tensor', /3 packed rows.*says 4/],
    ['too few words', configWith(args()), [packed, scale, shapeOf(3n, 24n)], 'checkpoint.invalid-tensor', /2 packed words.*need 3/],
    ['a negative shape', configWith(args()), [packed, scale, shapeOf(3n, -16n)], 'checkpoint.invalid-tensor', /impossible/],
    ['a shape beyond 2^53', configWith(args()), [packed, scale, shapeOf(2n ** 62n, 16n)], 'checkpoint.invalid-tensor', /impossible/],
    [
      'a shape of three',
      configWith(args()),
      [packed, scale, tensor('p.weight_shape', 'I64', [3], 24)],
      'checkpoint.invalid-tensor',
      /two numbers/,
    ],
    ['other bits than packed', configWith(args({ num_bits: 8 })), [packed, scale, shape], 'checkpoint.invalid-tensor', /packed words/],
    [
      'scales of another shape',
      configWith(args()),
      [packed, tensor('p.weight_scale', 'BF16', [3, 1], 6), shape],
      'checkpoint.invalid-tensor',
      /needs \[3, 2\]/,
    ],
    [
      'scales of integers',
      configWith(args()),
      [packed, tensor('p.weight_scale', 'I16', [3, 2], 12), shape],
      'checkpoint.invalid-tensor',
      /dtype I16/,
    ],
    [
      'packed floats',
      configWith(args()),
      [tensor('p.weight_packed', 'F32', [3, 2], 24), scale, shape],
      'checkpoint.invalid-tensor',
      /dtype F32/,
    ],
    ['groups that do not divide', configWith(args({ group_size: 5 })), [packed, scale, shape], 'checkpoint.invalid-tensor', /groups of 5/],
    ['zero points though symmetric', configWith(args()), [packed, scale, shape, zero], 'checkpoint.invalid-tensor', /symmetric/],
    [
      'no zero points though asymmetric',
      configWith(args({ symmetric: false })),
      [packed, scale, shape],
      'checkpoint.missing-tensor',
      /zero_point/,
    ],
    [
      'zero points unpacked',
      configWith(args({ symmetric: false })),
      [packed, scale, shape, tensor('p.weight_zero_point', 'I8', [3, 2], 6)],
      'checkpoint.invalid-tensor',
      /I8 instead of I32/,
    ],
    [
      'zero points of another shape',
      configWith(args({ symmetric: false })),
      [packed, scale, shape, tensor('p.weight_zero_point', 'I32', [3, 2], 24)],
      'checkpoint.invalid-tensor',
      /instead of \[1, 2\]/,
    ],
    [
      'group indices too short',
      configWith(args({ actorder: 'group' })),
      [packed, scale, shape, tensor('p.weight_g_idx', 'I32', [8], 32)],
      'checkpoint.invalid-tensor',
      /I32 \[16\]/,
    ],
    [
      'no group indices though ordered',
      configWith(args({ actorder: 'group' })),
      [packed, scale, shape],
      'checkpoint.missing-tensor',
      /g_idx/,
    ],
    [
      'a packed and a plain weight',
      configWith(args()),
      [packed, scale, shape, tensor('p.weight', 'BF16', [3, 16], 96)],
      'checkpoint.invalid-tensor',
      /both/,
    ],
    [
      'a plain weight with scales',
      configWith(args()),
      [scale, tensor('p.weight', 'BF16', [3, 16], 96)],
      'checkpoint.missing-tensor',
      /weight_packed/,
    ],
    [
      'a module that the config ignores',
      configWith(args(), 'pack-quantized', ['p']),
      [packed, scale, shape],
      'checkpoint.invalid-tensor',
      /does not cover/,
    ],
    [
      'quantized tensors without any config',
      '{"model_type":"llama"}',
      [packed, scale, shape],
      'checkpoint.invalid-tensor',
      /does not cover/,
    ],
    [
      'bytes without scales',
      '{"model_type":"llama"}',
      [tensor('p.weight', 'I8', [3, 16], 48)],
      'checkpoint.invalid-tensor',
      /I8 without scales/,
    ],
    [
      'fp8 where int8 is said',
      configWith(args({ num_bits: 8, strategy: 'channel', group_size: null }), 'int-quantized'),
      [tensor('p.weight', 'F8_E4M3', [3, 16], 48), tensor('p.weight_scale', 'BF16', [3, 1], 6)],
      'checkpoint.invalid-tensor',
      /F8_E4M3 instead of I8/,
    ],
    [
      'a bias of another length',
      configWith(args()),
      [packed, scale, shape, tensor('p.bias', 'BF16', [4], 8)],
      'checkpoint.invalid-tensor',
      /bias of shape \[4\]/,
    ],
    [
      'a packed weight that is no matrix',
      configWith(args()),
      [tensor('p.weight_packed', 'I32', [6], 24), scale, shape],
      'checkpoint.invalid-tensor',
      /a matrix is needed/,
    ],
  ])('refuses %s', async (_, config, tensors, code, message) => {
    await using checkpoint = await openWith(config, tensors)
    expect((await latheError(() => storedLinears(checkpoint), code)).message).toMatch(message)
  })
})
