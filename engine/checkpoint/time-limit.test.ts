import { describe, expect, it } from 'vitest'
import { withTimeLimit } from './time-limit.ts'

const timedOut = (): Error => new Error('too slow')

describe('withTimeLimit', () => {
  it('returns the result, undefined included, and passes errors through', () => {
    expect(withTimeLimit(1000, () => 7, timedOut)).toBe(7)
    expect(withTimeLimit(1000, () => undefined, timedOut)).toBeUndefined()
    const error = new TypeError('its own')
    expect(() =>
      withTimeLimit(
        1000,
        () => {
          throw error
        },
        timedOut,
      ),
    ).toThrow(error)
  })

  it('stops endless loops and endless regular expressions, also behind a catch', () => {
    const runaways: (() => unknown)[] = [
      () => {
        for (;;);
      },
      () => /^(a+)+$/.test(`${'a'.repeat(60)}!`),
      () => {
        try {
          for (;;);
        } catch {
          return 'caught'
        }
      },
    ]
    for (const run of runaways) expect(() => withTimeLimit(20, run, timedOut)).toThrow('too slow')
    expect(withTimeLimit(1000, () => 'still works', timedOut)).toBe('still works')
  })

  it('nests', () => {
    const inner = (): number => withTimeLimit(1000, () => 1, timedOut)
    expect(withTimeLimit(1000, () => inner() + inner(), timedOut)).toBe(2)
  })
})
