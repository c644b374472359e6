/**
 * JSON from an untrusted file. `JSON.parse` silently keeps the last of two equal keys and accepts any depth; a model file that relies on
 * either is broken or hostile, so a scan before it refuses both, and the key `__proto__`. Knows nothing of what the JSON means.
 */
import type { ErrorCode } from '../contract/errors.ts'
import { LatheError } from '../contract/errors.ts'

/** Real configs nest 5 deep (quantization_config.config_groups.group_0.weights.observer_kwargs). */
const MAX_DEPTH = 64

export interface JsonSource {
  /** How the file is called in messages. */
  readonly what: string
  /** Code of the error thrown when it is not valid. */
  readonly code: ErrorCode
  readonly maxDepth?: number
}

/** Throws `source.code` for invalid UTF-8 or JSON, duplicate keys, excessive nesting. A byte-order mark is not JSON either. */
export function parseStrictJson(bytes: Uint8Array, source: JsonSource): unknown {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw invalid(source, 'is not valid UTF-8', cause)
  }
  return parseStrictJsonText(text, source)
}

export function parseStrictJsonText(text: string, source: JsonSource): unknown {
  scan(text, source)
  try {
    return JSON.parse(text) as unknown
  } catch (cause) {
    throw invalid(source, `is not valid JSON: ${cause instanceof Error ? shorten(cause.message) : 'unreadable'}`, cause)
  }
}

export function isJsonObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function invalid(source: JsonSource, why: string, cause?: unknown): LatheError {
  const hint = 'The file is damaged or was not made for this. Download it again.'
  return new LatheError(source.code, `${source.what} ${why}.`, hint, cause === undefined ? {} : { cause })
}

// V8 quotes the offending source in its message; a hostile file must not fill the screen with it.
function shorten(message: string): string {
  return message.length <= 160 ? message : `${message.slice(0, 157)}…`
}

// One linear pass over possibly invalid JSON: it only has to see every key and bracket that valid JSON would have.
function scan(text: string, source: JsonSource): void {
  const maxDepth = source.maxDepth ?? MAX_DEPTH
  // Keys seen in each open object; null for an open array.
  const open: (Set<string> | null)[] = []
  let expectKey = false
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case 0x22: {
        const end = stringEnd(text, i)
        const keys = open.at(-1)
        if (expectKey && keys !== null && keys !== undefined) {
          const key = keyText(text.slice(i, end + 1), source)
          if (key === '__proto__') throw invalid(source, 'has a key named "__proto__"')
          if (keys.has(key)) throw invalid(source, `has the key ${JSON.stringify(shorten(key))} twice in one object`)
          keys.add(key)
          expectKey = false
        }
        i = end
        break
      }
      case 0x7b:
      case 0x5b: {
        const isObject = text.charCodeAt(i) === 0x7b
        if (open.length >= maxDepth) throw invalid(source, `nests deeper than ${maxDepth} levels`)
        open.push(isObject ? new Set() : null)
        expectKey = isObject
        break
      }
      case 0x7d:
      case 0x5d:
        open.pop()
        expectKey = false
        break
      case 0x2c:
        expectKey = open.at(-1) instanceof Set
        break
      default:
    }
  }
}

/** Index of the closing quote of the string that opens at `start`, or the text's end. */
function stringEnd(text: string, start: number): number {
  let from = start + 1
  for (;;) {
    const quote = text.indexOf('"', from)
    if (quote < 0) return text.length
    let backslashes = 0
    while (text.charCodeAt(quote - 1 - backslashes) === 0x5c) backslashes++
    if (backslashes % 2 === 0) return quote
    from = quote + 1
  }
}

function keyText(quoted: string, source: JsonSource): string {
  if (!quoted.includes('\\')) return quoted.slice(1, -1)
  try {
    return String(JSON.parse(quoted))
  } catch (cause) {
    throw invalid(source, 'has a malformed key', cause)
  }
}
