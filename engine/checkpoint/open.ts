/**
 * Opens a Hugging Face model folder: config.json, generation_config.json and the headers of its safetensors files, one or many, with or
 * without an index. Only headers are read, so that a 100 GB model opens in well under a second. The folder is untrusted throughout.
 * Knows which files belong to a checkpoint, not what its tensors mean.
 */
import { open, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import type { ErrorShape } from '../contract/errors.ts'
import { LatheError, toErrorShape } from '../contract/errors.ts'
import type { Architecture } from '../contract/model.ts'
import type { FolderFile, ModelFolder, RangedFile } from './files.ts'
import { foreignView, isForeignMethod } from './foreign-packing.ts'
import { assertPlainFileName, diskError, openFolder, openRanged, readSmallFile } from './files.ts'
import { architectureOf } from './hf-config.ts'
import { quantizationOf } from './quantization-config.ts'
import type { HeaderTensor } from './safetensors-reader.ts'
import { MAX_TENSORS, foreignFormat, headerLength, parseSafetensorsHeader } from './safetensors-reader.ts'
import { INDEX_FILE } from './safetensors-writer.ts'
import { isJsonObject, parseStrictJson } from './strict-json.ts'
import type { ByteSource, Checkpoint, TensorEntry } from './types.ts'

/** Real ones stay under 100 KB, even with an ignore list of every layer. */
const MAX_CONFIG_BYTES = 16 << 20
/** About 150 bytes a tensor: room for MAX_TENSORS. */
const MAX_INDEX_BYTES = 128 << 20
/** The largest published models come in under 200 shards; each costs a file handle. */
const MAX_SHARDS = 2000
/** Most headers fit into the first read, so that a small file costs one. */
const FIRST_READ_BYTES = 64 * 1024
/** Headers read at once: enough to hide a network drive's latency, few enough to bound memory. */
const PARALLEL_HEADERS = 8

type Json = Readonly<Record<string, unknown>>

export interface OpenOptions {
  readonly signal?: AbortSignal
  /**
   * True to look at models that cannot run: a quantization that Lathe does not read leaves `quantization` null instead of throwing. Such a
   * checkpoint's bytes must not be taken for weights.
   */
  readonly inspectOnly?: boolean
}

/**
 * Opens a model folder. Throws `checkpoint.not-found`, `.not-a-model` (with what was found and what is missing), `.unsupported-file` for
 * GGUF and pickles, `.invalid-config`, `.invalid-header`, `.missing-shard`, `.unsafe-path`, `.unsupported-scheme`, or a disk error.
 */
export async function openCheckpoint(path: string, options: OpenOptions = {}): Promise<Checkpoint> {
  await refuseFilePath(path)
  const folder = await openFolder(path)
  const config = await readJsonObject(folder, 'config.json', MAX_CONFIG_BYTES)
  if (config === null) throw notAModel(folder)
  const generationConfig = await readJsonObject(folder, 'generation_config.json', MAX_CONFIG_BYTES)
  const quantization = readQuantization(config, options.inspectOnly === true)
  const { names, expected } = await checkpointFiles(folder)
  const opened: RangedFile[] = []
  const closeAll = async (): Promise<void> => {
    await Promise.all(opened.splice(0).map((file) => file[Symbol.asyncDispose]()))
  }
  try {
    const tensors = new Map<string, TensorEntry>()
    const places = new Map<string, { readonly file: RangedFile; readonly tensor: HeaderTensor }>()
    const metadata = new Map<string, string>()
    for (let from = 0; from < names.length; from += PARALLEL_HEADERS) {
      if (options.signal?.aborted === true)
        throw new LatheError('job.cancelled', 'Opening the model was cancelled.', 'Open it again when you like.')
      const batch = names.slice(from, from + PARALLEL_HEADERS)
      const results = await Promise.allSettled(
        batch.map(async (name) => {
          const file = await openRanged(folder, name)
          opened.push(file)
          return { file, header: await readHeader(file) }
        }),
      )
      for (const result of results) {
        if (result.status === 'rejected') throw result.reason
        const { file, header } = result.value
        for (const [key, value] of header.metadata) if (!metadata.has(key)) metadata.set(key, value)
        for (const tensor of header.tensors) {
          const earlier = places.get(tensor.name)
          if (earlier !== undefined) throw twice(tensor.name, earlier.file.name, file.name)
          places.set(tensor.name, { file, tensor })
          const { name, dtype, shape, byteLength } = tensor
          tensors.set(name, { name, dtype, shape, byteLength, file: file.name })
        }
        if (tensors.size > MAX_TENSORS) {
          throw new LatheError('checkpoint.invalid-header', `The model has over ${MAX_TENSORS} tensors.`, 'No real model has that many.')
        }
      }
    }
    for (const [tensor, file] of expected) {
      if (tensors.get(tensor)?.file !== file) {
        const where = tensors.get(tensor)?.file
        throw new LatheError(
          'checkpoint.missing-tensor',
          `${INDEX_FILE} places the tensor "${shorten(tensor)}" in ${file}, ${where === undefined ? 'but it is not there' : `but it is in ${where}`}.`,
          'The index and the files belong to different downloads. Download the model again.',
        )
      }
    }
    const checkpoint: Checkpoint = {
      folder: path,
      config,
      generationConfig,
      quantization,
      tensors,
      metadata,
      files: folder.files,
      open: (name) => byteSource(name, places.get(name)),
      [Symbol.asyncDispose]: closeAll,
    }
    const stored = config['quantization_config']
    const foreign = quantization !== null && isJsonObject(stored) && isForeignMethod(stored['quant_method'])
    return foreign ? foreignView(checkpoint, stored) : checkpoint
  } catch (error) {
    await closeAll()
    throw error
  }
}

function byteSource(name: string, place: { readonly file: RangedFile; readonly tensor: HeaderTensor } | undefined): ByteSource {
  if (place === undefined) {
    throw new LatheError(
      'checkpoint.missing-tensor',
      `The model has no tensor "${shorten(name)}".`,
      'The checkpoint is incomplete or of another architecture.',
    )
  }
  const { file, tensor } = place
  return {
    byteLength: tensor.byteLength,
    async read(offset, length, into) {
      const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0
      if (!whole || offset + length > tensor.byteLength) {
        throw new RangeError(`bytes ${offset} + ${length} of "${name}", which has ${tensor.byteLength}`)
      }
      return file.read(tensor.offset + offset, length, into)
    },
  }
}

async function readHeader(file: RangedFile): Promise<ReturnType<typeof parseSafetensorsHeader>> {
  const start = await file.read(0, Math.min(FIRST_READ_BYTES, file.byteLength))
  const needed = 8 + headerLength(start, file.byteLength, file.name)
  const bytes = needed <= start.byteLength ? start : await file.read(0, needed)
  return parseSafetensorsHeader(bytes, file.byteLength, file.name)
}

function readQuantization(config: Json, inspectOnly: boolean): Checkpoint['quantization'] {
  try {
    return quantizationOf(config)
  } catch (error) {
    if (inspectOnly && error instanceof LatheError) return null
    throw error
  }
}

/** A JSON side file, or null where the folder has none. Throws `checkpoint.invalid-config`. */
async function readJsonObject(folder: ModelFolder, name: string, maxBytes: number): Promise<Json | null> {
  const bytes = await readSmallFile(folder, name, { maxBytes, code: 'checkpoint.invalid-config' })
  if (bytes === null) return null
  const value = parseStrictJson(bytes, { what: name, code: 'checkpoint.invalid-config' })
  if (isJsonObject(value)) return value
  throw new LatheError('checkpoint.invalid-config', `${name} is not a JSON object.`, 'The file is damaged. Download it again.')
}

/** The safetensors files of a folder, and where an index says each tensor is (empty without one). */
async function checkpointFiles(folder: ModelFolder): Promise<{ names: readonly string[]; expected: ReadonlyMap<string, string> }> {
  const present = folder.files.map((file) => file.name)
  // As transformers looks: the single file first, then the index.
  if (present.includes('model.safetensors')) return { names: ['model.safetensors'], expected: new Map() }
  if (present.includes(INDEX_FILE)) return fromIndex(folder)
  const shards = present.map((name) => /^(.+)-(\d{5})-of-(\d{5})\.safetensors$/.exec(name)).filter((match) => match !== null)
  const first = shards[0]
  if (first !== undefined) {
    const [, stem, , total] = first
    const expected = Array.from(
      { length: Math.min(Number(total), MAX_SHARDS) },
      (_, i) => `${stem}-${String(i + 1).padStart(5, '0')}-of-${total}.safetensors`,
    )
    const missing = expected.filter((name) => !present.includes(name))
    if (missing.length > 0) throw missingShards(missing, expected.length)
    return { names: expected, expected: new Map() }
  }
  const others = present.filter((name) => name.endsWith('.safetensors') && !name.startsWith('adapter_'))
  const only = others.length === 1 ? others[0] : undefined
  if (only !== undefined) return { names: [only], expected: new Map() }
  const stray = folder.strayLinks.find((name) => name.endsWith('.safetensors') || name === INDEX_FILE)
  if (stray !== undefined) {
    throw new LatheError(
      'checkpoint.unsafe-path',
      `${stray} is a link that leads out of the model folder.`,
      'Copy the file itself into the folder: Lathe never follows links to elsewhere.',
    )
  }
  throw notAModel(folder)
}

async function fromIndex(folder: ModelFolder): Promise<{ names: readonly string[]; expected: ReadonlyMap<string, string> }> {
  const index = await readJsonObject(folder, INDEX_FILE, MAX_INDEX_BYTES)
  const map = index?.['weight_map']
  if (!isJsonObject(map)) {
    throw new LatheError('checkpoint.invalid-config', `${INDEX_FILE} has no weight_map.`, 'The file is damaged. Download it again.')
  }
  const expected = new Map<string, string>()
  const names = new Set<string>()
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== 'string') {
      throw new LatheError(
        'checkpoint.invalid-config',
        `${INDEX_FILE}: "${shorten(tensor)}" has no file name.`,
        'The file is damaged. Download it again.',
      )
    }
    if (!names.has(file)) {
      assertPlainFileName(file, INDEX_FILE)
      if (!file.endsWith('.safetensors')) {
        throw new LatheError('checkpoint.unsupported-file', `${INDEX_FILE} names ${file}, which is not a safetensors file.`, PICKLE_HINT)
      }
      names.add(file)
      if (names.size > MAX_SHARDS) {
        throw new LatheError('checkpoint.invalid-config', `${INDEX_FILE} names over ${MAX_SHARDS} files.`, 'No real model has that many.')
      }
    }
    expected.set(tensor, file)
  }
  if (names.size === 0)
    throw new LatheError('checkpoint.invalid-config', `${INDEX_FILE} lists no tensors.`, 'The file is damaged. Download it again.')
  const sorted = [...names].sort()
  const missing = sorted.filter((name) => folder.realPathOf(name) === null && !folder.strayLinks.includes(name))
  if (missing.length > 0) throw missingShards(missing, sorted.length)
  return { names: sorted, expected }
}

const PICKLE_HINT = 'A pickle can run code when it is loaded, so Lathe never opens one. Use the safetensors version of the model.'
const GGUF_HINT = 'Lathe reads Hugging Face folders. Download the original model (config.json and safetensors files).'

/** What a file is by its name alone. */
function foreignByName(name: string): { readonly what: string; readonly hint: string } | null {
  if (/\.gguf$/i.test(name)) return { what: 'a GGUF file', hint: GGUF_HINT }
  if (/\.(?:bin|pt|pth|ckpt|pkl)$/i.test(name)) return { what: 'a PyTorch file', hint: PICKLE_HINT }
  return null
}

/** A path to a file instead of a folder gets advice that fits the file. */
async function refuseFilePath(path: string): Promise<void> {
  const info = await stat(path).catch((error: unknown) => {
    const errno = error instanceof Error && 'code' in error ? error.code : null
    if (errno === 'ENOENT' || errno === 'ENOTDIR') {
      throw new LatheError(
        'checkpoint.not-found',
        `There is nothing at ${path}.`,
        'Choose the model folder again; it may have been moved.',
        { cause: error },
      )
    }
    throw diskError(error, `looking at ${path}`)
  })
  if (info.isDirectory()) return
  const name = basename(path)
  const foreign = foreignByName(name) ?? (info.isFile() ? foreignFormat(await firstBytes(path)) : null)
  if (foreign !== null) throw new LatheError('checkpoint.unsupported-file', `${name} is ${foreign.what}.`, foreign.hint)
  const hint = name.endsWith('.safetensors')
    ? 'Choose the folder that contains it: the weights alone do not say how the model is built.'
    : 'Choose the folder that contains config.json and the safetensors files.'
  throw new LatheError('checkpoint.not-a-model', `${name} is a file; a model is a folder.`, hint)
}

async function firstBytes(path: string): Promise<Uint8Array> {
  try {
    await using handle = await open(path, 'r')
    const bytes = new Uint8Array(16)
    const { bytesRead } = await handle.read(bytes, 0, bytes.byteLength, 0)
    return bytes.subarray(0, bytesRead)
  } catch (error) {
    throw diskError(error, `reading ${basename(path)}`)
  }
}

function notAModel(folder: ModelFolder): LatheError {
  const { found, missing } = contentsOf(folder.files)
  const name = basename(folder.path)
  const data = { found, missing }
  const foreign = folder.files.map((file) => foreignByName(file.name)).find((hit) => hit !== null)
  if (!found.includes('safetensors') && foreign !== undefined && foreign !== null) {
    return new LatheError('checkpoint.unsupported-file', `${name} contains ${foreign.what}, but no safetensors file.`, foreign.hint, {
      data,
    })
  }
  const has = found.length === 0 ? 'nothing that belongs to a model' : found.join(', ')
  const hint = folder.files.some((file) => file.name === 'adapter_config.json')
    ? 'This is a LoRA adapter. Merge it into its base model first, then open the merged folder.'
    : 'Choose the folder that directly contains config.json and the safetensors files.'
  return new LatheError('checkpoint.not-a-model', `${name} is not a complete model: found ${has}; missing ${missing.join(', ')}.`, hint, {
    data,
  })
}

/** Kinds of files a model needs, present and absent, in words. */
function contentsOf(files: readonly FolderFile[]): { found: string[]; missing: string[] } {
  const has = (test: (name: string) => boolean): boolean => files.some((file) => test(file.name))
  const needs = [
    { what: 'config.json', present: has((name) => name === 'config.json') },
    { what: 'safetensors', present: has((name) => name.endsWith('.safetensors') && !name.startsWith('adapter_')) },
  ]
  const extras = [
    { what: 'tokenizer.json', present: has((name) => name === 'tokenizer.json') },
    { what: 'GGUF', present: has((name) => /\.gguf$/i.test(name)) },
    { what: 'PyTorch pickle', present: has((name) => /\.(?:bin|pt|pth|ckpt|pkl)$/i.test(name)) },
    { what: 'LoRA adapter', present: has((name) => name.startsWith('adapter_')) },
  ]
  return {
    found: [...needs, ...extras].filter((item) => item.present).map((item) => item.what),
    missing: needs.filter((item) => !item.present).map((item) => item.what),
  }
}

function missingShards(missing: readonly string[], total: number): LatheError {
  const shown = missing.slice(0, 3).join(', ')
  return new LatheError(
    'checkpoint.missing-shard',
    `${missing.length} of ${total} weight files are missing: ${shown}${missing.length > 3 ? ', …' : ''}.`,
    'Download the missing files; the model is incomplete without them.',
    { data: { missing: missing.slice(0, 100) } },
  )
}

function twice(tensor: string, first: string, second: string): LatheError {
  return new LatheError(
    'checkpoint.invalid-header',
    `The tensor "${shorten(tensor)}" is in both ${first} and ${second}.`,
    'The folder mixes files of two downloads. Remove the ones that do not belong, or download the model again.',
  )
}

function shorten(text: string): string {
  return text.length <= 120 ? text : `${text.slice(0, 117)}…`
}

/** What a dropped path turned out to be. */
export interface FolderInspection {
  readonly path: string
  /** True when config.json and every weight file can be read; it may still be a model that Lathe cannot run. */
  readonly readable: boolean
  /** From config.json where there is a valid one, even if the weights cannot be read. */
  readonly architecture: Architecture | null
  readonly files: readonly FolderFile[]
  /** Everything wrong or unsupported, worst first; empty for a model that opens. */
  readonly problems: readonly ErrorShape[]
}

/** Looks at any path without throwing for what it finds: says what is there and why it cannot be opened. */
export async function inspectFolder(path: string): Promise<FolderInspection> {
  const problems: ErrorShape[] = []
  let files: readonly FolderFile[] = []
  let architecture: Architecture | null = null
  let readable = false
  try {
    await refuseFilePath(path)
    const folder = await openFolder(path)
    files = folder.files
    const config = await readJsonObject(folder, 'config.json', MAX_CONFIG_BYTES)
    if (config !== null) architecture = architectureOf(config)
    await using checkpoint = await openCheckpoint(path, { inspectOnly: true })
    readable = true
    quantizationOf(checkpoint.config)
  } catch (error) {
    problems.push(toErrorShape(error))
  }
  return { path, readable, architecture, files, problems }
}
