import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { wordDiff, type DiffPiece } from './word-diff.ts'

function side(pieces: readonly DiffPiece[], without: 'left' | 'right'): string {
  return pieces
    .filter((piece) => piece.kind !== without)
    .map((piece) => piece.text)
    .join('')
}

function long(word: string): string {
  return Array.from({ length: 3000 }, (_, index) => `${word}${index}`).join(' ')
}

describe('word diff', () => {
  test('equal texts do not part', () => {
    expect(wordDiff('the same', 'the same')).toEqual({ pieces: [{ kind: 'same', text: 'the same' }], sharedWords: null })
    expect(wordDiff('', '')).toEqual({ pieces: [], sharedWords: null })
  })

  test('a changed word, and how many words both begin with', () => {
    expect(wordDiff('Gus keeps a hen.', 'Gus keeps a goat.')).toEqual({
      pieces: [
        { kind: 'same', text: 'Gus keeps a ' },
        { kind: 'left', text: 'hen' },
        { kind: 'right', text: 'goat' },
        { kind: 'same', text: '.' },
      ],
      sharedWords: 3,
    })
  })

  test('insertions, removals and other scripts', () => {
    expect(wordDiff('a b c', 'a c').pieces.filter((piece) => piece.kind === 'left')).toEqual([{ kind: 'left', text: 'b ' }])
    expect(wordDiff('größer', 'größter').pieces.map((piece) => piece.kind)).toEqual(['left', 'right'])
    expect(wordDiff('', 'new').pieces).toEqual([{ kind: 'right', text: 'new' }])
  })

  test('each side can be read back from the pieces', () => {
    const text = fc.array(fc.constantFrom('a', 'b', 'c ', ' ', '. ', 'ab ', 'é', '𝒳'), { maxLength: 30 }).map((parts) => parts.join(''))
    fc.assert(
      fc.property(text, text, (left, right) => {
        const { pieces } = wordDiff(left, right)
        expect([side(pieces, 'right'), side(pieces, 'left')]).toEqual([left, right])
      }),
      { seed: 7 },
    )
  })

  test('texts too long for a table are replaced whole, not waited for', () => {
    expect(wordDiff(`x ${long('a')}`, `x ${long('b')}`).pieces.map((piece) => piece.kind)).toEqual(['same', 'left', 'right'])
  })
})
