import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LatheError } from '../../contract/errors.ts'
import { parsePythonLiteral, pythonRepresentation } from './python-literal.ts'
import { PythonRandom } from './python-random.ts'
import { findAll, pythonRegex } from './python-regex.ts'
import { renderTemplate } from './template.ts'

const SEED = 3

function outcomeOf(work: () => unknown): unknown {
  try {
    return work()
  } catch (error) {
    return error
  }
}

describe('what Python gives', () => {
  test('random.Random(1234): sample(range(100), 5), sample(range(10), 3), sample(range(1000), 8), random() of CPython 3.12', () => {
    const random = new PythonRandom(1234)
    expect(random.sampleIndices(100, 5)).toEqual([99, 56, 14, 0, 11])
    expect(random.sampleIndices(10, 3)).toEqual([9, 0, 1])
    expect(random.sampleIndices(1000, 8)).toEqual([100, 784, 363, 242, 17, 31, 807, 16])
    expect(random.random()).toBe(0.3460889655971231)
  })

  test('re.findall of the patterns that public tasks use', () => {
    // python3 -c "import re; print(re.findall(pattern, text))"
    expect(findAll(pythonRegex('#### (\\-?[0-9\\.\\,]+)'), 'x\n#### 1,018')).toEqual(['1,018'])
    expect(findAll(pythonRegex('(-?[$0-9.,]{2,})|(-?[0-9]+)'), 'so $1,234. and 5')).toEqual([
      ['$1,234.', ''],
      ['', '5'],
    ])
    expect(findAll(pythonRegex('(?i)the answer is \\(?([A-D])\\)?'), 'The Answer is (B). the answer is C')).toEqual(['B', 'C'])
    expect(findAll(pythonRegex('(?s)a.b'), 'a\nb')).toEqual(['a\nb'])
    expect(findAll(pythonRegex('a.b'), 'a\nb a\rb')).toEqual(['a\rb'])
    expect(findAll(pythonRegex('\\w+$'), 'größe\n')).toEqual(['größe'])
    expect(findAll(pythonRegex('\\bé\\w*'), 'été né')).toEqual(['été'])
    expect(findAll(pythonRegex('x{,2}y'), 'xxxy')).toEqual(['xxy'])
    expect(findAll(pythonRegex('[]a]+\\Z'), 'a]')).toEqual(['a]'])
    expect(findAll(pythonRegex('(?P<n>\\d)(?P=n)'), '1122')).toEqual(['1', '2'])
    expect(findAll(pythonRegex('{"a": \\d}'), '{"a": 5}')).toEqual(['{"a": 5}'])
  })

  test.each(['(?x)a b', 'a++', '(?>a)', '(?(1)a|b)', '\\z', '(?#c)', 'a{2}+'])('%s has no equal and is refused', (pattern) => {
    expect(() => pythonRegex(pattern)).toThrow(expect.objectContaining({ code: 'evaluate.unsupported-task' }))
  })

  test(`any pattern is translated or refused (seed ${SEED})`, () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'ab(){}[]|\\.*+?^$-,?P<>=!wdsZ01 é'), maxLength: 16 }), (pattern) => {
        const outcome = outcomeOf(() => pythonRegex(pattern))
        expect(outcome instanceof RegExp || outcome instanceof LatheError).toBe(true)
      }),
      { seed: SEED, numRuns: 500 },
    )
  })

  test('literals', () => {
    expect(parsePythonLiteral(`['a', "it's", 3.5, True, None, ('x',), []]`)).toEqual(['a', "it's", 3.5, true, null, ['x'], []])
    expect(parsePythonLiteral('["\\u00e9\\ud83d\\ude00", "\\q"]')).toEqual(['é😀', '\\q'])
    for (const wrong of ['[1', '[1] x', "'a", '{1: 2}', 'foo', '', '[1 2]']) expect(parsePythonLiteral(wrong)).toBeUndefined()
    expect(pythonRepresentation(["it's", 'a"b\'', 1, true, null])).toBe(`["it's", 'a"b\\'', 1, True, None]`)
  })

  test(`what is written as a literal is read back (seed ${SEED})`, () => {
    const values = fc.array(fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null)))
    fc.assert(
      fc.property(values, (list) => {
        expect(parsePythonLiteral(pythonRepresentation(list))).toEqual(list)
      }),
      { seed: SEED, numRuns: 200 },
    )
  })
})

describe('templates', () => {
  const doc = { q: 'What?', options: ["it's", 'b'], n: 3, yes: true, nested: { a: 'x', label: ['A', 'B'] } }
  // Each expected text is what jinja2 3.1 with StrictUndefined and keep_trailing_newline gives.
  test.each([
    ['Q: {{q}}\nA:\n', 'Q: What?\nA:\n'],
    ['{{options}}', `["it's", 'b']`],
    ['{{n + 1}} {{yes}}', '4 True'],
    ['{{nested.a}}{{nested["a"]}}', 'xx'],
    ['{{[q, "z"]}}', "['What?', 'z']"],
    ['{% for x in options %}{{loop.index}}. {{x}}\n{% endfor %}', "1. it's\n2. b\n"],
    ['{{ q | regex_replace("W(h)", "<\\\\1>") }}', '<h>at?'],
    ['{{ "ABCD"[n] }}', 'D'],
    ['{{ nested.label.index("B") }}', '1'],
    ['{{ ["A", "B"].index("A") }}', '0'],
    ['{{ options | join(", ") }}', "it's, b"],
    ['{% set a = q.split("a") %}{{ a[0] }}', 'Wh'],
    ['{% if missing is defined %}1{% else %}2{% endif %}', '2'],
    ['{{ missing | default("d") }}', 'd'],
    ['{{ q[0].lower() + q[1:] }}', 'what?'],
    ['{{ "yes" if yes else "no" }}', 'yes'],
  ])('%s', (template, expected) => {
    expect(renderTemplate(template, doc)).toBe(expected)
  })

  test.each([
    '{{missing}}',
    '{{nested.b}}',
    '{% if missing %}x{% endif %}',
    '{{ q',
    '{{ q | nonsense }}',
    '{% for i in range(1000000000) %}x{% endfor %}',
  ])('%s is an error that names the fields', (template) => {
    expect(() => renderTemplate(template, doc)).toThrow(
      expect.objectContaining({ code: 'evaluate.invalid-data', hint: expect.stringContaining('options') }),
    )
  })
})
