/**
 * Random JSON schemas of the kinds that people write for structured output, and answers sampled through the token masks by a model that has no
 * opinion: every token the grammar allows is as likely, with a leaning to end things so that answers stay short.
 */
import fc from 'fast-check'
import type { TokenMaskProvider } from '../../types.ts'
import type { CompiledGrammar } from '../grammar-engine.ts'

const name = fc.constantFrom('name', 'age', 'tags', 'id', 'é', 'full name', 'x-1', 'kind', 'unit', 'Größe', 'a"b', 'deep')
const text = fc.constantFrom('red', 'green', 'naïve', '日本', 'a "quoted" word', 'line\nbreak', '', 'back\\slash', '🙂')

const stringSchema = fc.oneof(
  fc.constant({ type: 'string' }),
  fc.tuple(fc.nat(3), fc.nat(6)).map(([least, more]) => ({ type: 'string', minLength: least, maxLength: least + more })),
  fc.constantFrom('^[a-z]{2,5}$', '^\\d{4}-\\d{2}$', '^(yes|no)$', '^[A-Z][a-z]*( [A-Z][a-z]*)?$', 'ab+c?').map((pattern) => ({
    type: 'string',
    pattern,
  })),
  fc.constantFrom('date', 'uuid', 'ipv4').map((format) => ({ type: 'string', format })),
)
const integerSchema = fc.oneof(
  fc.constant({ type: 'integer' }),
  fc
    .tuple(fc.integer({ min: -500, max: 500 }), fc.nat(900))
    .map(([low, width]) => ({ type: 'integer', minimum: low, maximum: low + width })),
  fc.integer({ min: -90, max: 90 }).map((low) => ({ type: 'integer', exclusiveMinimum: low })),
  fc.integer({ min: -90, max: 90 }).map((high) => ({ type: 'integer', maximum: high })),
)
const numberSchema = fc.oneof(
  fc.constant({ type: 'number' }),
  fc.tuple(fc.integer({ min: -50, max: 50 }), fc.integer({ min: 1, max: 90 })).map(([low, width]) => ({
    type: 'number',
    minimum: low,
    maximum: low + width,
  })),
)
const leaf: fc.Arbitrary<object> = fc.oneof(
  stringSchema,
  integerSchema,
  numberSchema,
  fc.constant({ type: 'boolean' }),
  fc.constant({ type: 'null' }),
  fc.uniqueArray(fc.oneof(text, fc.integer({ min: -9, max: 99 })), { minLength: 1, maxLength: 4 }).map((values) => ({ enum: values })),
  text.map((value) => ({ const: value })),
  fc.constant({ type: ['string', 'null'] }),
)

const schemaOfDepth = (depth: number): fc.Arbitrary<object> => {
  if (depth === 0) return leaf
  const inner = schemaOfDepth(depth - 1)
  const objects = fc
    .record({
      entries: fc.uniqueArray(fc.tuple(name, inner), { minLength: 1, maxLength: 4, selector: ([key]) => key }),
      optional: fc.nat(15),
      closed: fc.boolean(),
    })
    .map(({ entries, optional, closed }) => ({
      type: 'object',
      properties: Object.fromEntries(entries),
      required: entries.map(([key]) => key).filter((_, index) => (optional & (1 << index)) === 0),
      ...(closed && { additionalProperties: false }),
    }))
  const arrays = fc.record({ items: inner, least: fc.nat(2), more: fc.nat(3) }).map(({ items, least, more }) => ({
    type: 'array',
    items,
    minItems: least,
    maxItems: least + more,
  }))
  const tuples = fc.array(inner, { minLength: 1, maxLength: 3 }).map((prefixItems) => ({
    type: 'array',
    prefixItems,
    items: false,
    minItems: prefixItems.length,
  }))
  const unions = fc.array(inner, { minLength: 2, maxLength: 3 }).map((anyOf) => ({ anyOf }))
  const tagged = fc.tuple(inner, inner).map(([a, b]) => ({
    oneOf: [
      { type: 'object', properties: { kind: { const: 'a' }, value: a }, required: ['kind', 'value'] },
      { type: 'object', properties: { kind: { const: 'b' }, other: b }, required: ['kind', 'other'] },
    ],
  }))
  const maps = inner.map((additionalProperties) => ({ type: 'object', additionalProperties }))
  return fc.oneof({ weight: 5, arbitrary: objects }, arrays, tuples, unions, tagged, maps, leaf)
}

export const schemas: fc.Arbitrary<object> = fc.oneof(
  schemaOfDepth(1),
  schemaOfDepth(2),
  schemaOfDepth(3),
  schemaOfDepth(1).map((item) => ({
    $defs: { item, list: { type: 'array', items: { $ref: '#/$defs/item' }, maxItems: 3 } },
    type: 'object',
    properties: { first: { $ref: '#/$defs/item' }, rest: { $ref: '#/$defs/list' } },
    required: ['first', 'rest'],
  })),
)

/** Tokens that speculation proposes at once. */
const MOST_TRIED = 4

export interface SampledAnswer {
  readonly ids: readonly number[]
  readonly text: string
  /** False where the answer was cut off: then it need not be complete. */
  readonly ended: boolean
}

export interface OpinionlessModel {
  readonly vocabulary: number
  readonly stopTokenIds: readonly number[]
  bytesOf(id: number): Uint8Array
}

/** Samples uniformly among allowed tokens that keep the text UTF-8; `next` gives numbers in [0, 1). */
export async function sampleAnswer(
  grammar: CompiledGrammar,
  model: OpinionlessModel,
  next: () => number,
  maxTokens: number,
  { stopChance = 0.8, closing: ends = /^["}\]]/ }: { readonly stopChance?: number; readonly closing?: RegExp } = {},
): Promise<SampledAnswer> {
  const matcher = grammar.start()
  const ids: number[] = []
  const bytes: number[] = []
  let ended = false
  try {
    while (ids.length < maxTokens) {
      const mask = await matcher.mask()
      if (mask === null) break
      const allowed = allowedIds(mask, model.vocabulary).filter((id) => mayContinue(bytes, model.bytesOf(id)))
      if (allowed.length === 0) throw new Error(`No token may follow ${JSON.stringify(Buffer.from(bytes).toString())}`)
      const stop = allowed.find((id) => model.stopTokenIds.includes(id))
      const closing = allowed.filter((id) => ends.test(String.fromCharCode(...model.bytesOf(id))))
      let id = allowed[Math.floor(next() * allowed.length)]!
      if (stop !== undefined && next() < stopChance) id = stop
      else if (closing.length > 0 && next() < 0.4) id = closing[Math.floor(next() * closing.length)]!
      if (next() < 0.1) await tryAndTakeBack(matcher, model, next)
      if (model.stopTokenIds.includes(id)) {
        ended = true
        break
      }
      if (!matcher.accept(id)) throw new Error(`Token ${id} is allowed and was refused`)
      ids.push(id)
      bytes.push(...model.bytesOf(id))
    }
  } finally {
    matcher.dispose?.()
  }
  return { ids, text: new TextDecoder('utf-8', { fatal: ended }).decode(Uint8Array.from(bytes)), ended }
}

/** A model that tries a few tokens, takes them back, and goes on is what speculation looks like to a grammar. */
async function tryAndTakeBack(matcher: TokenMaskProvider, model: OpinionlessModel, next: () => number): Promise<void> {
  let tried = 0
  for (const wanted = 1 + Math.floor(next() * MOST_TRIED); tried < wanted; tried++) {
    const mask = await matcher.mask()
    const allowed = mask === null ? [] : allowedIds(mask, model.vocabulary).filter((id) => !model.stopTokenIds.includes(id))
    const id = allowed[Math.floor(next() * allowed.length)]
    if (id === undefined) break
    if (!matcher.accept(id)) throw new Error(`Token ${id} is allowed and was refused`)
  }
  matcher.rollback(tried)
}

/** Whether the bytes are UTF-8 so far, the last character perhaps incomplete. */
function mayContinue(before: readonly number[], more: Uint8Array): boolean {
  let start = before.length
  while (start > 0 && before.length - start < 3 && (before[start - 1]! & 0xc0) === 0x80) start--
  if (start > 0 && before[start - 1]! >= 0xc0) start--
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from([...before.slice(start), ...more]), { stream: true })
    return true
  } catch {
    return false
  }
}

export function allowedIds(mask: Uint32Array, vocabulary: number): number[] {
  const ids: number[] = []
  for (let id = 0; id < vocabulary; id++) if (((mask[id >> 5]! >>> (id & 31)) & 1) === 1) ids.push(id)
  return ids
}

/** Single bytes and common pieces, as small byte-level vocabularies have them; id 256 ends an answer, 257 is special. */
export function pieceVocabulary(further: readonly string[] = []) {
  const pieces = [
    ...further,
    '{"',
    '":',
    '": ',
    '","',
    '", "',
    '"}',
    '}}',
    '[]',
    '["',
    '"]',
    '],',
    'true',
    'false',
    'null',
    ' the',
    'ing',
    '12',
    '2025-',
    'é',
    '日',
  ]
  const tokens = [...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)), new Uint8Array(0), Buffer.from('<|special|>')]
  for (const piece of pieces) tokens.push(new Uint8Array(Buffer.from(piece)))
  const none = new Uint8Array(0)
  return {
    vocabulary: tokens.length + 10, // logits are often padded
    stopTokenIds: [256],
    vocabSize: tokens.length,
    tokenBytes: (id: number) => tokens[id] ?? none,
    bytesOf: (id: number) => tokens[id] ?? none,
    isSpecial: (id: number) => id === 256 || id === 257,
  }
}

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
