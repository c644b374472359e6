/**
 * Answers by the hash of what was asked, in one file of JSON lines that only grows: a run that was killed goes on where it stopped, and tasks that
 * share prompts share answers. Keys include the model's fingerprint and the protocol, so a changed model is never answered from here.
 */
import { appendFile, mkdir, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'

export interface EvaluationCache {
  get(key: string): unknown
  put(key: string, value: unknown): void
  /** Resolves when everything put so far is on disk. */
  flush(): Promise<void>
}

/** Lines written at once: few enough that a kill costs little, enough that thousands of short answers don't mean thousands of writes. */
const LINES_PER_WRITE = 64

class FileCache implements EvaluationCache {
  readonly #path: string
  readonly #known: Map<string, unknown>
  #pending: string[] = []
  #writing: Promise<void> = Promise.resolve()

  constructor(path: string, known: Map<string, unknown>) {
    this.#path = path
    this.#known = known
  }

  get(key: string): unknown {
    return this.#known.get(key)
  }

  put(key: string, value: unknown): void {
    // A figure that JSON can't hold (−infinity) would come back as another.
    if (hasNonFinite(value)) return
    this.#known.set(key, value)
    this.#pending.push(`${JSON.stringify([key, value])}\n`)
    if (this.#pending.length >= LINES_PER_WRITE) this.#write()
  }

  async flush(): Promise<void> {
    this.#write()
    await this.#writing
  }

  #write(): void {
    if (this.#pending.length === 0) return
    const text = this.#pending.join('')
    this.#pending = []
    this.#writing = this.#writing.then(() => appendFile(this.#path, text))
    // Reported by the next flush; until then nobody waits for it.
    this.#writing.catch(() => null)
  }
}

function hasNonFinite(value: unknown): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).some((entry) => typeof entry === 'number' && !Number.isFinite(entry))
  )
}

/** Opens or begins the file. A line cut short by a kill is skipped. */
export async function openEvaluationCache(path: string): Promise<EvaluationCache> {
  await mkdir(dirname(path), { recursive: true })
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return ''
    throw error
  })
  const known = new Map<string, unknown>()
  for (const line of text.split('\n')) {
    if (line === '') continue
    try {
      const entry: unknown = JSON.parse(line)
      if (Array.isArray(entry) && typeof entry[0] === 'string') known.set(entry[0], entry[1])
    } catch {
      // The end of a line that was being written when the process died; its answer is asked for again.
    }
  }
  const cache = new FileCache(path, known)
  // What follows a torn line must not be glued to it.
  if (text !== '' && !text.endsWith('\n')) await appendFile(path, '\n')
  return cache
}
