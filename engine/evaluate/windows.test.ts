import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { gptqWindows, llamacppWindows, rollingWindows, windowsOf } from './windows.ts'

const P = 99
const ids = (n: number): Uint32Array => Uint32Array.from({ length: n }, (_, i) => i)
const rolling = (n: number, m: number): [number[], number[]][] =>
  [...rollingWindows(ids(n), m, P)].map(({ input, from }) => [[...input.subarray(0, -1)], [...input.subarray(from)]])

describe('rolling windows: golden vectors of specs/evaluation.md §1.2', () => {
  test.each<[number, number, [number[], number[]][]]>([
    [
      3,
      4,
      [
        [
          [P, 0, 1],
          [0, 1, 2],
        ],
      ],
    ],
    [
      5,
      4,
      [
        [
          [P, 0, 1, 2],
          [0, 1, 2, 3],
        ],
        [[0, 1, 2, 3], [4]],
      ],
    ],
    [
      10,
      4,
      [
        [
          [P, 0, 1, 2],
          [0, 1, 2, 3],
        ],
        [
          [3, 4, 5, 6],
          [4, 5, 6, 7],
        ],
        [
          [5, 6, 7, 8],
          [8, 9],
        ],
      ],
    ],
    [0, 4, []],
  ])('N = %i, M = %i', (n, m, expected) => {
    expect(rolling(n, m)).toEqual(expected)
  })

  test('every token is scored exactly once, with at most M tokens of input', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 2, max: 40 }), (n, m) => {
        const scored: number[] = []
        for (const { input, from, firstPosition } of rollingWindows(ids(n), m, P)) {
          expect(input.length - 1).toBeLessThanOrEqual(m)
          expect(from).toBeGreaterThanOrEqual(1)
          expect(input[from]).toBe(firstPosition)
          scored.push(...input.subarray(from))
        }
        expect(scored).toEqual([...ids(n)])
      }),
      { seed: 11 },
    )
  })
})

describe('block protocols', () => {
  test('gptq drops the tail and does not score the first token of a block', () => {
    expect([...gptqWindows(ids(10), 4)].map(({ input, from }) => [[...input], from])).toEqual([
      [[0, 1, 2, 3], 1],
      [[4, 5, 6, 7], 1],
    ])
  })

  test('llama.cpp replaces the first token by BOS and scores the second half', () => {
    expect([...llamacppWindows(ids(9), 4, P)].map(({ input, from }) => [[...input], from])).toEqual([
      [[P, 1, 2, 3], 2],
      [[P, 5, 6, 7], 2],
    ])
  })

  test('a text too short, a window too small and a missing prefix token are refused by name', () => {
    const options = { window: 8, bosToken: null, eosToken: null } as const
    const codes = [
      () => windowsOf(ids(5), { ...options, protocol: 'gptq' }),
      () => windowsOf(ids(15), { ...options, protocol: 'llamacpp' }),
      () => windowsOf(ids(5), { ...options, protocol: 'rolling' }),
      () => windowsOf(ids(5), { ...options, protocol: 'gptq', window: 1 }),
    ].map((attempt) => {
      try {
        attempt()
        return 'no error'
      } catch (error) {
        return error instanceof LatheError ? error.code : 'other'
      }
    })
    expect(codes).toEqual(['evaluate.invalid-data', 'evaluate.invalid-data', 'evaluate.invalid-data', 'request.invalid'])
  })
})
