/**
 * The true bytes of every token, from the `decoder` of tokenizer.json: byte-level alphabets (GPT-2 and later), byte-fallback tokens
 * (`<0x0A>`), and sentencepiece's "▁" for a space. Text is the UTF-8 decoding of the concatenated bytes, so a character may span tokens.
 * Follows huggingface/tokenizers' decoders (0.23) with two deliberate differences that only show for bytes that are not valid UTF-8: an
 * incomplete run of byte tokens becomes U+FFFD as UTF-8 decoders do it (theirs: one per byte, and the whole run), and the text of added
 * tokens is never reinterpreted. Knows no vocabulary and no streams.
 */
import { LatheError } from '../contract/errors.ts'
import { isJsonObject } from '../checkpoint/strict-json.ts'

export interface TokenByteRules {
  readonly kind: 'byte-level' | 'byte-fallback' | 'plain'
  /** Spaces taken off the front of a whole text (sentencepiece puts one there when encoding). */
  readonly stripLeadingSpaces: number
  /** Bytes of a vocabulary token (not an added one). */
  bytesOf(token: string): Uint8Array
}

type Step =
  | { readonly type: 'replace'; readonly from: string; readonly to: string }
  | { readonly type: 'byte-fallback' }
  | { readonly type: 'byte-level' }
  | { readonly type: 'fuse' }
  | { readonly type: 'strip'; readonly content: string; readonly start: number; readonly stop: number }
  | { readonly type: 'strip-first'; readonly count: number }

const encoder = new TextEncoder()

/** Throws `tokenizer.invalid` for decoders that text cannot be streamed from (WordPiece, CTC, none). */
export function tokenByteRules(decoder: unknown): TokenByteRules {
  const steps = stepsOf(decoder, 0)
  const fuse = steps.findIndex((step) => step.type === 'fuse')
  const perToken = fuse < 0 ? steps : steps.slice(0, fuse)
  let stripLeadingSpaces = 0
  for (const [i, step] of steps.entries()) {
    if (step.type === 'strip-first') stripLeadingSpaces += step.count
    if (step.type === 'strip' && fuse >= 0 && i > fuse) {
      // What is stripped from the end would have to be held back until the end is known.
      if (step.stop > 0 || step.content !== ' ') throw unsupported('a Strip decoder other than of leading spaces')
      stripLeadingSpaces += step.start
    }
    if (fuse >= 0 && i > fuse && step.type !== 'strip' && step.type !== 'fuse')
      throw unsupported(`the decoder step ${step.type} after Fuse`)
  }
  const byteLevel = perToken.some((step) => step.type === 'byte-level')
  const byteFallback = perToken.some((step) => step.type === 'byte-fallback')
  return {
    kind: byteLevel ? 'byte-level' : byteFallback ? 'byte-fallback' : 'plain',
    stripLeadingSpaces,
    bytesOf: (token) => applySteps(perToken, token),
  }
}

function applySteps(steps: readonly Step[], token: string): Uint8Array {
  let text = token
  for (const step of steps) {
    switch (step.type) {
      case 'replace':
        text = text.replaceAll(step.from, step.to)
        break
      case 'byte-fallback': {
        const byte = fallbackByte(text)
        if (byte !== null) return Uint8Array.of(byte)
        break
      }
      case 'byte-level':
        return byteLevelBytes(text)
      case 'strip':
        text = strip(text, step.content, step.start, step.stop)
        break
      case 'fuse':
      case 'strip-first':
        break
    }
  }
  return encoder.encode(text)
}

function strip(text: string, content: string, start: number, stop: number): string {
  let from = 0
  while (from < start && text[from] === content) from++
  let to = text.length
  while (text.length - to < stop && to > from && text[to - 1] === content) to--
  return text.slice(from, to)
}

/** 0–255 for `<0x00>`…`<0xFF>`, else null. */
export function fallbackByte(token: string): number | null {
  const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)
  return match?.[1] === undefined ? null : Number.parseInt(match[1], 16)
}

/**
 * GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the 68 others for U+0100 onwards in byte order.
 * Index is the character's code, value the byte, −1 for characters outside the alphabet.
 */
const BYTE_OF_CHARACTER: Int16Array = (() => {
  const table = new Int16Array(0x100 + 68).fill(-1)
  let next = 0x100
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
    table[printable ? byte : next++] = byte
  }
  return table
})()

function byteLevelBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length)
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF_CHARACTER[token.charCodeAt(i)] ?? -1
    // A token with any character outside the alphabet was not made by it: it is plain text.
    if (byte < 0) return encoder.encode(token)
    bytes[i] = byte
  }
  return bytes
}

/** Decoders nest in sequences; real ones are two deep. */
const MAX_NESTING = 8

function stepsOf(decoder: unknown, depth: number): readonly Step[] {
  if (decoder === null || decoder === undefined) throw unsupported('no decoder')
  if (!isJsonObject(decoder) || depth > MAX_NESTING) throw invalid('decoder is not understood')
  switch (decoder['type']) {
    case 'Sequence': {
      const inner = decoder['decoders']
      if (!Array.isArray(inner)) throw invalid('decoder sequence has no list')
      return (inner as unknown[]).flatMap((step) => stepsOf(step, depth + 1))
    }
    case 'ByteLevel':
      return [{ type: 'byte-level' }]
    case 'ByteFallback':
      return [{ type: 'byte-fallback' }]
    case 'Fuse':
      return [{ type: 'fuse' }]
    case 'Replace': {
      const pattern = decoder['pattern']
      const from = isJsonObject(pattern) ? pattern['String'] : null
      const to = decoder['content']
      if (typeof from !== 'string' || from === '' || typeof to !== 'string') throw unsupported('a Replace decoder with a pattern')
      return [{ type: 'replace', from, to }]
    }
    case 'Strip': {
      const { content = ' ', start = 0, stop = 0 } = decoder
      if (typeof content !== 'string' || !isSmallCount(start) || !isSmallCount(stop)) throw invalid('Strip decoder is not understood')
      return [{ type: 'strip', content, start, stop }]
    }
    case 'Metaspace': {
      const { replacement = '▁', prepend_scheme: scheme, add_prefix_space: prefix } = decoder
      if (typeof replacement !== 'string' || replacement === '') throw invalid('Metaspace decoder is not understood')
      const strips = typeof scheme === 'string' ? scheme !== 'never' : prefix !== false
      const replace: Step = { type: 'replace', from: replacement, to: ' ' }
      return strips ? [replace, { type: 'strip-first', count: 1 }] : [replace]
    }
    default:
      throw unsupported(`the decoder ${JSON.stringify(decoder['type'])?.slice(0, 40)}`)
  }
}

function isSmallCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 16
}

function unsupported(what: string): LatheError {
  return new LatheError(
    'tokenizer.invalid',
    `tokenizer.json has ${what}, which Lathe cannot turn back into text.`,
    'Lathe runs decoder models with byte-level or sentencepiece tokenizers; this is of another kind.',
  )
}

function invalid(why: string): LatheError {
  return new LatheError('tokenizer.invalid', `tokenizer.json: ${why}.`, 'The file is damaged. Download it again.')
}
