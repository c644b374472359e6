import { expect, test } from 'vitest'
import { engineFingerprint } from './measuring.ts'

test.each([
  ['2.0.0', 'mesa 25', undefined, 'lathe-2.0.0:mesa 25'],
  ['2.0.0', 'mesa 25', false, 'lathe-2.0.0:mesa 25'],
  ['2.0.1', 'mesa 25', false, 'lathe-2.0.1:mesa 25'],
  ['2.0.0', 'mesa 26', false, 'lathe-2.0.0:mesa 26'],
  ['2.0.0', 'mesa 25', true, 'lathe-2.0.0:mesa 25:matrix-units'],
])('answers of version %s on %s with matrix units %j are kept as those of %s', (latheVersion, driver, matrixUnits, fingerprint) => {
  expect(engineFingerprint({ latheVersion }, { driver }, { matrixUnits })).toBe(fingerprint)
})
