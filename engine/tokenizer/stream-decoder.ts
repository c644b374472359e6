/**
 * Tokens in, text out, as they are generated: bytes are gathered and the longest valid UTF-8 prefix is emitted, so a character that spans
 * tokens appears when its last byte does, never half of it (specs/runtime.md §8). At most three bytes are ever held; what turns out not to
 * be UTF-8 becomes U+FFFD at once. The concatenation of everything emitted equals decoding all tokens at once.
 */

export interface StreamDecoder {
  /** Text that these tokens complete; often empty, never half a character or half a surrogate pair. */
  push(ids: Iterable<number>): string
  /** What is still held, as U+FFFD; call once at the end. */
  flush(): string
}

/** What the decoder needs of a tokenizer. */
export interface TokenBytesSource {
  tokenBytes(id: number): Uint8Array
  isSpecial(id: number): boolean
  readonly stripLeadingSpaces: number
}

export interface StreamDecoderOptions {
  /** Special tokens produce no text. */
  readonly skipSpecialTokens: boolean
  /** Last tokens before the stream starts (a few are enough): the stream continues their text, so their leading space stays. */
  readonly promptTail?: Iterable<number>
}

const SPACE = 0x20

export function createStreamDecoder(source: TokenBytesSource, options: StreamDecoderOptions): StreamDecoder {
  const utf8 = new TextDecoder('utf-8', { fatal: false, ignoreBOM: true })
  // Leading spaces still to be dropped; none once any byte has passed.
  let toStrip = source.stripLeadingSpaces
  const push = (ids: Iterable<number>): string => {
    let text = ''
    for (const id of ids) {
      if (options.skipSpecialTokens && source.isSpecial(id)) continue
      let bytes = source.tokenBytes(id)
      if (bytes.length === 0) continue
      let from = 0
      while (toStrip > 0 && from < bytes.length && bytes[from] === SPACE) {
        from++
        toStrip--
      }
      if (from < bytes.length) toStrip = 0
      if (from > 0) bytes = bytes.subarray(from)
      text += utf8.decode(bytes, { stream: true })
    }
    return text
  }
  if (options.promptTail !== undefined) push(options.promptTail)
  return { push, flush: () => utf8.decode() }
}
