import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { parseStrictJson, parseStrictJsonText } from './strict-json.ts'
import { latheError } from './test/fixtures.ts'

const SEED = 20_261_123
const source = { what: 'config.json', code: 'checkpoint.invalid-config' } as const

function outcome(text: string): string {
  let value: unknown
  try {
    value = parseStrictJsonText(text, source)
  } catch (error) {
    return error instanceof LatheError ? 'as JSON.parse, or refused' : `threw ${String(error)}`
  }
  return JSON.stringify(value) === JSON.stringify(JSON.parse(text)) ? 'as JSON.parse, or refused' : 'another value'
}

describe('parseStrictJson', () => {
  it('parses whatever JSON.stringify writes, to the same value', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
        const text = JSON.stringify(value)
        // JSON.stringify itself drops nothing here, but a "__proto__" key is refused on purpose.
        if (text.includes('"__proto__"')) return
        expect(parseStrictJsonText(text, source)).toEqual(JSON.parse(text))
      }),
      { seed: SEED },
    )
  })

  it.each([
    ['a duplicate key', '{"a":1,"a":2}', /"a" twice/],
    ['a duplicate spelled with an escape', '{"a":1,"\\u0061":2}', /"a" twice/],
    ['a duplicate in a nested object', '{"x":[{"k":1,"k":1}]}', /"k" twice/],
    ['a prototype key', '{"__proto__":{"polluted":true}}', /__proto__/],
    ['a prototype key spelled with escapes', '{"\\u005f_proto__":1}', /__proto__/],
    ['deep nesting', '['.repeat(65) + ']'.repeat(65), /deeper than 64/],
    ['very deep, unclosed nesting', '{"a":'.repeat(200_000), /deeper than 64/],
    ['a truncated file', '{"a": "b', /not valid JSON/],
    ['an empty file', '', /not valid JSON/],
    ['trailing text', '{} {}', /not valid JSON/],
    ['a byte-order mark', '\ufeff{}', /not valid JSON/],
    ['NaN', '{"a": NaN}', /not valid JSON/],
    ['a lone closing bracket', ']', /not valid JSON/],
    ['a key with a broken escape', '{"\\q": 1}', /malformed key/],
  ])('refuses %s', async (_, text, message) => {
    const error = await latheError(() => parseStrictJsonText(text, source), 'checkpoint.invalid-config')
    expect(error.message).toMatch(message)
    expect(error.message.length).toBeLessThan(300)
  })

  it('accepts the same key in different objects, and braces or escaped quotes inside strings', () => {
    const text = '{"a":{"k":1},"b":{"k":"}{\\"k\\":,[ \\\\"},"c":["k","k"]}'
    expect(parseStrictJsonText(text, source)).toEqual({ a: { k: 1 }, b: { k: '}{"k":,[ \\' }, c: ['k', 'k'] })
  })

  it('refuses invalid UTF-8', async () => {
    const error = await latheError(
      () => parseStrictJson(Uint8Array.of(0x7b, 0x22, 0xc3, 0x28, 0x22, 0x7d), source),
      'checkpoint.invalid-config',
    )
    expect(error.message).toMatch(/UTF-8/)
  })

  it('throws nothing but LatheError on random bytes and mutated JSON', () => {
    const seedText = JSON.stringify({ a: [1, 2, { b: 'text "quoted" \\ ' }], c: { d: null } })
    const mutated = fc
      .array(fc.tuple(fc.nat(seedText.length), fc.constantFrom('"', '\\', '{', '}', '[', ']', ',', ':', '0', '\u0000')), { maxLength: 4 })
      .map((edits) => edits.reduce((text, [at, character]) => text.slice(0, at) + character + text.slice(at + 1), seedText))
    fc.assert(
      fc.property(fc.oneof(mutated, fc.string()), (text) => {
        expect(outcome(text)).toBe('as JSON.parse, or refused')
      }),
      { seed: SEED, numRuns: 2000 },
    )
  })
})
