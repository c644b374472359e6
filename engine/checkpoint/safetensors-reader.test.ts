import { open } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { DTYPE_BYTES } from './dtypes.ts'
import { MAX_HEADER_BYTES, headerLength, parseSafetensorsHeader } from './safetensors-reader.ts'
import { DEMO_MODEL, fromHex, latheError, safetensors } from './test/fixtures.ts'
import { REFERENCE_FILE } from './test/reference-file.ts'

const SEED = 20_261_123

function parse(file: Uint8Array): ReturnType<typeof parseSafetensorsHeader> {
  return parseSafetensorsHeader(file, file.byteLength, 'model.safetensors')
}

describe('valid headers', () => {
  it('reads what the reference implementation wrote', () => {
    expect(parse(REFERENCE_FILE)).toEqual({
      dataOffset: 472,
      metadata: new Map([['format', 'pt']]),
      tensors: [
        { name: 'z.shape', dtype: 'I64', shape: [2], byteLength: 16, offset: 472 },
        { name: 'b.weight', dtype: 'F32', shape: [2, 3], byteLength: 24, offset: 488 },
        { name: 'empty', dtype: 'F32', shape: [0, 4], byteLength: 0, offset: 512 },
        { name: 'k.words', dtype: 'I32', shape: [1, 2], byteLength: 8, offset: 512 },
        { name: 'a.scale', dtype: 'F16', shape: [2], byteLength: 4, offset: 520 },
        { name: 'a.codes', dtype: 'I8', shape: [3], byteLength: 3, offset: 524 },
        { name: 'm.u8', dtype: 'U8', shape: [1], byteLength: 1, offset: 527 },
      ],
    })
  })

  it('reads the demo model: 56 tensors without gaps', async () => {
    await using file = await open(join(DEMO_MODEL, 'model.safetensors'))
    const { size } = await file.stat()
    const bytes = new Uint8Array(16384)
    await file.read(bytes, 0, bytes.byteLength, 0)
    const header = parseSafetensorsHeader(bytes, size, 'model.safetensors')
    expect(header.tensors.length).toBe(56)
    expect(header.tensors.reduce((sum, tensor) => sum + tensor.byteLength, header.dataOffset)).toBe(size)
  })

  it('accepts an empty file of tensors, scalars, zero sizes, and entries out of order', () => {
    expect(parse(safetensors({})).tensors).toEqual([])
    const scalar = parse(safetensors({ s: { dtype: 'F32', shape: [], data_offsets: [0, 4] } }, 4))
    expect(scalar.tensors[0]).toMatchObject({ shape: [], byteLength: 4 })
    const zero = parse(safetensors({ z: { dtype: 'I64', shape: [9, 0], data_offsets: [0, 0] } }))
    expect(zero.tensors[0]).toMatchObject({ byteLength: 0 })
    const reversed = { b: { dtype: 'U8', shape: [2], data_offsets: [1, 3] }, a: { dtype: 'U8', shape: [1], data_offsets: [0, 1] } }
    expect(parse(safetensors(reversed, 3)).tensors.map((tensor) => tensor.name)).toEqual(['a', 'b'])
  })

  it('keeps a tensor called like a property of every object apart from it', () => {
    const names = ['constructor', 'toString', 'hasOwnProperty']
    const header = Object.fromEntries(names.map((name, i) => [name, { dtype: 'U8', shape: [1], data_offsets: [i, i + 1] }]))
    expect(parse(safetensors(header, 3)).tensors.map((tensor) => tensor.name)).toEqual(names)
  })
})

const t = (entry: Record<string, unknown>): Record<string, unknown> => ({ t: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...entry } })

describe('hostile headers', () => {
  it.each<[string, unknown, number, RegExp]>([
    [
      'overlapping tensors',
      { a: { dtype: 'U8', shape: [4], data_offsets: [0, 4] }, b: { dtype: 'U8', shape: [4], data_offsets: [2, 6] } },
      6,
      /overlap/,
    ],
    [
      'two tensors on the same bytes',
      { a: { dtype: 'U8', shape: [4], data_offsets: [0, 4] }, b: { dtype: 'U8', shape: [4], data_offsets: [0, 4] } },
      4,
      /overlap/,
    ],
    [
      'a gap',
      { a: { dtype: 'U8', shape: [1], data_offsets: [0, 1] }, b: { dtype: 'U8', shape: [1], data_offsets: [3, 4] } },
      4,
      /gap of 2 bytes/,
    ],
    ['a gap at the start', { a: { dtype: 'U8', shape: [1], data_offsets: [1, 2] } }, 2, /gap of 1 bytes/],
    ['bytes after the last tensor', t({}), 20, /12 bytes after/],
    ['data that is cut off', t({}), 4, /beyond the 4 bytes/],
    ['offsets beyond 2^53', t({ data_offsets: [0, 2 ** 53] }), 8, /whole numbers/],
    ['offsets of 1e300', '{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,1e300]}}', 8, /whole numbers/],
    ['offsets that wrap 64 bits', '{"t":{"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,0]}}', 8, /whole numbers/],
    ['negative offsets', t({ data_offsets: [-8, 0] }), 8, /whole numbers/],
    ['fractional offsets', t({ data_offsets: [0, 7.5] }), 8, /whole numbers/],
    ['offsets as text', t({ data_offsets: ['0', '8'] }), 8, /whole numbers/],
    ['one offset', t({ data_offsets: [8] }), 8, /pair of data offsets/],
    ['no offsets', { t: { dtype: 'F32', shape: [2] } }, 8, /pair of data offsets/],
    ['offsets in reverse', t({ data_offsets: [8, 0] }), 8, /before it begins/],
    ['a shape that needs more bytes', t({ shape: [3] }), 8, /needs 12/],
    ['a shape that needs fewer bytes', t({ shape: [1] }), 8, /needs 4/],
    ['a shape whose product overflows', t({ shape: [2 ** 40, 2 ** 40] }), 8, /overflows/],
    ['an overflow hidden by a zero', t({ shape: [2 ** 40, 2 ** 40, 0], data_offsets: [0, 0] }), 0, /overflows/],
    ['a negative dimension', t({ shape: [-2] }), 8, /dimension/],
    ['a fractional dimension', t({ shape: [0.5, 4] }), 8, /dimension/],
    ['a null dimension', t({ shape: [null] }), 8, /dimension/],
    ['too many dimensions', t({ shape: Array.from({ length: 9 }, () => 1) }), 8, /9 dimensions/],
    ['a shape that is no list', t({ shape: 2 }), 8, /no shape/],
    ['a dtype that does not exist', t({ dtype: 'F33' }), 8, /"F33"/],
    ['a dtype that is a property of every object', t({ dtype: 'constructor' }), 8, /"constructor"/],
    ['a dtype that is no text', t({ dtype: 32 }), 8, /no dtype/],
    ['a tensor that is no object', { t: [1, 2] }, 0, /object/],
    ['an empty tensor name', { '': { dtype: 'F32', shape: [2], data_offsets: [0, 8] } }, 8, /name of 0/],
    ['an endless tensor name', { ['x'.repeat(513)]: { dtype: 'F32', shape: [2], data_offsets: [0, 8] } }, 8, /name of 513/],
    ['control characters in a name', { 'a\nb': { dtype: 'F32', shape: [2], data_offsets: [0, 8] } }, 8, /control/],
    ['a tensor called __proto__', '{"__proto__":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8, /__proto__/],
    [
      'the same tensor twice',
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
      2,
      /twice/,
    ],
    ['metadata that is no object', { __metadata__: 'pt' }, 0, /metadata/],
    ['metadata that is no text', { __metadata__: { format: 1 } }, 0, /metadata "format"/],
    ['deep nesting', '{"a":'.repeat(1000) + '1' + '}'.repeat(1000), 0, /nests deeper/],
    ['a list instead of an object', '[]', 0, /begin with "\{"/],
    ['leading whitespace', ' {}', 0, /begin with "\{"/],
    ['invalid JSON', '{"a":}', 0, /not valid JSON/],
    ['a NUL instead of padding', '{}\u0000', 0, /not valid JSON/],
  ])('refuses %s', async (_, header, data, message) => {
    const error = await latheError(() => parse(safetensors(header, data)), 'checkpoint.invalid-header')
    expect(error.message).toMatch(message)
  })

  it.each<[string, Uint8Array, RegExp]>([
    ['an empty file', new Uint8Array(0), /0 bytes/],
    ['a file shorter than its length field', new Uint8Array(5), /5 bytes/],
    ['only a length field', fromHex('0200000000000000'), /8 bytes/],
    ['a header longer than the file', fromHex('FF000000000000007B7D'), /cut off/],
    ['a header longer than allowed', fromHex('01E1F505000000007B7D'), /at most 100000000/],
    ['a length of 2^64 - 1', fromHex('FFFFFFFFFFFFFFFF7B7D'), /18446744073709551615/],
    ['a length of zero', fromHex('00000000000000007B7D'), /begin with/],
  ])('refuses %s', async (_, bytes, message) => {
    expect((await latheError(() => parse(bytes), 'checkpoint.invalid-header')).message).toMatch(message)
  })

  it('refuses invalid UTF-8', async () => {
    const file = safetensors('{"xx":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8)
    file[10] = 0xff
    expect((await latheError(() => parse(file), 'checkpoint.invalid-header')).message).toMatch(/UTF-8/)
  })

  it.each<[string, Uint8Array, RegExp]>([
    ['GGUF', new TextEncoder().encode('GGUF\u0003\u0000\u0000\u0000 rest'), /GGUF/],
    ['a zipped pickle', fromHex('504B0304000008080000'), /pickle/],
    ['a bare pickle', fromHex('80028A0A6CFC9C46F920'), /pickle/],
    ['a Git LFS pointer', new TextEncoder().encode('version https://git-lfs.github.com/spec/v1\n'), /LFS/],
  ])('recognises %s under a safetensors name', async (_, bytes, message) => {
    expect((await latheError(() => parse(bytes), 'checkpoint.unsupported-file')).message).toMatch(message)
  })

  it('does not take a header length for a pickle', () => {
    // 640 = bytes 80 02 00 …, the first two bytes of a protocol-2 pickle.
    const header = `${JSON.stringify({ a: { dtype: 'U8', shape: [1], data_offsets: [0, 1] } })}`.padEnd(640)
    expect(parse(safetensors(header, 1)).tensors.length).toBe(1)
  })

  it('checks the length before any memory is asked for', async () => {
    const start = fromHex('00E1F50500000000')
    expect(headerLength(start, 2 ** 40, 'x')).toBe(MAX_HEADER_BYTES)
    await latheError(() => headerLength(start, 1000, 'x'), 'checkpoint.invalid-header')
  })
})

/** "refused" for a LatheError, "consistent" for a result that keeps everything the types promise; else what is wrong. */
function outcome(file: Uint8Array): string {
  let header: ReturnType<typeof parse>
  try {
    header = parse(file)
  } catch (error) {
    return error instanceof LatheError ? 'refused' : `threw ${String(error)}`
  }
  let end = header.dataOffset
  for (const tensor of header.tensors) {
    if (tensor.offset !== end) return `"${tensor.name}" is not where the one before it ends`
    const needed = tensor.shape.reduce((product, size) => product * size, DTYPE_BYTES[tensor.dtype])
    if (tensor.byteLength !== needed) return `"${tensor.name}" has the wrong length`
    end += tensor.byteLength
  }
  if (end !== file.byteLength) return 'the file does not end with its last tensor'
  return new Set(header.tensors.map((tensor) => tensor.name)).size === header.tensors.length ? 'consistent' : 'a name occurs twice'
}

const ACCEPTABLE = /^(?:refused|consistent)$/

describe('fuzz', () => {
  it('survives random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(outcome(bytes)).toMatch(ACCEPTABLE)
      }),
      { seed: SEED, numRuns: 3000 },
    )
  })

  it('survives random bytes behind a plausible length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(40), (json, data) => {
        const file = new Uint8Array(8 + json.byteLength + data)
        new DataView(file.buffer).setBigUint64(0, BigInt(json.byteLength), true)
        file.set(json, 8)
        file[8] = 0x7b
        expect(outcome(file)).toMatch(ACCEPTABLE)
      }),
      { seed: SEED, numRuns: 3000 },
    )
  })

  it('survives a valid file with bytes changed, cut and inserted', () => {
    const edit = fc.record({
      at: fc.nat(REFERENCE_FILE.byteLength - 1),
      to: fc.oneof(fc.nat(255), fc.constantFrom(...Buffer.from('"\\{}[],:0129e-.'))),
    })
    fc.assert(
      fc.property(fc.array(edit, { maxLength: 6 }), fc.nat(40), fc.boolean(), (edits, cut, atEnd) => {
        const file = REFERENCE_FILE.slice()
        for (const { at, to } of edits) file[at] = to
        const changed = atEnd ? file.subarray(0, file.byteLength - cut) : Buffer.concat([file, new Uint8Array(cut)])
        expect(outcome(changed)).toMatch(ACCEPTABLE)
      }),
      { seed: SEED, numRuns: 5000 },
    )
  })

  it('survives headers of the right form with wrong values', () => {
    const number = fc.oneof(fc.nat(20), fc.constantFrom(-1, 0.5, 2 ** 31, 2 ** 32, 2 ** 53, 2 ** 53 - 1, 1e300, null, '8', true))
    const tensor = fc.record(
      {
        dtype: fc.constantFrom('F32', 'BF16', 'U8', 'I64', 'F4', '', 'f32'),
        shape: fc.oneof(fc.array(number, { maxLength: 4 }), number),
        data_offsets: fc.oneof(fc.array(number, { maxLength: 3 }), number),
      },
      { requiredKeys: [] },
    )
    const header = fc.dictionary(
      fc.constantFrom('a', 'b', 'c', '__metadata__', 'constructor'),
      fc.oneof({ weight: 9, arbitrary: tensor }, number),
    )
    fc.assert(
      fc.property(header, fc.nat(64), (value, data) => {
        expect(outcome(safetensors(value, data))).toMatch(ACCEPTABLE)
      }),
      { seed: SEED, numRuns: 5000 },
    )
  })

  it('takes linear time for the largest headers', () => {
    const entries = Array.from(
      { length: 100_000 },
      (_, i) => `"layers.${i}.weight":{"dtype":"F32","shape":[1],"data_offsets":[${i * 4},${i * 4 + 4}]}`,
    )
    const file = safetensors(`{${entries.join(',')}}`, 400_000)
    const start = performance.now()
    expect(parse(file).tensors.length).toBe(100_000)
    // About 0.2 s; a quadratic step would take minutes. The bound leaves room for a loaded machine.
    expect(performance.now() - start).toBeLessThan(10_000)
  })
})
