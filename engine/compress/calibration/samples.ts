/**
 * From documents to the token sequences that a model is calibrated on: which documents (seeded), cut at which length, and a hash that says
 * exactly what was used. Every document is a sample of its own, never padded and never joined with another, as LLM Compressor does it.
 */
import { createHash } from 'node:crypto'
import { basename } from 'node:path'
import { asBytes } from '../../checkpoint/dtypes.ts'
import { LatheError } from '../../contract/errors.ts'
import type { Tokenizer } from '../../tokenizer/tokenizer.ts'
import type { CalibrationOptions } from '../types.ts'
import { MAX_SOURCE_BYTES, readDocuments } from './documents.ts'
import type { CalibrationDocument } from './documents.ts'

export interface CalibrationSamples {
  /** Token ids of each sample, in the order of the source. */
  readonly samples: readonly Uint32Array[]
  readonly tokens: number
  /** Name of the file, for people. */
  readonly source: string
  readonly sequenceLength: number
  readonly seed: number
  /** SHA-256 of all samples' lengths and ids (u32, little-endian). */
  readonly sha256: string
  /** Of the documents kept out of calibration (`holdOut`), none of which is a sample too. */
  readonly heldOut: readonly Uint32Array[]
  readonly warnings: readonly string[]
}

/** A Hessian of fewer tokens than this says nothing of a layer. */
const LEAST_TOKENS = 64

/** Throws `compress.invalid-calibration`, `tokenizer.no-chat-template`. `contextLimit` is the model's. */
export async function readSamples(
  options: CalibrationOptions,
  tokenizer: Tokenizer,
  contextLimit: number,
  throwIfCancelled: () => void,
): Promise<CalibrationSamples> {
  const { path, samples: wanted, seed } = options
  const source = basename(path)
  const warnings: string[] = []
  const sequenceLength = Math.min(options.sequenceLength, contextLimit)
  if (sequenceLength < options.sequenceLength) {
    warnings.push(`Calibration samples are cut at the model's context of ${contextLimit} tokens.`)
  }
  const { documents, truncated } = await readDocuments(path, sequenceLength)
  if (truncated) warnings.push(`Only the first ${MAX_SOURCE_BYTES >> 20} MB of ${source} are used.`)
  const samples: { readonly index: number; readonly ids: Uint32Array }[] = []
  let tooShort = 0
  const order = shuffled(documents.length, seed)
  const kept = order.length - heldOutDocuments(order.length, options.holdOut ?? 0, source)
  const read = (index: number): Uint32Array =>
    encode(documents[index] as CalibrationDocument, tokenizer, index, source).subarray(0, sequenceLength)
  for (const index of order.slice(0, kept)) {
    throwIfCancelled()
    if (samples.length === wanted) break
    const ids = read(index)
    // One token attends to nothing but itself.
    if (ids.length < 2) tooShort++
    else samples.push({ index, ids })
  }
  samples.sort((a, b) => a.index - b.index)
  const tokens = samples.reduce((sum, { ids }) => sum + ids.length, 0)
  if (tokens < LEAST_TOKENS) {
    throw new LatheError(
      'compress.invalid-calibration',
      `${source} gives ${tokens} tokens in ${samples.length} samples; at least ${LEAST_TOKENS} are needed, and thousands are better.`,
      'Choose a larger file.',
    )
  }
  if (samples.length < wanted) {
    const because = [
      ...(tooShort === 0 ? [] : [`${tooShort} of them too short`]),
      ...(kept === order.length ? [] : [`${order.length - kept} kept to measure on`]),
    ]
      .map((text) => `, ${text}`)
      .join('')
    warnings.push(`${source} has ${documents.length} samples${because}; ${wanted} were asked for, ${samples.length} are used.`)
  }
  // A text that occurs twice in the file must not be on both sides.
  const used = new Set(samples.map(({ ids }) => hashOfSamples([ids])))
  const heldOut: Uint32Array[] = []
  for (const index of order.slice(kept)) {
    throwIfCancelled()
    const ids = read(index)
    if (ids.length >= 2 && !used.has(hashOfSamples([ids]))) heldOut.push(ids)
  }
  const ids = samples.map((sample) => sample.ids)
  return { samples: ids, tokens, source, sequenceLength, seed, sha256: hashOfSamples(ids), heldOut, warnings }
}

/** SHA-256 of lengths and ids (u32, little-endian). */
export function hashOfSamples(samples: readonly Uint32Array[]): string {
  const hash = createHash('sha256')
  for (const ids of samples) hash.update(asBytes(Uint32Array.of(ids.length))).update(asBytes(ids.slice()))
  return hash.digest('hex')
}

/** As many as wanted, and a quarter of a small file at most: calibration needs the rest. */
function heldOutDocuments(documents: number, wanted: number, source: string): number {
  if (wanted === 0) return 0
  const count = Math.min(wanted, Math.max(1, Math.floor(documents / 4)))
  if (documents - count >= 1) return count
  throw new LatheError(
    'compress.invalid-calibration',
    `${source} has one document, and results are to be measured on text that calibration has not seen.`,
    'Choose a file with several documents.',
  )
}

function encode(document: CalibrationDocument, tokenizer: Tokenizer, index: number, source: string): Uint32Array {
  if (document.kind !== 'chat') return tokenizer.encode(document.text, { addSpecialTokens: true })
  try {
    return tokenizer.encodeChat({ messages: document.turns, addGenerationPrompt: false })
  } catch (cause) {
    if (!(cause instanceof LatheError)) throw cause
    throw new LatheError(cause.code, `Conversation ${index + 1} of ${source}: ${cause.message}`, cause.hint, { cause })
  }
}

/** 0 … count − 1 in an order that the seed fixes (Fisher–Yates over mulberry32). */
export function shuffled(count: number, seed: number): readonly number[] {
  const order = Array.from({ length: count }, (_, i) => i)
  let state = seed >>> 0
  for (let i = count - 1; i > 0; i--) {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    const j = Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * (i + 1))
    const swapped = order[i] as number
    order[i] = order[j] as number
    order[j] = swapped
  }
  return order
}
