import fc from 'fast-check'
import { expect, test } from 'vitest'
import { bytesByToken } from './token-bytes.ts'

const SEED = 21

/** The pieces of a text as they come. */
function laid(text: string, pieces: readonly (string | readonly number[])[]): number[] | null {
  const codec = {
    encode: () => new Uint32Array(),
    tokenBytes: (id: number) => Uint8Array.from(typeof pieces[id] === 'string' ? Buffer.from(pieces[id]) : (pieces[id] ?? [])),
    bosTokenId: null,
    eosTokenId: null,
  }
  const bytes = bytesByToken(
    codec,
    text,
    Uint32Array.from(pieces, (_, i) => i),
  )
  return bytes === null ? null : [...bytes]
}

test('pieces of a text, a space before it that it does not have, letters of several tokens', () => {
  expect(laid('Once upon', [' Once', ' upon'])).toEqual([4, 5])
  expect(laid(' Once', [' Once'])).toEqual([5])
  expect(laid('é!', [[0xc3], [0xa9], '!'])).toEqual([1, 1, 1])
})

test('what is in no vocabulary gets the bytes up to the next token that is', () => {
  expect(laid('“Hi”, she', ['<unk>', 'Hi', '<unk>', ',', ' she'])).toEqual([3, 2, 3, 1, 4])
  expect(laid('a→→', ['a', '<unk>'])).toEqual([1, 6])
})

test('a text that is left over, and a tokenizer that tells no bytes, have none', () => {
  expect(laid('hello there', ['hello'])).toBeNull()
  expect(bytesByToken({}, 'x', Uint32Array.of(0))).toBeNull()
})

test(`any cutting of any text adds up to it (seed ${SEED})`, () => {
  fc.assert(
    fc.property(fc.array(fc.string({ minLength: 1, unit: 'grapheme' }), { minLength: 1 }), (pieces) => {
      expect(laid(pieces.join(''), pieces)).toEqual(pieces.map((piece) => Buffer.byteLength(piece)))
    }),
    { seed: SEED, numRuns: 200 },
  )
})
