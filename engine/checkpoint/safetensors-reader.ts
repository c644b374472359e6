/**
 * The header of a safetensors file: 8 bytes of length, that many bytes of JSON, then the tensors' bytes without gaps
 * (github.com/huggingface/safetensors, README "Format"). A pure function over bytes, so that it can be fuzzed; it is as strict as the
 * reference implementation, plus caps. Knows nothing of files, shards or models.
 */
import { LatheError } from '../contract/errors.ts'
import { DTYPE_BYTES, isStoredDtype } from './dtypes.ts'
import { isJsonObject, parseStrictJson } from './strict-json.ts'
import type { StoredDtype } from './types.ts'

/** The reference implementation's own cap (MAX_HEADER_SIZE). A header of this size would describe a million tensors. */
export const MAX_HEADER_BYTES = 100_000_000
/** The largest open models (mixture of experts, one tensor per expert) have about 100,000 tensors over all shards. */
export const MAX_TENSORS = 500_000
/** Weights have 1 or 2 dimensions, convolutions up to 5. The cap bounds the shape product's loop, not any real model. */
export const MAX_DIMENSIONS = 8
/** Real names stay under 120 characters; longer ones only serve to fill screens and logs. */
export const MAX_NAME_LENGTH = 512
const LENGTH_BYTES = 8

export interface HeaderTensor {
  readonly name: string
  readonly dtype: StoredDtype
  readonly shape: readonly number[]
  readonly byteLength: number
  /** From the start of the file. */
  readonly offset: number
}

export interface SafetensorsHeader {
  /** Where the first tensor's bytes start. */
  readonly dataOffset: number
  readonly metadata: ReadonlyMap<string, string>
  /** In file order. */
  readonly tensors: readonly HeaderTensor[]
}

/**
 * Bytes of JSON that follow the first 8. Throws `checkpoint.unsupported-file` for a GGUF, pickle or Git LFS pointer under a safetensors
 * name, `checkpoint.invalid-header` for anything else that cannot be one. `fileBytes` is the whole file's size.
 */
export function headerLength(start: Uint8Array, fileBytes: number, file: string): number {
  const foreign = foreignFormat(start)
  if (foreign !== null) {
    throw new LatheError('checkpoint.unsupported-file', `${file} is ${foreign.what}, not a safetensors file.`, foreign.hint)
  }
  if (fileBytes < LENGTH_BYTES + 2 || start.byteLength < LENGTH_BYTES) {
    throw invalidHeader(file, `has only ${fileBytes} bytes, fewer than the smallest possible header`)
  }
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength)
  const length = view.getBigUint64(0, true)
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw invalidHeader(file, `claims a header of ${length} bytes; at most ${MAX_HEADER_BYTES} are accepted`)
  }
  if (length > BigInt(fileBytes - LENGTH_BYTES)) {
    throw invalidHeader(file, `is cut off: its header needs ${length} bytes and the file has ${fileBytes - LENGTH_BYTES} left`)
  }
  return Number(length)
}

/** Parses and checks a header. `bytes` starts at the file's first byte and holds at least the whole header. */
export function parseSafetensorsHeader(bytes: Uint8Array, fileBytes: number, file: string): SafetensorsHeader {
  const length = headerLength(bytes, fileBytes, file)
  const dataOffset = LENGTH_BYTES + length
  if (bytes.byteLength < dataOffset) throw new RangeError(`${bytes.byteLength} bytes given, the header needs ${dataOffset}`)
  const json = bytes.subarray(LENGTH_BYTES, dataOffset)
  // The format demands it, and it rules out leading whitespace that other readers refuse.
  if (json[0] !== 0x7b) throw invalidHeader(file, 'has a header that does not begin with "{"')
  // Header → tensor → shape: three levels. One more than that is already wrong.
  const root = parseStrictJson(json, { what: `The header of ${file}`, code: 'checkpoint.invalid-header', maxDepth: 3 })
  if (!isJsonObject(root)) throw invalidHeader(file, 'has a header that is not a JSON object')

  const metadata = new Map<string, string>()
  const tensors: HeaderTensor[] = []
  const entries = Object.entries(root)
  if (entries.length > MAX_TENSORS) throw invalidHeader(file, `lists ${entries.length} tensors; at most ${MAX_TENSORS} are accepted`)
  for (const [name, value] of entries) {
    if (name === '__metadata__') {
      if (!isJsonObject(value)) throw invalidHeader(file, 'has metadata that is not an object')
      for (const [key, text] of Object.entries(value)) {
        if (typeof text !== 'string') throw invalidHeader(file, `has metadata "${key.slice(0, 80)}" that is not a string`)
        metadata.set(key, text)
      }
    } else tensors.push(parseTensor(name, value, dataOffset, fileBytes, file))
  }
  tensors.sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength || (a.name < b.name ? -1 : 1))
  let end = dataOffset
  for (const tensor of tensors) {
    if (tensor.offset < end) throw invalidHeader(file, `has overlapping tensors: "${tensor.name}" starts inside the one before it`)
    if (tensor.offset > end) throw invalidHeader(file, `has a gap of ${tensor.offset - end} bytes before "${tensor.name}"`)
    end = tensor.offset + tensor.byteLength
  }
  if (end !== fileBytes) {
    throw invalidHeader(file, `has ${fileBytes - end} bytes after its last tensor that belong to none`)
  }
  return { dataOffset, metadata, tensors }
}

function parseTensor(name: string, value: unknown, dataOffset: number, fileBytes: number, file: string): HeaderTensor {
  if (name === '' || name.length > MAX_NAME_LENGTH) {
    throw invalidHeader(file, `has a tensor name of ${name.length} characters; 1 to ${MAX_NAME_LENGTH} are accepted`)
  }
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(name)) throw invalidHeader(file, `has a tensor name with control characters: ${JSON.stringify(name)}`)
  if (!isJsonObject(value)) throw invalidTensor(file, name, 'is not described by an object')
  const { dtype, shape, data_offsets: offsets } = value
  if (typeof dtype !== 'string') throw invalidTensor(file, name, 'has no dtype')
  if (!isStoredDtype(dtype)) {
    throw invalidTensor(file, name, `has the dtype ${JSON.stringify(dtype.slice(0, 40))}, which Lathe does not read`)
  }
  if (!Array.isArray(shape)) throw invalidTensor(file, name, 'has no shape')
  if (shape.length > MAX_DIMENSIONS) {
    throw invalidTensor(file, name, `has ${shape.length} dimensions; at most ${MAX_DIMENSIONS} are accepted`)
  }
  const sizes: number[] = []
  let byteLength = DTYPE_BYTES[dtype]
  for (const size of shape as unknown[]) {
    if (!isCount(size)) throw invalidTensor(file, name, `has a dimension that is not a whole number from 0 to 2^53`)
    sizes.push(size)
    byteLength *= size
    // A product beyond 2^53 is no longer exact, and no file is that long. Zero later in the shape must not hide it.
    if (byteLength > Number.MAX_SAFE_INTEGER) throw invalidTensor(file, name, 'has a shape whose size overflows')
  }
  if (!Array.isArray(offsets) || offsets.length !== 2) throw invalidTensor(file, name, 'has no pair of data offsets')
  const [begin, end] = offsets as unknown[]
  if (!isCount(begin) || !isCount(end)) throw invalidTensor(file, name, 'has data offsets that are not whole numbers from 0 to 2^53')
  if (end < begin) throw invalidTensor(file, name, `ends (${end}) before it begins (${begin})`)
  if (end > fileBytes - dataOffset) {
    throw invalidTensor(
      file,
      name,
      `ends at ${end}, beyond the ${fileBytes - dataOffset} bytes of data in the file: it is cut off or damaged`,
    )
  }
  if (end - begin !== byteLength) {
    throw invalidTensor(file, name, `has ${end - begin} bytes, but ${dtype} [${sizes.join(', ')}] needs ${byteLength}`)
  }
  return { name, dtype, shape: sizes, byteLength, offset: dataOffset + begin }
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && !Object.is(value, -0)
}

function invalidHeader(file: string, why: string): LatheError {
  return new LatheError('checkpoint.invalid-header', `${file} ${why}.`, 'The file is damaged or incomplete. Download it again.')
}

function invalidTensor(file: string, name: string, why: string): LatheError {
  const shown = name.length <= 120 ? name : `${name.slice(0, 117)}…`
  return new LatheError(
    'checkpoint.invalid-header',
    `${file}: the tensor "${shown}" ${why}.`,
    'The file is damaged or incomplete. Download it again.',
  )
}

/** What a file really is when its first bytes say so, with advice; null when they say nothing. */
export function foreignFormat(start: Uint8Array): { readonly what: string; readonly hint: string } | null {
  const begins = (...bytes: number[]): boolean => bytes.every((byte, i) => start[i] === byte)
  if (begins(0x47, 0x47, 0x55, 0x46)) {
    return {
      what: 'a GGUF file',
      hint: 'Lathe reads Hugging Face folders. Download the original model (config.json and safetensors files).',
    }
  }
  const pickle = {
    what: 'a PyTorch pickle',
    hint: 'A pickle can run code when it is loaded, so Lathe never opens one. Use the safetensors version of the model.',
  }
  // torch.save: a zip archive since 1.6, a bare pickle (protocol 2 and up) before.
  if (begins(0x50, 0x4b, 0x03, 0x04)) return pickle
  if (begins(0x80) && (start[1] ?? 0) >= 2 && (start[1] ?? 0) <= 5 && start[7] !== 0) return pickle
  if (new TextDecoder('latin1').decode(start.subarray(0, 8)) === 'version ') {
    return { what: 'a Git LFS pointer', hint: 'The repository was cloned without its large files. Run "git lfs pull" in the model folder.' }
  }
  return null
}
