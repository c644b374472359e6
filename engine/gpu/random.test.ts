import { assert, integer, property } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { gumbelNoise, threefry2x32, unitInterval } from './random.ts'

describe('threefry2x32', () => {
  // Known answers of the authors' own library: Random123, tests/kat_vectors, lines "threefry2x32 20".
  test.each([
    [
      [0, 0],
      [0, 0],
      [0x6b200159, 0x99ba4efe],
    ],
    [
      [0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x1cb996fc, 0xbb002be7],
    ],
    [
      [0x13198a2e, 0x03707344],
      [0x243f6a88, 0x85a308d3],
      [0xc4923a9c, 0x483df7a0],
    ],
  ] as const)('key %j, counter %j', (key, counter, expected) => {
    expect(threefry2x32(key[0], key[1], counter[0], counter[1])).toEqual(expected)
  })
})

describe('unitInterval', () => {
  test('ends of the range', () => {
    expect([0, 1, 0xff, 0x80000000, 0xffffff00, 0xffffffff].map(unitInterval)).toEqual([
      2 ** -33,
      2 ** -32,
      0xff * 2 ** -32,
      0.5,
      1 - 2 ** -24,
      1 - 2 ** -24,
    ])
  })

  test('is exact in f32, inside (0, 1), and within one part in 2²³ of the word', () => {
    assert(
      property(integer({ min: 1, max: 0xffffffff }), (word) => {
        const v = unitInterval(word)
        expect(Math.fround(v)).toBe(v)
        expect(v > 0 && v < 1).toBe(true)
        expect(Math.abs(v / (word * 2 ** -32) - 1)).toBeLessThan(2 ** -23)
      }),
      { seed: 20_261_123 },
    )
  })
})

describe('gumbelNoise', () => {
  test('has the mean and variance of the standard Gumbel distribution', () => {
    const count = 200_000
    let sum = 0
    let squares = 0
    for (let i = 0; i < count; i++) {
      const g = gumbelNoise(7, 0, Math.floor(i / 1000), i % 1000)
      sum += g
      squares += g * g
    }
    const mean = sum / count
    // Euler's constant and π²/6; the standard error of the mean is √(1.645 / 200000) = 0.0029, of the variance about 0.0085.
    expect(Math.abs(mean - 0.577_215_664_9)).toBeLessThan(4 * 0.0029)
    expect(Math.abs(squares / count - mean * mean - Math.PI ** 2 / 6)).toBeLessThan(4 * 0.0085)
  })

  test('any of the four words changes the noise', () => {
    const base = gumbelNoise(1, 2, 3, 4)
    expect(new Set([base, gumbelNoise(2, 2, 3, 4), gumbelNoise(1, 3, 3, 4), gumbelNoise(1, 2, 4, 4), gumbelNoise(1, 2, 3, 5)]).size).toBe(5)
  })
})
