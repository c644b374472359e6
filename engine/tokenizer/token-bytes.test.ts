import { describe, expect, it } from 'vitest'
import { fallbackByte, tokenByteRules } from './token-bytes.ts'

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString()

describe('tokenByteRules', () => {
  it('inverts the byte-level alphabet of GPT-2', () => {
    const rules = tokenByteRules({ type: 'ByteLevel' })
    expect(rules).toMatchObject({ kind: 'byte-level', stripLeadingSpaces: 0 })
    expect(text(rules.bytesOf('Ġhello'))).toBe(' hello')
    expect(text(rules.bytesOf('Ċ'))).toBe('\n')
    expect(text(rules.bytesOf('Ã©'))).toBe('é')
    // openai/gpt-2 encoder.py, bytes_to_unicode: the first and last shifted bytes, and the two that stand between printable ranges.
    expect(['Ā', 'Ġ', 'ġ', 'Ń', 'ÿ', '~', '!'].map((token) => rules.bytesOf(token)[0])).toEqual([0, 32, 127, 173, 255, 126, 33])
    // Not of the alphabet at all: plain text.
    expect(text(rules.bytesOf('世界'))).toBe('世界')
  })

  it('gives every byte exactly one character', () => {
    const rules = tokenByteRules({ type: 'ByteLevel' })
    const characters = Array.from({ length: 0x144 }, (_, code) => String.fromCharCode(code))
    const bytes = characters
      .map((character) => rules.bytesOf(character))
      .filter((found, code) => found.length === 1 && (code > 0x20 || found[0] !== code))
    expect(new Set(bytes.map((found) => found[0])).size).toBe(256)
  })

  it('understands sentencepiece in both spellings', () => {
    const replace = { type: 'Replace', pattern: { String: '▁' }, content: ' ' }
    const llama = tokenByteRules({
      type: 'Sequence',
      decoders: [replace, { type: 'ByteFallback' }, { type: 'Fuse' }, { type: 'Strip', content: ' ', start: 1, stop: 0 }],
    })
    expect(llama).toMatchObject({ kind: 'byte-fallback', stripLeadingSpaces: 1 })
    expect([text(llama.bytesOf('▁a▁b')), [...llama.bytesOf('<0xE2>')], text(llama.bytesOf('<0xZZ>'))]).toEqual([' a b', [0xe2], '<0xZZ>'])
    const metaspace = tokenByteRules({ type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' })
    expect(metaspace).toMatchObject({ kind: 'plain', stripLeadingSpaces: 1 })
    expect(text(metaspace.bytesOf('▁a'))).toBe(' a')
    expect(tokenByteRules({ type: 'Metaspace', prepend_scheme: 'never' }).stripLeadingSpaces).toBe(0)
    expect(tokenByteRules({ type: 'Metaspace', add_prefix_space: false }).stripLeadingSpaces).toBe(0)
    // Gemma: no Strip.
    expect(tokenByteRules({ type: 'Sequence', decoders: [replace, { type: 'ByteFallback' }, { type: 'Fuse' }] }).stripLeadingSpaces).toBe(0)
  })

  it('reads byte tokens strictly', () => {
    expect(['<0x00>', '<0xff>', '<0xFF>', '<0x1>', 'x<0x00>', '<0x000>'].map(fallbackByte)).toEqual([0, 255, 255, null, null, null])
  })
})
