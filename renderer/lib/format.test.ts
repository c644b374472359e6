import { describe, expect, test } from 'vitest'
import {
  formatBytes,
  formatClock,
  formatCount,
  formatDelta,
  formatDuration,
  formatEta,
  formatPercent,
  formatRate,
  formatRelativeTime,
  formatSignificant,
  plural,
} from './format.ts'

describe('numbers', () => {
  test('three significant digits, grouped integers above a thousand', () => {
    expect(
      [0, 0.00001234, 0.01234, 1, 12.345, 123.45, 999.4, 999.6, 12_345.6, -7.15159, Number.NaN].map((value) => formatSignificant(value)),
    ).toEqual(['0', '1.2e−5', '0.0123', '1.00', '12.3', '123', '999', '1,000', '12,346', '−7.15', '—'])
  })

  test('disks are decimal, memory is binary, and rounding never shows 1,000 of a unit', () => {
    expect([0, 999, 1000, 9_440_000, 999_700, 4_810_000_000].map((bytes) => formatBytes(bytes))).toEqual([
      '0 B',
      '999 B',
      '1.00 kB',
      '9.44 MB',
      '1.00 MB',
      '4.81 GB',
    ])
    expect([1023, 1024, 6 * 1024 ** 3].map((bytes) => formatBytes(bytes, 'memory'))).toEqual(['1,023 B', '1.00 KiB', '6.00 GiB'])
  })

  test('counts, rates, percent, deltas', () => {
    expect([42, 4_720_000, 1_240_000_000, 999_950].map(formatCount)).toEqual(['42', '4.72 M', '1.24 B', '1.00 M'])
    expect(formatRate(41.234, 'tok/s')).toBe('41.2 tok/s')
    expect(formatRate(512_000_000, 'bytes/s')).toBe('512 MB/s')
    expect(formatPercent(0.97341)).toBe('97.3 %')
    expect([formatDelta(0.5), formatDelta(-0.5), formatDelta(0), formatDelta(-0.021, (value) => formatPercent(value))]).toEqual([
      '+0.500',
      '−0.500',
      '±0',
      '−2.1 %',
    ])
    expect([plural(1, 'tensor'), plural(3, 'tensor'), plural(2, 'entry', 'entries')]).toEqual(['1 tensor', '3 tensors', '2 entries'])
  })

  test('durations and honest estimates', () => {
    expect([0.84, 0.9999, 3.21, 12.4, 59.97, 185, 8040].map(formatDuration)).toEqual([
      '840 ms',
      '1.0 s',
      '3.2 s',
      '12 s',
      '1 min 00 s',
      '3 min 05 s',
      '2 h 14 min',
    ])
    expect([3, 31, 80, 250, 3600, 9000].map(formatEta)).toEqual([
      'a few seconds left',
      'about 40 s left',
      'about a minute left',
      'about 4 min left',
      'about an hour left',
      'about 2.5 h left',
    ])
  })

  test('relative times', () => {
    const now = Date.parse('2026-11-23T12:00:00Z')
    expect(
      ['2026-11-23T11:59:30Z', '2026-11-23T11:57:00Z', '2026-11-23T09:00:00Z', '2026-11-22T11:00:00Z', 'rubbish'].map((iso) =>
        formatRelativeTime(iso, now),
      ),
    ).toEqual(['just now', '3 minutes ago', '3 hours ago', 'yesterday', '—'])
  })
})

test('the time of a log line has its seconds', () => {
  // Without a zone it is the local time, wherever the test runs.
  expect([formatClock('2026-11-23T22:37:05'), formatClock('never')]).toEqual(['22:37:05', '—'])
})
