import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { splitBlocks } from './markdown-blocks.ts'
import { formatStops, parseOptionalInteger, parseStops } from './sampling.ts'

describe('blocks', () => {
  test.each([
    ['paragraphs', 'one\n\ntwo\n', ['one\n', 'two\n']],
    ['a list with blank lines stays one list', '1. a\n\n2. b\n\n   more b\n\nend', ['1. a\n\n2. b\n\n   more b\n', 'end']],
    ['code keeps its blank lines', 'x\n\n```js\na\n\nb\n```\n\ny', ['x\n', '```js\na\n\nb\n```\n', 'y']],
    ['a fence that is still open swallows the rest', '```\na\n\nb', ['```\na\n\nb']],
    ['a shorter fence does not close a longer one', '````\n```\n\n```\n````\n\nz', ['````\n```\n\n```\n````\n', 'z']],
    ['definitions keep the text whole', '[a][1]\n\n[1]: https://example.org', ['[a][1]\n\n[1]: https://example.org']],
  ])('%s', (_, text, blocks) => {
    expect(splitBlocks(text)).toEqual(blocks)
  })

  test('no character is lost, and blocks before the last do not change while text arrives', () => {
    const line = fc.constantFrom('text', '- item', '1. one', '', '```', '~~~js', '    indented', '> quote', '# head')
    fc.assert(
      fc.property(fc.array(line, { maxLength: 24 }), (lines) => {
        const text = lines.join('\n')
        const blocks = splitBlocks(text)
        expect(blocks.join('\n').replace(/^\n+/, '')).toBe(text.replace(/^\n+/, ''))
        // the first two blocks of a prefix that already has three are final
        const grown = splitBlocks(`${text}\nmore`)
        expect(grown.slice(0, Math.max(0, blocks.length - 1))).toEqual(blocks.slice(0, -1))
      }),
      { seed: 20_261_123, numRuns: 300 },
    )
  })
})

describe('sampling fields', () => {
  test('empty is none, anything but a whole number is refused', () => {
    expect(['', ' 7 ', '0', '-1', '1.5', 'x', '99999999999999999999'].map((text) => parseOptionalInteger(text, 1))).toEqual([
      null,
      7,
      undefined,
      undefined,
      undefined,
      undefined,
      undefined,
    ])
  })

  test('stop texts survive the way to the field and back', () => {
    expect(parseStops(formatStops(['\n\n', 'User:']))).toEqual(['\n\n', 'User:'])
    expect(parseStops('\n')).toEqual([])
  })
})
