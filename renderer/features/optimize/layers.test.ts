import { expect, test } from 'vitest'
import { SAMPLE } from '../../test/fixtures.ts'
import { schemeMapOf } from '../../test/recipe-fixtures.ts'
import { bytesOf, commonChoice, commonSchemes, layerRows, rolesOf, schemeAfter, totalsAfter, withChange } from './layers.ts'

const map = schemeMapOf(SAMPLE, 'W4A16 g128')
const [first, second] = map.units
if (first === undefined || second === undefined) throw new Error('The fixture has no layers.')

test('rows are grouped by layer, and filters leave the layers of what they leave', () => {
  expect(layerRows(map.units, {}, { role: null, changedOnly: false })).toHaveLength(6 * 5)
  const down = layerRows(map.units, {}, { role: 'down_proj', changedOnly: false })
  expect(down.slice(0, 2)).toMatchObject([
    { kind: 'layer', layer: 0 },
    { kind: 'unit', unit: { role: 'down_proj' } },
  ])
  expect(down).toHaveLength(12)
  const changes = withChange({}, [first], null)
  expect(layerRows(map.units, changes, { role: null, changedOnly: true })).toHaveLength(2)
  expect(rolesOf(map.units)).toEqual(['q_proj + k_proj + v_proj', 'o_proj', 'gate_proj + up_proj', 'down_proj'])
})

test('a change names the first of the fused modules, and what the recipe does anyway is none', () => {
  const changes = withChange({}, [first], 'W8A16 channel')
  expect(changes).toEqual({ [first.id]: { target: 'model.layers.0.self_attn.q_proj', scheme: 'W8A16 channel' } })
  expect(withChange(changes, [first], 'W4A16 g128')).toEqual({})
  expect(withChange({}, [first], 'W9A16')).toEqual({})
})

test('totals move by the bytes of what changed', () => {
  const changes = withChange(withChange({}, [first], 'W8A16 channel'), [second], null)
  const { weightBytes, bitsPerWeight } = totalsAfter(map, changes)
  expect(weightBytes - map.weightBytes).toBe(first.plainBytes / 2 - first.bytes + second.plainBytes - second.bytes)
  expect(bitsPerWeight).toBe((weightBytes * 8) / SAMPLE.parameters)
  expect([schemeAfter(first, changes), schemeAfter(second, changes), bytesOf(second, null)]).toEqual([
    'W8A16 channel',
    null,
    second.plainBytes,
  ])
})

test('a layer says what all of it is stored as, and offers what all of it can be', () => {
  expect(commonChoice([first, second], {})).toBe('W4A16 g128')
  expect(commonChoice([first, second], withChange({}, [first], null))).toBeUndefined()
  expect(commonSchemes([first, { ...second, options: second.options.slice(0, 2) }])).toEqual(['W3A16 g128', 'W4A16 g128'])
  expect(commonSchemes([])).toEqual([])
})
