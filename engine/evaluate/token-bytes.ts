/**
 * How many bytes of a text each of its tokens stands for, found by laying the tokens along the text. Tokenizers tell a token's own bytes, which are
 * not always the text's: some put a space before a text, and a character that is in no vocabulary becomes a token that says only that.
 */
import type { TextCodec } from './text-codec.ts'

const SPACE = 0x20

/** [tokens], in all the bytes of the text; null where the tokens can't be found in it (a tokenizer that changes case or form, or tells no bytes). */
export function bytesByToken(codec: Pick<TextCodec, 'tokenBytes'>, text: string, tokens: Uint32Array): Uint32Array | null {
  if (codec.tokenBytes === undefined) return null
  const own = Array.from(tokens, (id) => codec.tokenBytes?.(id) ?? new Uint8Array())
  const whole = Buffer.from(text)
  const bytes = new Uint32Array(tokens.length)
  let at = 0
  for (const [i, piece] of own.entries()) {
    const length = matchAt(whole, at, piece)
    // Not here: it stands for everything up to where the next token is. That one begins with a character of the vocabulary, which this one has none of.
    bytes[i] = length ?? (nextMatch(whole, at, own.slice(i + 1, i + 1 + LOOK_AHEAD)) ?? whole.length) - at
    at += bytes[i] ?? 0
  }
  return at === whole.length ? bytes : null
}

/** Tokens that are tried as the end of one that is not found: the first may be such a one, too. */
const LOOK_AHEAD = 8

/** Bytes of the piece at that place of the text; a space in front that the text does not have is not counted. */
function matchAt(whole: Buffer, at: number, piece: Uint8Array): number | null {
  const { length } = piece
  if (length > 0 && whole.compare(piece, 0, length, at, Math.min(whole.length, at + length)) === 0) return length
  if (length < 1 || piece[0] !== SPACE) return null
  const rest = piece.subarray(1)
  return whole.compare(rest, 0, rest.length, at, Math.min(whole.length, at + rest.length)) === 0 ? rest.length : null
}

function nextMatch(whole: Buffer, at: number, following: readonly Uint8Array[]): number | null {
  for (const piece of following) {
    const found = piece.length === 0 ? -1 : whole.indexOf(piece, at)
    if (found >= 0) return found
  }
  return null
}
