/**
 * Writes safetensors files whose layout is known before the first byte: names, dtypes and shapes fix the header and every offset, so
 * tensors may arrive in any order, in pieces, and after an interruption. Same layout and bytes give the same files. Within a file tensors
 * are sorted as the reference writer does (larger elements first, then dtype, then name), which keeps each aligned to its element size:
 * readers that map the file rely on it. Knows nothing of schemes or journals.
 */
import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { LatheError } from '../contract/errors.ts'
import { DTYPE_BYTES } from './dtypes.ts'
import { assertPlainFileName, diskError } from './files.ts'
import type { StoredDtype } from './types.ts'

export interface TensorLayout {
  readonly name: string
  readonly dtype: StoredDtype
  readonly shape: readonly number[]
}

export interface PlannedTensor extends TensorLayout {
  readonly byteLength: number
  readonly file: string
  /** From the start of its file. */
  readonly offset: number
}

export interface PlannedFile {
  readonly name: string
  /** 8-byte length and JSON, padded so that the data starts at a multiple of 8. */
  readonly header: Uint8Array
  readonly tensors: readonly PlannedTensor[]
  readonly byteLength: number
}

export interface WritePlan {
  readonly files: readonly PlannedFile[]
  /** Bytes of all tensors: `total_size` of the index. */
  readonly tensorBytes: number
  /** Bytes of all files, headers and index included. */
  readonly fileBytes: number
  /** Contents of model.safetensors.index.json, or null for a single file. */
  readonly index: Uint8Array | null
}

/** The reference writer's order (its Dtype enum, descending): by element size, so that every tensor is aligned, and fixed within a size. */
const WRITE_ORDER: readonly StoredDtype[] = [
  'U64',
  'I64',
  'F64',
  'F32',
  'U32',
  'I32',
  'BF16',
  'F16',
  'U16',
  'I16',
  'F8_E8M0',
  'F8_E4M3',
  'F8_E5M2',
  'I8',
  'U8',
  'BOOL',
]

/** What Hugging Face tools write by default: "5GB". */
export const DEFAULT_SHARD_BYTES = 5_000_000_000
export const INDEX_FILE = 'model.safetensors.index.json'

/**
 * Lays tensors out in files of at most `maxShardBytes` of tensor data each (a single larger tensor gets a file of its own). Shards fill in
 * the given order. Throws `checkpoint.invalid-tensor` for a name used twice or an impossible shape.
 */
export function planSafetensors(
  layout: readonly TensorLayout[],
  options: { readonly maxShardBytes?: number; readonly metadata?: Readonly<Record<string, string>> } = {},
): WritePlan {
  const maxShardBytes = options.maxShardBytes ?? DEFAULT_SHARD_BYTES
  if (!(maxShardBytes > 0)) throw new RangeError(`a shard cannot hold ${maxShardBytes} bytes`)
  const names = new Set<string>()
  const shards: { tensors: (TensorLayout & { byteLength: number })[]; bytes: number }[] = []
  let tensorBytes = 0
  for (const tensor of layout) {
    if (names.has(tensor.name) || tensor.name === '__metadata__' || tensor.name === '') {
      throw new LatheError(
        'checkpoint.invalid-tensor',
        `The tensor name "${tensor.name}" cannot be written.`,
        'Each tensor needs a name of its own.',
      )
    }
    names.add(tensor.name)
    const byteLength = tensor.shape.reduce((product, size) => product * size, DTYPE_BYTES[tensor.dtype])
    if (!Number.isSafeInteger(byteLength) || tensor.shape.some((size) => !Number.isSafeInteger(size) || size < 0)) {
      throw new LatheError(
        'checkpoint.invalid-tensor',
        `The tensor "${tensor.name}" has an impossible shape.`,
        'This is a defect in Lathe.',
      )
    }
    tensorBytes += byteLength
    let shard = shards.at(-1)
    if (shard === undefined || (shard.bytes > 0 && shard.bytes + byteLength > maxShardBytes)) {
      shard = { tensors: [], bytes: 0 }
      shards.push(shard)
    }
    shard.tensors.push({ ...tensor, byteLength })
    shard.bytes += byteLength
  }
  if (shards.length === 0) shards.push({ tensors: [], bytes: 0 })
  const metadata = options.metadata ?? { format: 'pt' }
  const files = shards.map(({ tensors }, i) => planFile(shardName(i, shards.length), tensors, metadata))
  const index = files.length === 1 ? null : indexOf(files, tensorBytes)
  const fileBytes = files.reduce((sum, file) => sum + file.byteLength, index?.byteLength ?? 0)
  return { files, tensorBytes, fileBytes, index }
}

/** "model.safetensors", or "model-00001-of-00003.safetensors". */
export function shardName(index: number, count: number): string {
  if (count === 1) return 'model.safetensors'
  return `model-${String(index + 1).padStart(5, '0')}-of-${String(count).padStart(5, '0')}.safetensors`
}

function planFile(
  name: string,
  tensors: readonly (TensorLayout & { byteLength: number })[],
  metadata: Readonly<Record<string, string>>,
): PlannedFile {
  const sorted = [...tensors].sort((a, b) => WRITE_ORDER.indexOf(a.dtype) - WRITE_ORDER.indexOf(b.dtype) || (a.name < b.name ? -1 : 1))
  // Built as text, entry by entry: a plain object would move names that look like integers to the front.
  const entries = [`"__metadata__":${JSON.stringify(sortedObject(metadata))}`]
  let end = 0
  const offsets = sorted.map((tensor) => {
    const begin = end
    end += tensor.byteLength
    const entry = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [begin, end] }
    entries.push(`${JSON.stringify(tensor.name)}:${JSON.stringify(entry)}`)
    return begin
  })
  const json = new TextEncoder().encode(`{${entries.join(',')}}`)
  const padded = Math.ceil(json.byteLength / 8) * 8
  const header = new Uint8Array(8 + padded).fill(0x20)
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true)
  header.set(json, 8)
  return {
    name,
    header,
    tensors: sorted.map((tensor, i) => ({ ...tensor, file: name, offset: header.byteLength + (offsets[i] ?? 0) })),
    byteLength: header.byteLength + end,
  }
}

function indexOf(files: readonly PlannedFile[], tensorBytes: number): Uint8Array {
  const names = files.flatMap((file) => file.tensors.map((tensor) => [tensor.name, file.name] as const))
  names.sort(([a], [b]) => (a < b ? -1 : 1))
  const lines = names.map(([tensor, file]) => `    ${JSON.stringify(tensor)}: ${JSON.stringify(file)}`)
  const text = `{\n  "metadata": {\n    "total_size": ${tensorBytes}\n  },\n  "weight_map": {\n${lines.join(',\n')}\n  }\n}\n`
  return new TextEncoder().encode(text)
}

function sortedObject(object: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)))
}

export interface SafetensorsWriterOptions {
  readonly folder: string
  readonly plan: WritePlan
  /**
   * Continue an interrupted run: the named tensors count as written, so their files must exist with exactly the planned header. Everything
   * else is written again. Throws `checkpoint.invalid-header` when the files are not those of this plan.
   */
  readonly resume?: { readonly finished: ReadonlySet<string> }
}

export interface SafetensorsWriter extends AsyncDisposable {
  readonly plan: WritePlan
  /**
   * Appends bytes to a tensor; tensors may interleave, the pieces of one come in order. The promise resolves when the operating system has
   * them, so that awaiting it is the backpressure and `bytes` may then be reused. RangeError if a tensor would overflow.
   */
  write(name: string, bytes: Uint8Array): Promise<void>
  /** True once every byte of the tensor has been given. */
  isComplete(name: string): boolean
  /** Forces everything written so far to the disk; only then may a journal call it finished. */
  flush(): Promise<void>
  /** Checks that every tensor is complete, writes the index, forces all to the disk and closes. Throws `checkpoint.missing-tensor`. */
  finish(): Promise<readonly { readonly name: string; readonly bytes: number }[]>
}

/** Creates the files of a plan (none may exist unless resuming). Disposing without `finish` closes them and leaves them as they are. */
export async function createSafetensorsWriter(options: SafetensorsWriterOptions): Promise<SafetensorsWriter> {
  const { folder, plan, resume } = options
  const handles = new Map<string, FileHandle>()
  const closeAll = async (): Promise<void> => {
    const opened = [...handles.values()]
    handles.clear()
    await Promise.all(opened.map((handle) => handle.close()))
  }
  try {
    for (const file of plan.files) {
      assertPlainFileName(file.name, 'The output plan')
      handles.set(file.name, resume === undefined ? await createFile(folder, file, 'wx') : await reopenFile(folder, file, resume.finished))
    }
  } catch (error) {
    await closeAll()
    throw diskError(error, `creating the model files in ${folder}`)
  }
  const progress = new Map<string, { readonly tensor: PlannedTensor; written: number }>()
  for (const file of plan.files) {
    for (const tensor of file.tensors) {
      progress.set(tensor.name, { tensor, written: resume?.finished.has(tensor.name) === true ? tensor.byteLength : 0 })
    }
  }
  const stateOf = (name: string): { readonly tensor: PlannedTensor; written: number } => {
    const state = progress.get(name)
    if (state === undefined) throw new RangeError(`the plan has no tensor "${name}"`)
    return state
  }
  const handleOf = (file: string): FileHandle => {
    const handle = handles.get(file)
    if (handle === undefined) throw new Error(`the writer of ${file} is closed`)
    return handle
  }
  return {
    plan,
    async write(name, bytes) {
      const state = stateOf(name)
      const { tensor } = state
      if (state.written + bytes.byteLength > tensor.byteLength) {
        throw new RangeError(`"${name}" has ${tensor.byteLength} bytes; ${state.written + bytes.byteLength} were given`)
      }
      const position = tensor.offset + state.written
      state.written += bytes.byteLength
      try {
        await writeFully(handleOf(tensor.file), bytes, position)
      } catch (error) {
        throw diskError(error, `writing ${tensor.file}`)
      }
    },
    isComplete(name) {
      const state = stateOf(name)
      return state.written === state.tensor.byteLength
    },
    async flush() {
      try {
        for (const handle of handles.values()) await handle.datasync()
      } catch (error) {
        throw diskError(error, `writing to ${folder}`)
      }
    },
    async finish() {
      const incomplete = [...progress.values()].find((state) => state.written < state.tensor.byteLength)
      if (incomplete !== undefined) {
        const { tensor, written } = incomplete
        throw new LatheError(
          'checkpoint.missing-tensor',
          `"${tensor.name}" was not written completely: ${written} of ${tensor.byteLength} bytes.`,
          'This is a defect in Lathe. Copy the details and report it.',
        )
      }
      try {
        for (const handle of handles.values()) await handle.sync()
        await closeAll()
        if (plan.index !== null) await writeWholeFile(folder, INDEX_FILE, plan.index)
        await syncFolder(folder)
      } catch (error) {
        throw diskError(error, `writing to ${folder}`)
      }
      const written = plan.files.map((file) => ({ name: file.name, bytes: file.byteLength }))
      return plan.index === null ? written : [...written, { name: INDEX_FILE, bytes: plan.index.byteLength }]
    },
    async [Symbol.asyncDispose]() {
      await closeAll()
    },
  }
}

async function createFile(folder: string, file: PlannedFile, flag: 'wx' | 'w'): Promise<FileHandle> {
  let handle: FileHandle
  try {
    handle = await open(join(folder, file.name), flag)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') {
      throw new LatheError('checkpoint.already-exists', `${file.name} already exists in ${folder}.`, 'Choose another output folder.', {
        cause: error,
      })
    }
    throw error
  }
  try {
    await writeFully(handle, file.header, 0)
    // Reserves the length, so that a resumed run can tell these files from foreign ones and a reader never sees a short file as whole.
    await handle.truncate(file.byteLength)
    return handle
  } catch (error) {
    await handle.close()
    throw error
  }
}

async function reopenFile(folder: string, file: PlannedFile, finished: ReadonlySet<string>): Promise<FileHandle> {
  const handle = await open(join(folder, file.name), 'r+').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  })
  if (handle !== null) {
    try {
      const header = new Uint8Array(file.header.byteLength)
      await handle.read(header, 0, header.byteLength, 0)
      const { size } = await handle.stat()
      if (size === file.byteLength && Buffer.compare(header, file.header) === 0) return handle
    } catch (error) {
      await handle.close()
      throw error
    }
    await handle.close()
  }
  // The interruption may have come before this file was laid out; only if nothing in it counts as finished.
  if (!file.tensors.some((tensor) => finished.has(tensor.name))) return createFile(folder, file, 'w')
  throw new LatheError(
    'checkpoint.invalid-header',
    `${file.name} in ${folder} is not the file that this run began.`,
    'Discard the unfinished run and start it again.',
  )
}

async function writeFully(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let done = 0
  while (done < bytes.byteLength) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, position + done)
    done += bytesWritten
  }
}

/** Writes a small file so that it is on the disk when the promise resolves. An existing one is replaced. */
export async function writeWholeFile(folder: string, name: string, bytes: Uint8Array): Promise<void> {
  const handle = await open(join(folder, name), 'w')
  try {
    await writeFully(handle, bytes, 0)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes new names in a folder durable. Windows has no such call and needs none. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
