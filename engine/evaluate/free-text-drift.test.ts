import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { marginOf, pieceOf } from './answer-trace.ts'
import type { AnswerTrace } from './answer-trace.ts'
import { firstDifference, freeTextDrift, MAX_EDIT_UNITS, normalizedEditDistance } from './free-text-drift.ts'

const units = (text: string): number[] => Array.from(text, (character) => character.codePointAt(0) ?? 0)
/** One token a word, its length as its id: lossy enough to tell tokens from characters. */
const words = (text: string): number[] => text.split(' ').map((word) => word.length)
const SAME = { baseline: words, candidate: words }
const UNKNOWN = { baseline: null, candidate: null }

// What the baseline says at each token: its two most probable ones.
const trace = (pieces: string[], tops: [number, number][]): AnswerTrace => ({
  pieces,
  margins: tops.map(([first, second]) => marginOf([Math.log(second), Math.log(first)])),
})

describe('worked examples', () => {
  test.each([
    // kitten → sitting: two replaced, one added, of seven (the textbook's example).
    ['kitten', 'sitting', 0, 3 / 7],
    ['Saturday', 'Sunday', 1, 3 / 8],
    ['', 'abc', 0, 1],
    ['abc', 'abcd', 3, 1 / 4],
    ['abc', 'abc', 3, 0],
    ['', '', 0, 0],
  ])('%j and %j', (a, b, first, distance) => {
    expect(firstDifference(units(a), units(b))).toBe(first)
    expect(normalizedEditDistance(units(a), units(b))).toBeCloseTo(distance, 12)
  })

  test('four answers in characters: one of them the same', () => {
    const pairs = [
      { baseline: 'Paris', candidate: 'Paris' },
      { baseline: 'kitten', candidate: 'sitting' },
      { baseline: 'Saturday', candidate: 'Sunday' },
      { baseline: '😀a', candidate: '😀b' },
    ]
    // Differences at 0, 1, 1; distances 0, 3/7, 3/8, 1/2. Wilson for 1 of 4: 4.6 % to 69.9 %.
    const drift = freeTextDrift('base', pairs, UNKNOWN)
    expect(drift).toEqual({
      baselineId: 'base',
      n: 4,
      identical: 1,
      identicalShare: 0.25,
      identicalInterval: [expect.closeTo(0.0456, 4), expect.closeTo(0.6994, 4)],
      unit: 'characters',
      firstDifferenceMedian: 1,
      editDistanceMean: expect.closeTo((3 / 7 + 3 / 8 + 1 / 2) / 4, 12),
      editDistanceMedian: expect.closeTo((3 / 8 + 3 / 7) / 2, 12),
      cutItems: 0,
      divergenceMarginMedian: null,
      divergenceMarginItems: 0,
    })
  })

  test('in tokens places and lengths are the tokenizer’s', () => {
    const drift = freeTextDrift('base', [{ baseline: 'it is a dog', candidate: 'it is the dog' }], SAME)
    expect(drift).toMatchObject({ unit: 'tokens', identical: 0, firstDifferenceMedian: 2, editDistanceMean: 1 / 4 })
  })

  test('long answers are cut for the edits only, and counted', () => {
    const long = 'x'.repeat(MAX_EDIT_UNITS)
    const drift = freeTextDrift('base', [{ baseline: `${long}a`, candidate: `${long}b` }], UNKNOWN)
    expect(drift).toMatchObject({ identical: 0, firstDifferenceMedian: MAX_EDIT_UNITS, editDistanceMean: 0, cutItems: 1 })
  })

  test('the margin is the baseline’s where it chose another token: ln of 0.5/0.4, 0.6/0.2 and 0.9/0.05, of which the median', () => {
    const sure: [number, number] = [0.9, 0.01]
    const pairs = [
      // Parts at the third token, where the baseline nearly tied: ln(0.5 / 0.4) = 0.2231.
      {
        baseline: 'it is a dog',
        candidate: 'it is the dog',
        baselineTrace: trace(['it', ' is', ' a', ' dog'], [sure, sure, [0.5, 0.4], sure]),
        candidateTrace: trace(['it', ' is', ' the', ' dog'], [sure, sure, [0.6, 0.3], sure]),
      },
      // At the first: ln(0.9 / 0.05) = 2.8904.
      {
        baseline: 'no',
        candidate: 'yes',
        baselineTrace: trace(['no', '</s>'], [[0.9, 0.05], sure]),
        candidateTrace: trace(['yes', '</s>'], [[0.5, 0.4], sure]),
      },
      // The candidate ended by a token that its server does not show: ln(0.6 / 0.2) = 1.0986.
      {
        baseline: 'so it is',
        candidate: 'so',
        baselineTrace: trace(['so', ' it', ' is'], [sure, [0.6, 0.2], sure]),
        candidateTrace: trace(['so'], [sure]),
      },
      // The same text has no such place, whatever its tokens; an answer kept by a version that asked for no margins has one that is not known.
      {
        baseline: 'walks',
        candidate: 'walks',
        baselineTrace: trace(['walk', 's'], [sure, sure]),
        candidateTrace: trace(['walks'], [sure]),
      },
      { baseline: 'a b', candidate: 'a c', baselineTrace: null, candidateTrace: trace(['a', ' c'], [sure, sure]) },
    ]
    expect(freeTextDrift('base', pairs, SAME)).toMatchObject({
      n: 5,
      identical: 1,
      // 2, 0, 1 in generated tokens; "a b" and "a c" are alike in tokens of this tokenizer, which knows lengths only.
      firstDifferenceMedian: 1.5,
      divergenceMarginMedian: 1.0986,
      divergenceMarginItems: 3,
    })
  })

  test('of two tokenizers, a token that begins the other may be the same text; of one, it is another choice', () => {
    const margins = [0.5, 0.25]
    const pair = {
      baseline: 'walked',
      candidate: 'walks',
      baselineTrace: { pieces: ['walk', 'ed'], margins },
      candidateTrace: { pieces: ['walks'], margins: [1] },
    }
    expect(freeTextDrift('base', [pair], SAME)).toMatchObject({ firstDifferenceMedian: 0, divergenceMarginMedian: 0.5 })
    for (const encoders of [UNKNOWN, { baseline: words, candidate: units }])
      expect(freeTextDrift('base', [pair], encoders)).toMatchObject({ divergenceMarginMedian: null, divergenceMarginItems: 0 })
    // What is no beginning of the other is another text in any tokens.
    const other = { ...pair, candidateTrace: { pieces: ['walk', 's'], margins: [1, 1] } }
    expect(freeTextDrift('base', [other], UNKNOWN)).toMatchObject({
      unit: 'characters',
      firstDifferenceMedian: 4,
      divergenceMarginMedian: 0.25,
    })
  })

  test('parts of characters are told apart', () => {
    expect(pieceOf(Uint8Array.of(0xf0, 0x9f))).not.toBe(pieceOf(Uint8Array.of(0xf0, 0x98)))
    expect(pieceOf(Buffer.from('né'))).toBe('né')
    expect(marginOf([-1])).toBeNull()
    expect(marginOf([-Infinity, -1])).toBeNull()
  })

  test('nothing to compare', () => {
    expect(freeTextDrift('base', [], UNKNOWN)).toBeNull()
  })
})

describe('properties', () => {
  const RUNS = { numRuns: 200, seed: 20 }
  const list = fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 24 })

  test('a model does not drift from itself', () => {
    fc.assert(
      fc.property(fc.array(fc.string(), { minLength: 1, maxLength: 8 }), (texts) => {
        const drift = freeTextDrift(
          'base',
          texts.map((text) => ({ baseline: text, candidate: text })),
          SAME,
        )
        expect(drift).toMatchObject({ identicalShare: 1, firstDifferenceMedian: null, editDistanceMean: 0, editDistanceMedian: 0 })
      }),
      RUNS,
    )
  })

  test('the distance is symmetric, within 0…1, 0 only for the same, and no larger than what follows the common beginning', () => {
    fc.assert(
      fc.property(list, list, (a, b) => {
        const distance = normalizedEditDistance(a, b)
        expect(distance).toBe(normalizedEditDistance(b, a))
        expect(distance === 0).toBe(JSON.stringify(a) === JSON.stringify(b))
        const longer = Math.max(a.length, b.length)
        expect(distance * longer).toBeLessThanOrEqual(longer - firstDifference(a, b) + 1e-9)
        expect(distance * longer).toBeGreaterThanOrEqual(Math.abs(a.length - b.length) - 1e-9)
      }),
      RUNS,
    )
  })
})
