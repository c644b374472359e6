/**
 * Answers by the hash of what was asked, in one file of JSON lines: a run that was killed goes on where it stopped, and tasks that share prompts share
 * answers. Keys include the model's fingerprint and the protocol, so a changed model is never answered from here. Bounded: what was not used for
 * longest goes first, in a file as in a folder of them.
 */
import { appendFile, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { makeFolder } from '../../checkpoint/make-folder.ts'

export interface EvaluationCache {
  get(key: string): unknown
  put(key: string, value: unknown): void
  /** Resolves when everything put so far is on disk. */
  flush(): Promise<void>
}

/** Lines written at once: few enough that a kill costs little, enough that thousands of short answers don't mean thousands of writes. */
const LINES_PER_WRITE = 64
/** Of one model: a hundred thousand scores of a few hundred bytes, about seven times MMLU; or sixteen thousand texts of 256 tokens with their traces. */
const MAX_FILE_BYTES = 64 << 20
/** Of all models together. */
const MAX_FOLDER_BYTES = 512 << 20

interface Entry {
  readonly value: unknown
  readonly line: string
}

class FileCache implements EvaluationCache {
  readonly #path: string
  readonly #maxBytes: number
  /** From the one not used for longest to the newest: a Map keeps the order of insertion. */
  readonly #known = new Map<string, Entry>()
  #knownBytes = 0
  /** With lines that are no longer known. */
  #fileBytes: number
  #pending: string[] = []
  #writing: Promise<void> = Promise.resolve()

  constructor(path: string, maxBytes: number, fileBytes: number) {
    this.#path = path
    this.#maxBytes = maxBytes
    this.#fileBytes = fileBytes
  }

  get(key: string): unknown {
    const entry = this.#known.get(key)
    if (entry === undefined) return undefined
    this.#known.delete(key)
    this.#known.set(key, entry)
    return entry.value
  }

  put(key: string, value: unknown): void {
    // A figure that JSON can't hold (−infinity) would come back as another.
    if (hasNonFinite(value)) return
    const line = `${JSON.stringify([key, value])}\n`
    // All others would go for it, and it as well.
    if (Buffer.byteLength(line) > this.#maxBytes) return
    this.keep(key, { value, line })
    this.#pending.push(line)
    if (this.#pending.length >= LINES_PER_WRITE) this.#write()
  }

  keep(key: string, entry: Entry): void {
    this.#forget(key)
    this.#known.set(key, entry)
    this.#knownBytes += Buffer.byteLength(entry.line)
    while (this.#knownBytes > this.#maxBytes) {
      const [oldest] = this.#known.keys()
      if (oldest === undefined) return
      this.#forget(oldest)
    }
  }

  async flush(): Promise<void> {
    this.#write()
    await this.#writing
  }

  #forget(key: string): void {
    const entry = this.#known.get(key)
    if (entry === undefined) return
    this.#known.delete(key)
    this.#knownBytes -= Buffer.byteLength(entry.line)
  }

  #write(): void {
    if (this.#pending.length === 0) return
    const text = this.#pending.join('')
    this.#pending = []
    this.#writing = this.#writing.then(() => this.#append(text))
    // Reported by the next flush; until then nobody waits for it.
    this.#writing.catch(() => null)
  }

  /** Twice the limit before it is written anew, so that a full cache does not mean a whole file for every answer. */
  async #append(text: string): Promise<void> {
    this.#fileBytes += Buffer.byteLength(text)
    if (this.#fileBytes <= 2 * this.#maxBytes) return appendFile(this.#path, text)
    const whole = Array.from(this.#known.values(), ({ line }) => line).join('')
    const partial = `${this.#path}.partial`
    await writeFile(partial, whole)
    await rename(partial, this.#path)
    this.#fileBytes = Buffer.byteLength(whole)
  }
}

function hasNonFinite(value: unknown): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).some((entry) => typeof entry === 'number' && !Number.isFinite(entry))
  )
}

/** Opens or begins the file, which holds at most twice `maxBytes`. A line cut short by a kill is skipped. */
export async function openEvaluationCache(path: string, maxBytes = MAX_FILE_BYTES): Promise<EvaluationCache> {
  await makeFolder(dirname(path))
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return ''
    throw error
  })
  const cache = new FileCache(path, maxBytes, Buffer.byteLength(text))
  for (const line of text.split('\n')) {
    if (line === '') continue
    try {
      const entry: unknown = JSON.parse(line)
      if (Array.isArray(entry) && typeof entry[0] === 'string') cache.keep(entry[0], { value: entry[1], line: `${line}\n` })
    } catch {
      // The end of a line that was being written when the process died; its answer is asked for again.
    }
  }
  // What follows a torn line must not be glued to it.
  if (text !== '' && !text.endsWith('\n')) await appendFile(path, '\n')
  return cache
}

/** Opens a file of a folder that holds one for each model, and removes those not used for longest until the folder is within `maxBytes`. */
export async function openCacheIn(folder: string, name: string, maxBytes = MAX_FOLDER_BYTES): Promise<EvaluationCache> {
  const cache = await openEvaluationCache(join(folder, name))
  const now = new Date()
  // One that is only read is used, too.
  await utimes(join(folder, name), now, now).catch(() => null)
  const files: { readonly path: string; readonly bytes: number; readonly usedMs: number }[] = []
  for (const other of await readdir(folder)) {
    const path = join(folder, other)
    const info = await stat(path).catch(() => null)
    if (info?.isFile() === true) files.push({ path, bytes: info.size, usedMs: info.mtimeMs })
  }
  let total = files.reduce((sum, { bytes }) => sum + bytes, 0)
  for (const { path, bytes } of files.toSorted((a, b) => a.usedMs - b.usedMs)) {
    if (total <= maxBytes || path === join(folder, name)) continue
    await rm(path, { force: true })
    total -= bytes
  }
  return cache
}
