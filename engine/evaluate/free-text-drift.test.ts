import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { firstDifference, freeTextDrift, MAX_EDIT_UNITS, normalizedEditDistance } from './free-text-drift.ts'

const units = (text: string): number[] => Array.from(text, (character) => character.codePointAt(0) ?? 0)
/** One token a word, its length as its id: lossy enough to tell tokens from characters. */
const words = (text: string): number[] => text.split(' ').map((word) => word.length)

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
    const drift = freeTextDrift('base', pairs, null)
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
    })
  })

  test('in tokens places and lengths are the tokenizer’s', () => {
    const drift = freeTextDrift('base', [{ baseline: 'it is a dog', candidate: 'it is the dog' }], words)
    expect(drift).toMatchObject({ unit: 'tokens', identical: 0, firstDifferenceMedian: 2, editDistanceMean: 1 / 4 })
  })

  test('long answers are cut for the edits only, and counted', () => {
    const long = 'x'.repeat(MAX_EDIT_UNITS)
    const drift = freeTextDrift('base', [{ baseline: `${long}a`, candidate: `${long}b` }], null)
    expect(drift).toMatchObject({ identical: 0, firstDifferenceMedian: MAX_EDIT_UNITS, editDistanceMean: 0, cutItems: 1 })
  })

  test('nothing to compare', () => {
    expect(freeTextDrift('base', [], null)).toBeNull()
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
          words,
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
