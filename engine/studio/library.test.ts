import { existsSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { ModelSummary, StudioEvent } from '../contract/index.ts'
import { LatheError, ModelDetailSchema, ModelSummarySchema } from '../contract/index.ts'
import { hashTensor, inspectModelFolder } from './bindings/checkpoint.ts'
import { EventHub } from './events.ts'
import { Library } from './library.ts'
import { openDatabase } from './store/database.ts'
import { ModelStore } from './store/model-store.ts'
import { writeRunRecord } from './test/fake-engine.ts'
import { useTemporaryFolders } from './test/temporary-folder.ts'
import { writeTinyModel } from './test/tiny-model.ts'

const temporaryFolder = useTemporaryFolders()
const closers: (() => void)[] = []
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

function openLibrary(folder: string) {
  const database = openDatabase(join(folder, 'lathe.db'), () => {})
  const close = (): void => {
    if (database.isOpen) database.close()
  }
  closers.push(close)
  const events = new EventHub({ runId: 'run' })
  const library = new Library({
    store: new ModelStore(database),
    events,
    checkpoint: { inspect: inspectModelFolder, hashTensor, tensorStats: async () => Promise.reject(new Error('not here')) },
    sampleFolder: join(folder, 'assets', 'demo-model'),
    log: () => {},
  })
  const since = async (seq: number): Promise<StudioEvent[]> => {
    const stream = events.watch({ runId: 'run', after: seq }, undefined)
    const seen: StudioEvent[] = []
    await stream.next()
    while (seen.length < events.seq - seq) seen.push((await stream.next()).value as StudioEvent)
    return seen
  }
  return { library, events, close, since }
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'nothing thrown',
    (error: unknown) => (error instanceof LatheError ? error.code : `not a LatheError: ${String(error)}`),
  )
}

describe('import', () => {
  it('reads the headers and gives the whole card', async () => {
    const folder = temporaryFolder()
    const { library } = openLibrary(folder)
    const model = await library.import(writeTinyModel(join(folder, 'tiny')))
    expect(ModelSummarySchema.parse(model)).toEqual({
      id: model.id,
      parentId: null,
      name: 'tiny',
      path: join(folder, 'tiny'),
      createdAt: model.createdAt,
      lastUsedAt: null,
      status: 'ready',
      statusReason: null,
      architecture: {
        family: 'llama',
        className: 'LlamaForCausalLM',
        layers: 1,
        hiddenSize: 8,
        intermediateSize: 8,
        attentionHeads: 2,
        keyValueHeads: 2,
        headDim: 4,
        vocabSize: 16,
        contextLength: 64,
        tiedEmbeddings: true,
        slidingWindow: null,
      },
      // embedding 16×8, seven 8×8 matrices, three norms of 8
      parameters: 128 + 7 * 64 + 3 * 8,
      weightBytes: 4 * (128 + 7 * 64 + 3 * 8),
      diskBytes: model.diskBytes,
      scheme: 'F32',
      bitsPerWeight: 32,
      inputElements: [],
      presetId: null,
      isSample: false,
      hasTokenizer: false,
      hasChatTemplate: false,
      license: null,
      origin: 'folder',
    })
    const detail = ModelDetailSchema.parse(await library.get(model.id))
    expect(detail.bytesByKind).toEqual({ embedding: 512, norm: 96, attention: 1024, mlp: 768 })
    expect((await library.tensors(model.id)).map((tensor) => [tensor.kind, tensor.layer])).toContainEqual(['mlp', 0])
  })

  it('of the same folder by another way is the same entry: links, a file in it, a trailing slash', async () => {
    const folder = temporaryFolder()
    const { library } = openLibrary(folder)
    const path = writeTinyModel(join(folder, 'tiny'))
    symlinkSync(path, join(folder, 'link'))
    const ids = new Set<string>()
    for (const way of [path, join(folder, 'link'), join(path, 'model.safetensors'), join(path, 'config.json'), `${path}/`]) {
      ids.add((await library.import(way)).id)
    }
    expect(ids.size).toBe(1)
    expect(await library.list()).toHaveLength(1)
  })

  it('explains what is not a model', async () => {
    const folder = temporaryFolder()
    const { library } = openLibrary(folder)
    mkdirSync(join(folder, 'empty'))
    writeFileSync(join(folder, 'model.gguf'), 'GGUF')
    expect(await codeOf(library.import(join(folder, 'nowhere')))).toBe('checkpoint.not-found')
    expect(await codeOf(library.import(join(folder, 'empty')))).toBe('checkpoint.not-a-model')
    expect(await codeOf(library.import(join(folder, 'model.gguf')))).toBe('checkpoint.unsupported-file')
    expect(await library.list()).toEqual([])
  })

  it('keeps what can be inspected but not run, with what is missing', async () => {
    const folder = temporaryFolder()
    const { library } = openLibrary(folder)
    const model = await library.import(writeTinyModel(join(folder, 'other'), { modelType: 'mamba' }))
    expect(model).toMatchObject({ status: 'unsupported', statusReason: { code: 'model.unsupported-architecture' } })
    expect(await codeOf(library.runnable(model.id))).toBe('model.unsupported-architecture')
    expect((await library.get(model.id)).tensorCount).toBe(11)
  })

  it('names a snapshot of the Hugging Face cache after its repository', async () => {
    const folder = temporaryFolder()
    const { library } = openLibrary(folder)
    const snapshot = writeTinyModel(join(folder, 'models--Qwen--Qwen3-0.6B', 'snapshots', 'c1899de289a04d12100db370d81485cdf75e47ca'))
    expect((await library.import(snapshot)).name).toBe('Qwen3-0.6B')
  })

  it('of the sample reads it in place under its own name', async () => {
    const folder = temporaryFolder()
    const { library } = openLibrary(folder)
    const sample = writeTinyModel(join(folder, 'assets', 'demo-model'))
    writeFileSync(join(sample, 'README.md'), '---\nlicense: mit\n---\n# Pebble\n')
    expect(await library.importSample()).toMatchObject({ name: 'Pebble', path: sample, isSample: true, license: 'mit' })
  })
})

describe('a folder that moved', () => {
  it('is missing, keeps its card, cannot be used, and comes back when it is located', async () => {
    const folder = temporaryFolder()
    const { library, events, since } = openLibrary(folder)
    const model = await library.import(writeTinyModel(join(folder, 'here')))
    renameSync(join(folder, 'here'), join(folder, 'there'))
    const seq = events.seq
    expect(await library.list()).toMatchObject([{ id: model.id, status: 'missing', parameters: model.parameters }])
    expect(await since(seq)).toMatchObject([{ kind: 'model.changed', model: { status: 'missing' } }])
    expect(await codeOf(library.get(model.id))).toBe('checkpoint.not-found')
    const found = await library.locate(model.id, join(folder, 'there'))
    expect(found).toMatchObject({ id: model.id, status: 'ready', path: join(folder, 'there') })
    expect((await library.get(model.id)).tensorCount).toBe(11)
  })

  it('is ready again by itself when it is moved back', async () => {
    const folder = temporaryFolder()
    const { library } = openLibrary(folder)
    await library.import(writeTinyModel(join(folder, 'here')))
    renameSync(join(folder, 'here'), join(folder, 'there'))
    await library.list()
    renameSync(join(folder, 'there'), join(folder, 'here'))
    expect((await library.list())[0]?.status).toBe('ready')
  })

  it('is not replaced by another model, nor by one that has an entry', async () => {
    const folder = temporaryFolder()
    const { library } = openLibrary(folder)
    const model = await library.import(writeTinyModel(join(folder, 'here')))
    const copy = await library.import(writeTinyModel(join(folder, 'copy')))
    rmSync(join(folder, 'here'), { recursive: true })
    expect(await codeOf(library.locate(model.id, writeTinyModel(join(folder, 'other'), { layers: 2 })))).toBe('model.mismatch')
    expect(await codeOf(library.locate(model.id, copy.path))).toBe('checkpoint.already-exists')
  })

  it('is seen at the next start, as is one that was damaged meanwhile', async () => {
    const folder = temporaryFolder()
    const before = openLibrary(folder)
    await before.library.import(writeTinyModel(join(folder, 'gone')))
    await before.library.import(writeTinyModel(join(folder, 'damaged')))
    before.close()
    rmSync(join(folder, 'gone'), { recursive: true })
    writeFileSync(join(folder, 'damaged', 'model.safetensors'), 'no')
    const { library } = openLibrary(folder)
    await library.refresh()
    expect((await library.list()).map((model) => [model.name, model.status])).toEqual([
      ['gone', 'missing'],
      ['damaged', 'invalid'],
    ])
    expect((await library.list())[1]?.statusReason).toMatchObject({ code: 'checkpoint.invalid-header' })
  })
})

describe('remove and restore', () => {
  it('take the entry out and put it back, files untouched; importing again is restoring', async () => {
    const folder = temporaryFolder()
    const { library } = openLibrary(folder)
    const model = await library.import(writeTinyModel(join(folder, 'tiny')))
    library.rename(model.id, 'My model')
    library.remove(model.id)
    expect(await library.list()).toEqual([])
    expect(await codeOf(library.usable(model.id))).toBe('model.not-found')
    expect(existsSync(join(folder, 'tiny', 'config.json'))).toBe(true)
    expect(await library.restore(model.id)).toMatchObject({ id: model.id, name: 'My model' })
    library.remove(model.id)
    expect(await library.import(join(folder, 'tiny'))).toMatchObject({ id: model.id, name: 'My model' })
  })

  it('of a folder that holds another model by now makes a new entry', async () => {
    const folder = temporaryFolder()
    const { library } = openLibrary(folder)
    const model = await library.import(writeTinyModel(join(folder, 'tiny')))
    library.remove(model.id)
    const other = await library.import(writeTinyModel(join(folder, 'tiny'), { layers: 2 }))
    expect(other.id).not.toBe(model.id)
    expect((await library.restore(model.id)).id).toBe(other.id)
  })
})

async function withVariant() {
  const folder = temporaryFolder()
  const opened = openLibrary(folder)
  const source = await opened.library.import(writeTinyModel(join(folder, 'tiny')))
  const out = writeTinyModel(join(folder, 'out'), { fill: 0.25 })
  await writeRunRecord(out, source.path, 0)
  const variant = await opened.library.registerVariant({
    folder: out,
    parentId: source.id,
    presetId: 'balanced-4bit',
    name: 'tiny · 4-bit',
  })
  return { ...opened, folder, source, variant, out }
}

describe('variants', () => {
  it('hang under their source, once, with the record of how they were made', async () => {
    const { library, source, variant, out } = await withVariant()
    expect(variant).toMatchObject({ parentId: source.id, presetId: 'balanced-4bit', name: 'tiny · 4-bit' })
    const again = await library.registerVariant({ folder: out, parentId: source.id, presetId: 'balanced-4bit', name: 'x' })
    expect(again.id).toBe(variant.id)
    expect((await library.get(source.id)).variants.map((model) => model.id)).toEqual([variant.id])
    expect((await library.get(variant.id)).run).toMatchObject({ preset: 'balanced-4bit' })
    expect(library.family(variant.id).map((record) => record.id)).toEqual([source.id, variant.id])
  })

  it('can be deleted with the typed name, and only they', async () => {
    const { library, source, variant, out } = await withVariant()
    expect(await codeOf(library.deleteFiles(source.id, source.name))).toBe('request.forbidden')
    expect(await codeOf(library.deleteFiles(variant.id, 'tiny'))).toBe('request.invalid')
    expect(existsSync(out)).toBe(true)
    expect(await library.deleteFiles(variant.id, variant.name)).toBe(variant.diskBytes)
    expect(existsSync(out)).toBe(false)
    expect(await codeOf(library.restore(variant.id))).toBe('model.not-found')
    expect((await library.list()).map((model: ModelSummary) => model.id)).toEqual([source.id])
  })

  it('are not deleted when the folder has become something else', async () => {
    const { library, variant, out, folder } = await withVariant()
    rmSync(join(out, 'run.json'))
    expect(await codeOf(library.deleteFiles(variant.id, variant.name))).toBe('request.forbidden')
    rmSync(out, { recursive: true })
    const precious = writeTinyModel(join(folder, 'precious'))
    writeFileSync(join(precious, 'run.json'), '{}')
    symlinkSync(precious, out)
    expect(await codeOf(library.deleteFiles(variant.id, variant.name))).toBe('request.forbidden')
    expect(existsSync(join(precious, 'config.json'))).toBe(true)
  })

  it('that are imported from elsewhere find their source but are not deletable', async () => {
    const { library, source, folder } = await withVariant()
    // another source with the same tensors but other bytes is not mistaken for it
    await library.import(writeTinyModel(join(folder, 'other'), { fill: 0.75 }))
    const foreign = writeTinyModel(join(folder, 'foreign'), { fill: 0.3 })
    await writeRunRecord(foreign, source.path, 0)
    const model = await library.import(foreign)
    expect(model).toMatchObject({ parentId: source.id, presetId: 'balanced-4bit' })
    expect(await codeOf(library.deleteFiles(model.id, model.name))).toBe('request.forbidden')
  })
})
