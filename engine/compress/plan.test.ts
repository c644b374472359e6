/** Planning from headers: synthetic checkpoints for the rules, real ones for the figures. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { DTYPE_BYTES } from '../checkpoint/dtypes.ts'
import { openCheckpoint } from '../checkpoint/open.ts'
import type { Checkpoint, StoredDtype, TensorEntry } from '../checkpoint/types.ts'
import { LatheError } from '../contract/errors.ts'
import { planCompression, predict } from './plan.ts'
import { presetById } from './presets.ts'
import { parseRecipeYaml } from './recipe-yaml.ts'

const demo = fileURLToPath(new URL('../../assets/demo-model', import.meta.url))
const shared = fileURLToPath(new URL('../../../shared/data/models', import.meta.url))

function checkpoint(shapes: Record<string, readonly number[]>, options: { config?: object; dtype?: StoredDtype } = {}): Checkpoint {
  const dtype = options.dtype ?? 'BF16'
  const tensors = Object.entries(shapes).map(([name, shape]): [string, TensorEntry] => [
    name,
    { name, dtype, shape, byteLength: shape.reduce((a, b) => a * b, DTYPE_BYTES[dtype]), file: 'model.safetensors' },
  ])
  return {
    folder: '/nowhere',
    config: (options.config ?? {}) as Record<string, unknown>,
    generationConfig: null,
    quantization: null,
    tensors: new Map(tensors),
    metadata: new Map(),
    files: [],
    open: () => {
      throw new Error('planning reads no weights')
    },
    [Symbol.asyncDispose]: async () => {},
  }
}

function layer(hidden: number, intermediate: number): Record<string, readonly number[]> {
  const p = 'model.layers.0'
  return {
    'model.embed_tokens.weight': [100, hidden],
    [`${p}.self_attn.q_proj.weight`]: [hidden, hidden],
    [`${p}.self_attn.q_proj.bias`]: [hidden],
    [`${p}.self_attn.k_proj.weight`]: [hidden / 2, hidden],
    [`${p}.self_attn.v_proj.weight`]: [hidden / 2, hidden],
    [`${p}.self_attn.o_proj.weight`]: [hidden, hidden],
    [`${p}.mlp.gate_proj.weight`]: [intermediate, hidden],
    [`${p}.mlp.up_proj.weight`]: [intermediate, hidden],
    [`${p}.mlp.down_proj.weight`]: [hidden, intermediate],
    [`${p}.input_layernorm.weight`]: [hidden],
    'lm_head.weight': [100, hidden],
  }
}

function errorOf(run: () => unknown): { code: string; message: string } {
  try {
    run()
  } catch (error) {
    if (error instanceof LatheError) return { code: error.code, message: error.message }
    throw error
  }
  throw new Error('nothing was thrown')
}

function fused(culprit: string): string {
  return `it forms one layer with model.layers.0.${culprit}, which is kept, and vLLM needs one scheme for all of it`
}

function matrix(rows: number, cols: number): number {
  return (rows * cols) / 2 + ((rows * cols) / 128) * 2 + 16
}

function fine(rows: number, cols: number): number {
  return (rows * cols) / 2 + ((rows * cols) / 32) * 2.5 + 16
}

const balanced = presetById('quick-4bit').recipe

describe('planning', () => {
  it('refuses columns that groups do not divide, and keeps everything else', () => {
    const plan = planCompression(checkpoint(layer(256, 320)), balanced)
    expect(plan.ignored).toEqual([
      { name: 'lm_head', kind: 'by-design', reason: 'the output head stays as it is: its error goes straight into every token' },
      { name: 'model.embed_tokens', kind: 'by-design', reason: 'embedding tables stay as they are: a token reads only one row' },
      {
        name: 'model.layers.0.mlp.down_proj',
        kind: 'refused',
        reason: 'its 320 columns are not divisible by the group size 128',
      },
    ])
    expect(plan.quantization!.ignore).toEqual(['lm_head', 'model.layers.0.mlp.down_proj'])
    expect(plan.items.filter((item) => item.action === 'compress').map((item) => item.module)).toEqual(
      ['mlp.gate_proj', 'mlp.up_proj', 'self_attn.k_proj', 'self_attn.o_proj', 'self_attn.q_proj', 'self_attn.v_proj'].map(
        (name) => `model.layers.0.${name}`,
      ),
    )
  })

  it('keeps the partners of a matrix that the recipe leaves out', () => {
    const recipe = parseRecipeYaml(`QuantizationModifier: {scheme: W4A16, ignore: [lm_head, 're:.*k_proj$', 're:.*up_proj$']}`)
    const plan = planCompression(checkpoint(layer(256, 512)), recipe)
    expect(Object.fromEntries(plan.ignored.map((tensor) => [tensor.name.replace('model.layers.0.', ''), tensor.reason]))).toMatchObject({
      'self_attn.k_proj': 'the recipe leaves it out',
      'self_attn.q_proj': fused('self_attn.k_proj'),
      'self_attn.v_proj': fused('self_attn.k_proj'),
      'mlp.up_proj': 'the recipe leaves it out',
      'mlp.gate_proj': fused('mlp.up_proj'),
    })
    expect(plan.items.filter((item) => item.action === 'compress').map((item) => item.module)).toEqual([
      'model.layers.0.mlp.down_proj',
      'model.layers.0.self_attn.o_proj',
    ])
  })

  it('refuses different schemes for matrices that a server fuses', () => {
    const recipe = parseRecipeYaml(`QuantizationModifier:
  scheme: {W8A16: ['re:.*k_proj$'], W4A16: [Linear]}
  ignore: [lm_head]`)
    expect(errorOf(() => planCompression(checkpoint(layer(256, 512)), recipe))).toEqual({
      code: 'compress.invalid-recipe',
      message:
        'model.layers.0.self_attn.k_proj (W8A16 g128) and model.layers.0.self_attn.q_proj (W4A16 g128) form one layer in vLLM and need one scheme.',
    })
  })

  it('mixes schemes where nothing is fused, each module in one group', () => {
    const recipe = parseRecipeYaml(`QuantizationModifier:
  scheme: {W8A16: ['re:.*down_proj$'], W4A16: [Linear]}
  ignore: [lm_head]`)
    const plan = planCompression(checkpoint(layer(256, 512)), recipe)
    expect(plan.schemeName).toBe('W8A16 g128 + W4A16 g128')
    expect(plan.quantization!.groups.map((group) => [group.name, group.targets, group.weights?.numBits])).toEqual([
      ['group_0', ['re:.*down_proj$'], 8],
      ['group_1', ['Linear'], 4],
    ])
  })

  it('keeps routers, towers and fused experts, and all experts together', () => {
    const shapes = {
      ...layer(256, 512),
      'model.layers.0.block_sparse_moe.gate.weight': [4, 256],
      'model.layers.0.block_sparse_moe.experts.0.w1.weight': [192, 256],
      'model.layers.0.block_sparse_moe.experts.0.w2.weight': [256, 192],
      'model.layers.0.block_sparse_moe.experts.0.w3.weight': [192, 256],
      'model.layers.0.mlp.experts.gate_up_proj': [4, 256, 512],
      'visual.blocks.0.attn.proj.weight': [256, 256],
      'model.projector.weight': [256, 256],
    }
    const plan = planCompression(checkpoint(shapes), balanced)
    const reasons = Object.fromEntries(plan.ignored.map((tensor) => [tensor.name, `${tensor.kind}: ${tensor.reason}`]))
    const moe = 'model.layers.0.block_sparse_moe'
    expect(reasons).toMatchObject({
      [`${moe}.gate`]: 'by-design: routers stay as they are: they are small, and an error there picks other experts',
      [`${moe}.experts.0.w2`]: 'refused: its 192 columns are not divisible by the group size 128',
      [`${moe}.experts.0.w1`]: `refused: it forms one layer with ${moe}.experts.0.w2, which is kept, and vLLM needs one scheme for all of it`,
      'model.layers.0.mlp.experts.gate_up_proj':
        'refused: its experts are stored in one tensor of 3 dimensions, which cannot be quantized expert by expert',
      'visual.blocks.0.attn.proj': 'by-design: only the language model is compressed',
      'model.projector': 'by-design: it lies outside the decoder layers',
    })
  })

  it('refuses what is compressed already, and what has nothing to compress', () => {
    const config = { quantization_config: { quant_method: 'gptq', bits: 4 } }
    expect(errorOf(() => planCompression(checkpoint(layer(256, 512), { config }), balanced))).toEqual({
      code: 'compress.already-compressed',
      message: 'The model is already compressed (gptq).',
    })
    expect(errorOf(() => planCompression(checkpoint(layer(64, 172)), balanced))).toEqual({
      code: 'compress.nothing-to-do',
      message:
        'None of 7 matrices can be stored as W4A16 g128; model.layers.0.mlp.down_proj because its 172 columns are not divisible by the group size 128.',
    })
    expect(errorOf(() => planCompression(checkpoint(layer(256, 512), { dtype: 'F8_E4M3' }), balanced)).code).toBe('compress.nothing-to-do')
    expect(errorOf(() => planCompression(checkpoint({ 'model.norm.weight': [256] }), balanced)).code).toBe('compress.nothing-to-do')
  })

  it('warns when tensor parallelism would cut a group', () => {
    expect(planCompression(checkpoint(layer(1024, 1024)), balanced).warnings).toEqual([])
    expect(planCompression(checkpoint(layer(256, 640)), balanced).warnings).toEqual([
      'vLLM cannot split this model over 2 GPUs: model.layers.0.mlp.down_proj has 640 columns, and half of them is not a whole number of groups of 128.',
    ])
  })

  it('predicts sizes from shapes, exactly', () => {
    // By hand, 4-bit g128 symmetric, BF16: q,o 256×256; k,v 128×256; gate,up 512×256; down 256×512. Words·4 + scales·2 + 16 each.
    const codes = 2 * matrix(256, 256) + 2 * matrix(128, 256) + 2 * matrix(512, 256) + matrix(256, 512)
    const kept = (2 * 100 * 256 + 256 + 256) * 2
    const prediction = predict(checkpoint(layer(256, 512)), 'quick-4bit')
    expect(prediction).toMatchObject({ scheme: 'W4A16 g128', weightBytes: codes + kept, skippedTensors: [] })
    // Asymmetric g32: a scale of 2 bytes and half a byte of zero point per 32 codes.
    expect(predict(checkpoint(layer(256, 512)), 'fine-4bit').weightBytes).toBe(
      2 * fine(256, 256) + 2 * fine(128, 256) + 2 * fine(512, 256) + fine(256, 512) + kept,
    )
  })
})

describe('real checkpoints', () => {
  it('plans the demo model', async () => {
    await using source = await openCheckpoint(demo)
    const sizes = Object.fromEntries(['near-lossless-8bit', 'quick-4bit', 'fine-4bit'].map((id) => [id, predict(source, id).weightBytes]))
    // LLM Compressor's own W4A16 g128 checkpoint of this model holds 3,199,808 bytes with its header of 15,008.
    expect(sizes['quick-4bit']).toBe(3_199_808 - 15_008)
    expect(sizes['near-lossless-8bit']).toBeGreaterThan(5_000_000)
    expect(predict(source, 'quick-4bit').skippedTensors).toEqual([])
  })

  it.skipIf(!existsSync(shared))('plans ragged, MoE and Conv1D models (needs ../shared/data)', async () => {
    const summary: Record<string, unknown> = {}
    for (const [name, preset] of [
      ['stories260k', 'fine-4bit'],
      ['stories260k', 'near-lossless-8bit'],
      ['random-mixtral', 'quick-4bit'],
    ] as const) {
      await using source = await openCheckpoint(`${shared}/${name}`)
      const { skippedTensors } = predict(source, preset)
      summary[`${name} ${preset}`] = [...new Set(skippedTensors.map((tensor) => tensor.name.replace(/^.*\./, '')))]
    }
    expect(summary).toEqual({
      'stories260k fine-4bit': ['down_proj'],
      'stories260k near-lossless-8bit': [],
      'random-mixtral quick-4bit': ['w1', 'w2', 'w3'],
    })
    await using gpt2 = await openCheckpoint(`${shared}/random-gpt2`)
    expect(errorOf(() => predict(gpt2, 'quick-4bit'))).toMatchObject({ code: 'compress.nothing-to-do' })
    await using foreign = await openCheckpoint(`${shared}/llmcompressor-w8a8`)
    expect(errorOf(() => predict(foreign, 'quick-4bit'))).toMatchObject({ code: 'compress.already-compressed' })
  })
})
