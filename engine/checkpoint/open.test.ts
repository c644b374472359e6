import { mkdir, mkdtemp, readdir, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { ErrorCode } from '../contract/errors.ts'
import { inspectFolder, openCheckpoint } from './open.ts'
import { CONFIG, DEMO_MODEL, latheError, safetensors, sharedData, temporaryFolder, tensorFile } from './test/fixtures.ts'

const models = sharedData('models')
const ONE = tensorFile([{ name: 'a.weight', dtype: 'F32', shape: [2], data: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) }])
const TWO = tensorFile([{ name: 'b.weight', dtype: 'U8', shape: [3], data: Uint8Array.of(9, 10, 11) }])
const index = (map: Record<string, unknown>): string => JSON.stringify({ metadata: { total_size: 11 }, weight_map: map })
const SHARDED = { 'config.json': CONFIG, 'model-00001-of-00002.safetensors': ONE, 'model-00002-of-00002.safetensors': TWO }
const INDEX = 'model.safetensors.index.json'

async function tensorBytes(folder: string): Promise<Record<string, readonly number[]>> {
  await using checkpoint = await openCheckpoint(folder)
  const entries = await Promise.all(
    [...checkpoint.tensors.values()].map(
      async ({ name, byteLength }) => [name, [...(await checkpoint.open(name).read(0, byteLength))]] as const,
    ),
  )
  return Object.fromEntries(entries)
}

const BOTH = { 'a.weight': [1, 2, 3, 4, 5, 6, 7, 8], 'b.weight': [9, 10, 11] }

describe('openCheckpoint', () => {
  it('opens the demo model from its headers alone', async () => {
    const start = performance.now()
    await using checkpoint = await openCheckpoint(DEMO_MODEL)
    expect(performance.now() - start).toBeLessThan(1000)
    expect(checkpoint.tensors.size).toBe(56)
    expect(checkpoint.tensors.get('model.embed_tokens.weight')).toEqual({
      name: 'model.embed_tokens.weight',
      dtype: 'BF16',
      shape: [2048, 256],
      byteLength: 1048576,
      file: 'model.safetensors',
    })
    expect(checkpoint.generationConfig?.['eos_token_id']).toEqual([2, 0])
    expect(checkpoint.quantization).toBeNull()
    expect(checkpoint.metadata).toEqual(new Map([['format', 'pt']]))
    expect(checkpoint.files.map((file) => file.name)).toContain('tokenizer.json')
  })

  it('reads single files, shards with an index, and shards without one', async () => {
    const single = await temporaryFolder({ 'config.json': CONFIG, 'model.safetensors': ONE })
    expect(await tensorBytes(single)).toEqual({ 'a.weight': BOTH['a.weight'] })
    expect(await tensorBytes(await temporaryFolder(SHARDED))).toEqual(BOTH)
    const map = { 'a.weight': 'model-00001-of-00002.safetensors', 'b.weight': 'model-00002-of-00002.safetensors' }
    expect(await tensorBytes(await temporaryFolder({ ...SHARDED, [INDEX]: index(map) }))).toEqual(BOTH)
    expect(await tensorBytes(await temporaryFolder({ 'config.json': CONFIG, 'weights.safetensors': TWO }))).toEqual({
      'b.weight': BOTH['b.weight'],
    })
  })

  it('reads ranges and refuses those outside a tensor', async () => {
    await using checkpoint = await openCheckpoint(await temporaryFolder({ 'config.json': CONFIG, 'model.safetensors': ONE }))
    const source = checkpoint.open('a.weight')
    expect([...(await source.read(3, 2))]).toEqual([4, 5])
    expect((await source.read(8, 0)).byteLength).toBe(0)
    for (const [offset, length] of [
      [-1, 2],
      [0, 9],
      [8, 1],
      [2 ** 53, 1],
      [0.5, 1],
      [0, NaN],
    ] as const) {
      await expect(source.read(offset, length)).rejects.toThrow(RangeError)
    }
    expect((await latheError(() => checkpoint.open('a.bias'))).code).toBe('checkpoint.missing-tensor')
  })

  it('opens a folder of the Hugging Face cache, whose files are links into its blobs', async () => {
    const repo = await mkdtemp(join(tmpdir(), 'lathe-hub-'))
    onTestFinished(() => rm(repo, { recursive: true, force: true }))
    const snapshot = join(repo, 'snapshots', 'abc123')
    await mkdir(snapshot, { recursive: true })
    await mkdir(join(repo, 'blobs'))
    await writeFile(join(repo, 'blobs', 'c0'), CONFIG)
    await writeFile(join(repo, 'blobs', 'w0'), ONE)
    await symlink('../../blobs/c0', join(snapshot, 'config.json'))
    await symlink('../../blobs/w0', join(snapshot, 'model.safetensors'))
    expect(await tensorBytes(snapshot)).toEqual({ 'a.weight': BOTH['a.weight'] })
  })

  it('says when a file shrank while it was open', async () => {
    const folder = await temporaryFolder({ 'config.json': CONFIG, 'model.safetensors': ONE })
    await using checkpoint = await openCheckpoint(folder)
    await truncate(join(folder, 'model.safetensors'), ONE.byteLength - 4)
    expect((await latheError(() => checkpoint.open('a.weight').read(0, 8))).message).toMatch(/ended early: 4 of 8/)
  })

  it('stops when cancelled', async () => {
    const folder = await temporaryFolder(SHARDED)
    expect((await latheError(() => openCheckpoint(folder, { signal: AbortSignal.abort() }))).code).toBe('job.cancelled')
  })

  it.skipIf(models === null)('opens models of the test data, also those it cannot run', async () => {
    const names = ['stories260k', 'tinystories-656k', 'random-llama3', 'random-gemma3', 'random-gpt2', 'random-qwen3_moe']
    const counts = await Promise.all(
      names.map(async (name) => {
        await using checkpoint = await openCheckpoint(join(models ?? '', name))
        return checkpoint.tensors.size
      }),
    )
    expect(counts).toEqual([47, 20, 20, 54, 40, 69])
  })
})

describe('hostile and mistaken folders', () => {
  const file = 'model-00001-of-00002.safetensors'
  it.each<[string, Record<string, string | Uint8Array>, ErrorCode, RegExp]>([
    ['an empty folder', {}, 'checkpoint.not-a-model', /found nothing.*missing config.json, safetensors/],
    ['weights without config', { 'model.safetensors': ONE }, 'checkpoint.not-a-model', /found safetensors; missing config.json/],
    [
      'config without weights',
      { 'config.json': CONFIG, 'tokenizer.json': '{}' },
      'checkpoint.not-a-model',
      /found config.json, tokenizer.json; missing safetensors/,
    ],
    ['a folder with a GGUF', { 'model-Q4_K_M.gguf': 'GGUF' }, 'checkpoint.unsupported-file', /GGUF/],
    ['a PyTorch model', { 'config.json': CONFIG, 'pytorch_model.bin': 'PK' }, 'checkpoint.unsupported-file', /PyTorch/],
    ['a LoRA adapter', { 'adapter_config.json': '{}', 'adapter_model.safetensors': ONE }, 'checkpoint.not-a-model', /LoRA adapter/],
    [
      'a GGUF under a safetensors name',
      { 'config.json': CONFIG, 'model.safetensors': 'GGUF\u0003000' },
      'checkpoint.unsupported-file',
      /GGUF/,
    ],
    ['an LFS pointer', { 'config.json': CONFIG, 'model.safetensors': 'version https://git-lfs' }, 'checkpoint.unsupported-file', /LFS/],
    ['an empty weight file', { 'config.json': CONFIG, 'model.safetensors': '' }, 'checkpoint.invalid-header', /0 bytes/],
    ['an empty config', { 'config.json': '', 'model.safetensors': ONE }, 'checkpoint.invalid-config', /not valid JSON/],
    ['a config that is a list', { 'config.json': '[]', 'model.safetensors': ONE }, 'checkpoint.invalid-config', /not a JSON object/],
    [
      'a config with a prototype key',
      { 'config.json': '{"__proto__":{}}', 'model.safetensors': ONE },
      'checkpoint.invalid-config',
      /__proto__/,
    ],
    [
      'a huge config',
      { 'config.json': ' '.repeat((16 << 20) + 1), 'model.safetensors': ONE },
      'checkpoint.invalid-config',
      /at most 16777216/,
    ],
    [
      'a broken generation config',
      { 'config.json': CONFIG, 'generation_config.json': '{', 'model.safetensors': ONE },
      'checkpoint.invalid-config',
      /generation_config/,
    ],
    ['a missing shard by name', { 'config.json': CONFIG, [file]: ONE }, 'checkpoint.missing-shard', /1 of 2.*00002-of-00002/],
    [
      'a missing shard by index',
      { 'config.json': CONFIG, [INDEX]: index({ x: 'other.safetensors' }) },
      'checkpoint.missing-shard',
      /other.safetensors/,
    ],
    ['a tensor in two shards', { ...SHARDED, 'model-00002-of-00002.safetensors': ONE }, 'checkpoint.invalid-header', /in both/],
    [
      'an index that misplaces a tensor',
      { ...SHARDED, [INDEX]: index({ 'b.weight': file }) },
      'checkpoint.missing-tensor',
      /"b.weight" in model-00001/,
    ],
    ['an index of a missing tensor', { ...SHARDED, [INDEX]: index({ 'c.weight': file }) }, 'checkpoint.missing-tensor', /not there/],
    ['an index without a map', { ...SHARDED, [INDEX]: '{}' }, 'checkpoint.invalid-config', /weight_map/],
    ['an empty index', { ...SHARDED, [INDEX]: index({}) }, 'checkpoint.invalid-config', /no tensors/],
    ['an index with a number', { ...SHARDED, [INDEX]: index({ a: 1 }) }, 'checkpoint.invalid-config', /no file name/],
    [
      'an index with a repeated key',
      { ...SHARDED, [INDEX]: `{"weight_map":{"a":"${file}","a":"${file}"}}` },
      'checkpoint.invalid-config',
      /twice/,
    ],
    [
      'an index of pickles',
      { ...SHARDED, [INDEX]: index({ a: 'pytorch_model.bin' }) },
      'checkpoint.unsupported-file',
      /not a safetensors file/,
    ],
    ['an index leading up', { ...SHARDED, [INDEX]: index({ a: '../secret.safetensors' }) }, 'checkpoint.unsafe-path', /separator/],
    ['an absolute path', { ...SHARDED, [INDEX]: index({ a: '/etc/passwd' }) }, 'checkpoint.unsafe-path', /separator/],
    ['a backslash', { ...SHARDED, [INDEX]: index({ a: '..\\x.safetensors' }) }, 'checkpoint.unsafe-path', /separator/],
    ['a drive letter', { ...SHARDED, [INDEX]: index({ a: 'C:x.safetensors' }) }, 'checkpoint.unsafe-path', /colon/],
    ['a NUL', { ...SHARDED, [INDEX]: index({ a: 'x.safetensors\u0000.txt' }) }, 'checkpoint.unsafe-path', /control/],
    ['the parent itself', { ...SHARDED, [INDEX]: index({ a: '..' }) }, 'checkpoint.unsafe-path', /not a file name/],
    ['a device', { ...SHARDED, [INDEX]: index({ a: 'NUL' }) }, 'checkpoint.unsafe-path', /device/],
    [
      'GPTQ',
      { 'config.json': '{"quantization_config":{"quant_method":"gptq"}}', 'model.safetensors': ONE },
      'checkpoint.unsupported-scheme',
      /"gptq"/,
    ],
  ])('%s', async (_, files, code, message) => {
    const folder = await temporaryFolder(files)
    const error = await latheError(() => openCheckpoint(folder), code)
    expect(`${error.message} ${error.hint}`).toMatch(message)
  })

  it('a link that leads out of the folder, to a file that exists', async () => {
    const outside = await temporaryFolder({ 'secret.safetensors': ONE, 'config.json': CONFIG })
    const folder = await temporaryFolder({ 'config.json': CONFIG })
    await symlink(join(outside, 'secret.safetensors'), join(folder, 'model.safetensors'))
    expect((await latheError(() => openCheckpoint(folder))).code).toBe('checkpoint.unsafe-path')
    const linkedConfig = await temporaryFolder({ 'model.safetensors': ONE })
    await symlink(join(outside, 'config.json'), join(linkedConfig, 'config.json'))
    expect((await latheError(() => openCheckpoint(linkedConfig))).code).toBe('checkpoint.unsafe-path')
  })

  it('a shard that an index names and that is a link outwards, a dangling link, and a folder', async () => {
    const outside = await temporaryFolder({ 'x.safetensors': ONE })
    const folder = await temporaryFolder({ 'config.json': CONFIG, [INDEX]: index({ 'a.weight': 'x.safetensors' }) })
    await symlink(join(outside, 'x.safetensors'), join(folder, 'x.safetensors'))
    expect((await latheError(() => openCheckpoint(folder))).code).toBe('checkpoint.unsafe-path')
    await rm(join(folder, 'x.safetensors'))
    await symlink(join(folder, 'nowhere'), join(folder, 'x.safetensors'))
    expect((await latheError(() => openCheckpoint(folder))).code).toBe('checkpoint.missing-shard')
    await rm(join(folder, 'x.safetensors'))
    await mkdir(join(folder, 'x.safetensors'))
    expect((await latheError(() => openCheckpoint(folder))).code).toBe('checkpoint.missing-shard')
  })

  it('links that stay inside are fine', async () => {
    const folder = await temporaryFolder({ 'config.json': CONFIG, 'weights-v2.bin2': ONE })
    await symlink('weights-v2.bin2', join(folder, 'model.safetensors'))
    expect(await tensorBytes(folder)).toEqual({ 'a.weight': BOTH['a.weight'] })
  })

  it('paths that are no folder get advice that fits', async () => {
    const folder = await temporaryFolder({
      'model.safetensors': ONE,
      'm.gguf': 'GGUF',
      'renamed.dat': 'GGUF\u0003000',
      'w.pt': 'PK',
      'notes.txt': 'hello',
    })
    const messages = await Promise.all(
      ['model.safetensors', 'm.gguf', 'renamed.dat', 'w.pt', 'notes.txt', 'absent'].map(async (name) => {
        const error = await latheError(() => openCheckpoint(join(folder, name)))
        return `${error.code}: ${error.message}`
      }),
    )
    expect(messages).toEqual([
      'checkpoint.not-a-model: model.safetensors is a file; a model is a folder.',
      'checkpoint.unsupported-file: m.gguf is a GGUF file.',
      'checkpoint.unsupported-file: renamed.dat is a GGUF file.',
      'checkpoint.unsupported-file: w.pt is a PyTorch file.',
      'checkpoint.not-a-model: notes.txt is a file; a model is a folder.',
      `checkpoint.not-found: There is nothing at ${join(folder, 'absent')}.`,
    ])
  })

  it.skipIf(process.platform !== 'linux')('leave no file open after a failure', async () => {
    const folder = await temporaryFolder({ ...SHARDED, 'model-00002-of-00002.safetensors': safetensors('{"a":') })
    const before = (await readdir('/proc/self/fd')).length
    for (let i = 0; i < 10; i++) await latheError(() => openCheckpoint(folder), 'checkpoint.invalid-header')
    expect((await readdir('/proc/self/fd')).length).toBe(before)
  })
})

describe('inspectFolder', () => {
  it('finds nothing wrong with the demo model', async () => {
    const inspection = await inspectFolder(DEMO_MODEL)
    expect(inspection).toMatchObject({
      readable: true,
      problems: [],
      architecture: { family: 'llama', layers: 6, headDim: 64, tiedEmbeddings: true },
    })
  })

  it('shows a foreign quantization as readable with its problem', async () => {
    const config = '{"model_type":"llama","quantization_config":{"quant_method":"awq"}}'
    const inspection = await inspectFolder(await temporaryFolder({ 'config.json': config, 'model.safetensors': ONE }))
    expect(inspection.readable).toBe(true)
    expect(inspection.problems.map((problem) => problem.code)).toEqual(['checkpoint.unsupported-scheme'])
  })

  it('keeps the architecture when only the weights are broken', async () => {
    const inspection = await inspectFolder(await temporaryFolder({ 'config.json': CONFIG, 'model.safetensors': 'x' }))
    expect(inspection).toMatchObject({
      readable: false,
      architecture: { family: 'llama' },
      problems: [{ code: 'checkpoint.invalid-header' }],
    })
  })

  it('never throws: missing paths, files, empty folders', async () => {
    const folder = await temporaryFolder({ 'x.gguf': 'GGUF' })
    const codes = await Promise.all(
      [join(folder, 'nope'), join(folder, 'x.gguf'), folder].map(async (path) =>
        (await inspectFolder(path)).problems.map((problem) => problem.code),
      ),
    )
    expect(codes).toEqual([['checkpoint.not-found'], ['checkpoint.unsupported-file'], ['checkpoint.unsupported-file']])
  })
})
