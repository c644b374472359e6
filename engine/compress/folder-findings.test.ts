/** Every check of the list sees what it is for: whole folders have no findings, and each is broken in one way and then has the named one. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { folderFindings } from './folder-findings.ts'
import { compress } from './pipeline.ts'
import { parseRecipeYaml } from './recipe-yaml.ts'
import { writeRandomModel } from './testing/random-model.ts'
import { readRaw, writeRaw } from './testing/raw-checkpoint.ts'
import type { RawTensor } from './testing/raw-checkpoint.ts'

const LAYER = 'model.layers.0'
const Q = `${LAYER}.self_attn.q_proj`
const DOWN = `${LAYER}.mlp.down_proj`

function weights(fields: string): string {
  return `{targets: [Linear], weights: {${fields}}}`
}

let root: string
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'lathe-findings-'))
  const source = join(root, 'model')
  await writeRandomModel(source, { layers: 1, hidden: 64, intermediate: 128, heads: 2, kvHeads: 1, seed: 5 })
  const recipes = {
    int4: `QuantizationModifier: {ignore: [lm_head], config_groups: {g: ${weights('num_bits: 4, strategy: group, group_size: 32')}}}`,
    asymmetric: `QuantizationModifier: {ignore: [lm_head], config_groups: {g: ${weights('num_bits: 4, symmetric: false, strategy: group, group_size: 32')}}}`,
    nvfp4: 'QuantizationModifier: {scheme: NVFP4A16, ignore: [lm_head]}',
    w8a8: 'QuantizationModifier: {scheme: W8A8, ignore: [lm_head]}',
    mxfp8: 'QuantizationModifier: {scheme: MXFP8A16, ignore: [lm_head]}',
  }
  for (const [name, yaml] of Object.entries(recipes)) {
    const options = { sourceFolder: source, outFolder: join(root, name), seed: 0, resume: false, latheVersion: 'test' }
    await compress({ ...options, recipe: { recipe: parseRecipeYaml(yaml) } }, { threads: 1 })
  }
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

type Json = Record<string, unknown>
type Tensors = Map<string, RawTensor>

interface Broken {
  readonly from: string
  readonly tensors?: (tensors: Tensors) => void
  readonly config?: (config: Json & { quantization_config: Json & { config_groups: Record<string, Json> } }) => void
  readonly index?: Json
}

let copies = 0
async function findingsOf({ from, tensors, config, index }: Broken): Promise<string[]> {
  const folder = join(root, `broken-${copies++}`)
  mkdirSync(folder)
  cpSync(join(root, from), folder, { recursive: true })
  if (tensors !== undefined) {
    const raw = readRaw(folder)
    tensors(raw)
    writeRaw(folder, raw)
  }
  if (config !== undefined) {
    const path = join(folder, 'config.json')
    const json = JSON.parse(readFileSync(path, 'utf8')) as Parameters<typeof config>[0]
    config(json)
    writeFileSync(path, JSON.stringify(json))
  }
  if (index !== undefined) writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify(index))
  const findings = await folderFindings(folder)
  return findings.map(({ check, severity, text }) => `${severity} ${check}: ${text}`)
}

function change(tensors: Tensors, name: string, edit: (tensor: RawTensor) => Partial<RawTensor>): void {
  const tensor = tensors.get(name)
  if (tensor === undefined) throw new Error(`there is no ${name} in ${[...tensors.keys()].join(', ')}`)
  tensors.set(name, { ...tensor, ...edit({ ...tensor, bytes: Buffer.from(tensor.bytes) }) })
}

/** `bytes` with one value set. */
function poked(tensor: RawTensor, write: (bytes: Buffer) => void): Partial<RawTensor> {
  const bytes = Buffer.from(tensor.bytes)
  write(bytes)
  return { bytes }
}

function firstGroup(config: Parameters<NonNullable<Broken['config']>>[0]): Json {
  return Object.values(config.quantization_config.config_groups)[0] ?? {}
}

it('finds nothing wrong with what Lathe writes', async () => {
  for (const from of ['int4', 'asymmetric', 'nvfp4', 'w8a8', 'mxfp8']) expect(await findingsOf({ from })).toEqual([])
})

const CASES: readonly (readonly [says: RegExp, broken: Broken])[] = [
  [
    /^error group-size: .*down_proj: its columns are not as many whole groups as it has scales$/,
    {
      from: 'int4',
      tensors: (tensors) => change(tensors, `${DOWN}.weight_shape`, (shape) => poked(shape, (bytes) => bytes.writeBigInt64LE(120n, 8))),
    },
  ],
  [
    /^error fused-layers: model\.layers\.0\.self_attn\.q_proj\+k_proj\+v_proj: one layer to a server/,
    {
      from: 'int4',
      tensors: (tensors) => {
        for (const part of ['weight_packed', 'weight_scale', 'weight_shape']) tensors.delete(`${Q}.${part}`)
        tensors.set(`${Q}.weight`, { dtype: 'BF16', shape: [64, 64], bytes: Buffer.alloc(64 * 64 * 2) })
      },
      config: ({ quantization_config: quantization }) => (quantization['ignore'] = [...(quantization['ignore'] as string[]), Q]),
    },
  ],
  [
    /^error ignore-list: .*q_proj: stored compressed, but the config leaves it out$/,
    { from: 'int4', config: ({ quantization_config: quantization }) => (quantization['ignore'] = ['lm_head', Q]) },
  ],
  [
    /^error ignore-list: .*o_proj: stored as it was, but the config takes it for compressed$/,
    {
      from: 'int4',
      tensors: (tensors) => {
        for (const part of ['weight_packed', 'weight_scale', 'weight_shape']) tensors.delete(`${LAYER}.self_attn.o_proj.${part}`)
        tensors.set(`${LAYER}.self_attn.o_proj.weight`, { dtype: 'BF16', shape: [64, 64], bytes: Buffer.alloc(64 * 64 * 2) })
      },
    },
  ],
  [
    /^error ignore-list: model\.layers\.0\.mlp\.gate: routers, heads, embeddings/,
    {
      from: 'w8a8',
      tensors: (tensors) => {
        tensors.set(`${LAYER}.mlp.gate.weight`, { dtype: 'I8', shape: [4, 64], bytes: Buffer.alloc(256) })
        tensors.set(`${LAYER}.mlp.gate.weight_scale`, { dtype: 'BF16', shape: [4, 1], bytes: Buffer.from('803f803f803f803f', 'hex') })
      },
    },
  ],
  [
    /^error ignore-list: lm_head: not in the ignore list/,
    { from: 'int4', config: ({ quantization_config: quantization }) => (quantization['ignore'] = []) },
  ],
  [
    /^warning ignore-list: re:\.\*visual: the pattern has no \$ at its end/,
    { from: 'int4', config: ({ quantization_config: quantization }) => (quantization['ignore'] = ['lm_head', 're:.*visual']) },
  ],
  [
    /^error zero-point: .*q_proj: symmetric, and yet there is a zero point/,
    { from: 'int4', tensors: (tensors) => tensors.set(`${Q}.weight_zero_point`, { dtype: 'I32', shape: [8, 2], bytes: Buffer.alloc(64) }) },
  ],
  [
    /^error zero-point: .*q_proj: asymmetric without a zero point$/,
    { from: 'asymmetric', tensors: (tensors) => tensors.delete(`${Q}.weight_zero_point`) },
  ],
  [
    /^error weight-shape: .*q_proj: packed without the I64 pair/,
    { from: 'int4', tensors: (tensors) => tensors.delete(`${Q}.weight_shape`) },
  ],
  [
    /^error weight-shape: .*q_proj: has a weight_shape, which only pack-quantized stores$/,
    { from: 'w8a8', tensors: (tensors) => tensors.set(`${Q}.weight_shape`, { dtype: 'I64', shape: [2], bytes: Buffer.alloc(16) }) },
  ],
  [
    /^error format: .*: its group names a format that servers do not read this scheme from$/,
    { from: 'int4', config: (config) => Object.assign(firstGroup(config), { format: 'int-quantized' }) },
  ],
  [
    /^error format: the config's format is "int-quantized", and its groups are "pack-quantized"$/,
    { from: 'int4', config: ({ quantization_config: quantization }) => (quantization['format'] = 'int-quantized') },
  ],
  [
    /^error global-scale: .*k_proj.*parts of one layer have different global scales$/,
    {
      from: 'nvfp4',
      tensors: (tensors) =>
        change(tensors, `${Q}.weight_global_scale`, (scale) => poked(scale, (bytes) => bytes.writeFloatLE(bytes.readFloatLE(0) * 2))),
    },
  ],
  [
    /^error global-scale: .*down_proj: its global scale is no divisor/,
    {
      from: 'nvfp4',
      tensors: (tensors) =>
        change(tensors, `${DOWN}.weight_global_scale`, (scale) => poked(scale, (bytes) => bytes.writeFloatLE(1 / bytes.readFloatLE(0)))),
    },
  ],
  [
    /^error global-scale: .*down_proj: has no global scale$/,
    { from: 'nvfp4', tensors: (tensors) => tensors.delete(`${DOWN}.weight_global_scale`) },
  ],
  [
    /^error config-keys: quantization_config\.sparsity_config is not \{\}/,
    { from: 'int4', config: ({ quantization_config: quantization }) => delete quantization['sparsity_config'] },
  ],
  [
    /^error config-keys: .*unknown key "colour"/,
    { from: 'int4', config: (config) => Object.assign(firstGroup(config)['weights'] as Json, { colour: 'blue' }) },
  ],
  [
    /^error tied-embedding: lm_head\.weight is stored although the embedding is tied/,
    { from: 'int4', tensors: (tensors) => tensors.set('lm_head.weight', tensors.get('model.embed_tokens.weight')!) },
  ],
  [
    /^error leftover-weight: .*q_proj: the original weight lies beside the packed one$/,
    {
      from: 'int4',
      tensors: (tensors) => tensors.set(`${Q}.weight`, { dtype: 'BF16', shape: [64, 64], bytes: Buffer.alloc(64 * 64 * 2) }),
    },
  ],
  [
    /^error scales: .*q_proj: holds scales that are negative or no numbers$/,
    {
      from: 'int4',
      tensors: (tensors) => change(tensors, `${Q}.weight_scale`, (scale) => poked(scale, (bytes) => bytes.writeUInt16LE(0x7fc0, 0))),
    },
  ],
  [
    /^error scales: .*q_proj: holds scales that are negative or no numbers$/,
    {
      from: 'mxfp8',
      tensors: (tensors) => change(tensors, `${Q}.weight_scale`, (scale) => poked(scale, (bytes) => bytes.writeUInt8(255, 3))),
    },
  ],
  [
    /^warning scales: .*q_proj: more than 10 % of its groups are zeros$/,
    { from: 'int4', tensors: (tensors) => change(tensors, `${Q}.weight_scale`, ({ bytes }) => ({ bytes: Buffer.alloc(bytes.length) })) },
  ],
  [
    /^warning scales: .*experts\.0\.up_proj: no weight is left: an expert/,
    {
      from: 'w8a8',
      tensors: (tensors) => {
        tensors.set(`${LAYER}.mlp.experts.0.up_proj.weight`, { dtype: 'I8', shape: [4, 64], bytes: Buffer.alloc(256) })
        tensors.set(`${LAYER}.mlp.experts.0.up_proj.weight_scale`, {
          dtype: 'BF16',
          shape: [4, 1],
          bytes: Buffer.from('003c003c003c003c', 'hex'),
        })
      },
    },
  ],
]

it.each(CASES)('%s', async (says, broken) => {
  expect(await findingsOf(broken)).toEqual(expect.arrayContaining([expect.stringMatching(says)]))
})

it('compares the index with the tensors, and says what cannot be read at all', async () => {
  const names = [...readRaw(join(root, 'int4')).keys()]
  const weightMap = Object.fromEntries(names.map((name) => [name, 'model.safetensors']))
  const bytes = [...readRaw(join(root, 'int4')).values()].reduce((sum, tensor) => sum + tensor.bytes.length, 0)
  expect(await findingsOf({ from: 'int4', index: { metadata: { total_size: bytes }, weight_map: weightMap } })).toEqual([])
  expect(await findingsOf({ from: 'int4', index: { metadata: { total_size: 5 }, weight_map: weightMap } })).toEqual([
    `error index-size: model.safetensors.index.json says 5 bytes, and the tensors have ${bytes}`,
  ])
  const foreign: Broken = {
    from: 'int4',
    config: ({ quantization_config: quantization }) => (quantization['quant_method'] = 'bitsandbytes'),
  }
  expect(await findingsOf(foreign)).toEqual([expect.stringMatching(/^error readable: .*bitsandbytes/)])
})
