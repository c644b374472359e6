import { expect, test } from 'vitest'
import { SAMPLE, tensorsOf } from '../../test/fixtures.ts'
import { filterTensors, formatShape, sharesOf, tensorRows } from './tensors.ts'

const tensors = tensorsOf(SAMPLE)

test('layers are grouped in order, with embedding before and norm after', () => {
  const rows = tensorRows(tensors, () => false)
  expect(rows.map((row) => row.kind === 'group' && [row.title, row.count])).toEqual([
    ['Embedding', 1],
    ...Array.from({ length: 6 }, (_, layer) => [`Layer ${layer}`, 9]),
    ['After the layers', 1],
  ])
  expect(rows.reduce((sum, row) => sum + (row.kind === 'group' ? row.bytes : 0), 0)).toBe(
    tensors.reduce((sum, tensor) => sum + tensor.bytes, 0),
  )
})

test('an open group lists its tensors without the prefix that the group already says', () => {
  const rows = tensorRows(tensors, (id) => id === 'layer-0')
  expect(rows.slice(2, 4).map((row) => row.kind === 'tensor' && row.title)).toEqual(['input_layernorm.weight', 'self_attn.q_proj.weight'])
})

function names(text: string, kind: string | null = null): string[] {
  return filterTensors(tensors, { text, kind }).map((tensor) => tensor.name)
}

test('the filter takes words in any order, over name, dtype and shape', () => {
  expect(names('down_proj layers.3')).toEqual(['model.layers.3.mlp.down_proj.weight'])
  expect(names('640x256 layers.1').length).toBe(2)
  expect(names('', 'embedding')).toEqual(['model.embed_tokens.weight'])
  expect(names('nothing like this')).toEqual([])
})

test('shares come largest first; scalars have a shape too', () => {
  expect(sharesOf({ a: 1, b: 3 }, (id) => id.toUpperCase())).toEqual([
    { id: 'b', title: 'B', bytes: 3 },
    { id: 'a', title: 'A', bytes: 1 },
  ])
  expect([formatShape([]), formatShape([2, 3])]).toEqual(['scalar', '2 × 3'])
})
