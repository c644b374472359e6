import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { createStopMatcher } from './stop-strings.ts'

const SEED = 20_261_123

/** The rule itself, character by character over the whole text. */
function byDefinition(text: string, stops: readonly string[]): { text: string; stop: string | null } {
  for (let end = 1; end <= text.length; end++) {
    const ending = stops.filter((stop) => text.slice(0, end).endsWith(stop)).sort((a, b) => b.length - a.length)
    const stop = ending[0]
    if (stop !== undefined) return { text: text.slice(0, end - stop.length), stop }
  }
  return { text, stop: null }
}

function run(pieces: readonly string[], stops: readonly string[]): { text: string; stop: string | null; shown: string[] } {
  const matcher = createStopMatcher(stops)
  const shown: string[] = []
  for (const piece of pieces) {
    const result = matcher.push(piece)
    shown.push(result.text)
    if (result.stop !== null) return { text: shown.join(''), stop: result.stop, shown }
  }
  shown.push(matcher.flush())
  return { text: shown.join(''), stop: null, shown }
}

describe('createStopMatcher', () => {
  it('withholds only what may still become a stop string', () => {
    expect(run(['Hello\n', '\n', 'Use', 'ful'], ['\n\nUser:']).shown).toEqual(['Hello', '', '', '\n\nUseful', ''])
    expect(run(['Hello\n', '\nUs', 'er', ': hi'], ['\n\nUser:'])).toEqual({
      text: 'Hello',
      stop: '\n\nUser:',
      shown: ['Hello', '', '', ''],
    })
  })

  it('starts mid-piece and spans pieces', () => {
    expect(run(['abcEN', 'D', 'xyz'], ['END'])).toMatchObject({ text: 'abc', stop: 'END' })
    expect(run(['one STOP two'], ['STOP'])).toMatchObject({ text: 'one ', stop: 'STOP' })
  })

  it('lets the one that finishes first win, then the one that started first', () => {
    expect(run(['a long stop'], ['long stop', 'ng'])).toMatchObject({ text: 'a lo', stop: 'ng' })
    expect(run(['xabc'], ['c', 'abc', 'bc'])).toMatchObject({ text: 'x', stop: 'abc' })
  })

  it('flushes what was withheld when the stream ends', () => {
    expect(run(['almost EN'], ['END'])).toMatchObject({ text: 'almost EN', stop: null })
  })

  it('restarts inside a failed match', () => {
    expect(run(['aa', 'aab'], ['aab'])).toMatchObject({ text: 'aa', stop: 'aab' })
  })

  it('never cuts a surrogate pair', () => {
    const { shown } = run(['😀', '😁', 'x'], ['😁y', '😀z'])
    expect(shown.every((piece) => piece.isWellFormed())).toBe(true)
    expect(() => createStopMatcher(['\ude00'])).toThrow(LatheError)
    expect(() => createStopMatcher([''])).toThrow(LatheError)
  })

  it('equals the definition for any text, cut anywhere, and shows as early as possible', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '😀'), maxLength: 30 })
    const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c', '😀'), minLength: 1, maxLength: 5 }), { maxLength: 4 })
    fc.assert(
      fc.property(fc.array(text, { maxLength: 8 }), stops, (pieces, list) => {
        const { text: shown, stop, shown: parts } = run(pieces, list)
        expect({ text: shown, stop }).toEqual(byDefinition(pieces.join(''), list))
        // Whatever is withheld after each piece is a proper prefix of some stop string, and the longest such.
        const matcher = createStopMatcher(list)
        let given = ''
        let out = ''
        for (const piece of pieces.slice(0, parts.length - 1)) {
          given += piece
          out += matcher.push(piece).text
          const held = given.slice(out.length)
          expect(held === '' || list.some((candidate) => candidate.startsWith(held) && candidate !== held)).toBe(true)
        }
      }),
      { seed: SEED, numRuns: 3000 },
    )
  })
})
