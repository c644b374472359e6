import { expect, test } from 'vitest'
import { formatBytes, formatCount, formatSignificant } from './format.ts'

test('numbers keep three digits and are never written in powers of ten', () => {
  expect([9.314, 64.4, 1476, 999.7, 123_456, 0.0191].map(formatSignificant)).toEqual([
    '9.31',
    '64.4',
    '1,480',
    '1,000',
    '123,000',
    '0.0191',
  ])
  expect([formatBytes(999_700), formatBytes(9_310_000), formatBytes(12)]).toEqual(['1,000 kB', '9.31 MB', '12 B'])
  expect(formatCount(999_600_000)).toBe('1,000 M')
})
