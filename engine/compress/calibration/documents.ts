/**
 * Calibration text as a person has it: a .jsonl of documents or conversations, or plain text. Parses and refuses, line by line; knows no
 * tokens and draws no random numbers (samples.ts).
 */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { createInterface } from 'node:readline'
import { LatheError } from '../../contract/errors.ts'
import type { ChatTurn } from '../../tokenizer/chat-template.ts'

export type CalibrationDocument =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'chat'; readonly turns: readonly ChatTurn[] }
  /** A piece of running text, to be cut at the sample length. */
  | { readonly kind: 'passage'; readonly text: string }

/** Far more than any calibration needs; beyond it the rest is left unread, which the caller is told. */
export const MAX_SOURCE_BYTES = 64 << 20
/** A sample of 2048 tokens has about 10 KB; a line beyond this is not a document. */
const MAX_LINE_CHARACTERS = 4 << 20
/** Passages of running text: longer than most samples (4 characters a token and twice that to spare), so that one passage fills one. */
const CHARACTERS_PER_TOKEN = 8
const KEYS = ['text', 'messages', 'conversations']

export interface ReadDocuments {
  readonly documents: readonly CalibrationDocument[]
  /** Whether the file went on beyond MAX_SOURCE_BYTES. */
  readonly truncated: boolean
}

/**
 * Reads a .jsonl (or .json with one object per line) or any other file as plain text. Throws `compress.invalid-calibration` with the line.
 * `sampleTokens` sets how long the passages of plain text are.
 */
export async function readDocuments(path: string, sampleTokens: number): Promise<ReadDocuments> {
  const name = basename(path)
  const facts = await stat(path).catch((cause: unknown) => {
    throw new LatheError('compress.invalid-calibration', `The calibration file ${name} can't be read.`, 'Check the path.', { cause })
  })
  if (!facts.isFile()) throw invalid(`${name} is not a file`, 'Choose a .jsonl or .txt file.')
  if (facts.size === 0) throw invalid(`${name} is empty`, 'Choose a file with text in it.')
  const isJson = /\.(?:jsonl|ndjson|json)$/i.test(name)
  const stream = createReadStream(path, { encoding: 'utf8', end: MAX_SOURCE_BYTES - 1 })
  const lines = createInterface({ input: stream, crlfDelay: Infinity })
  const truncated = facts.size > MAX_SOURCE_BYTES
  const documents: CalibrationDocument[] = []
  let passage = ''
  let number = 0
  let pending: string | null = null
  const take = (line: string): void => {
    number++
    if (line.length > MAX_LINE_CHARACTERS) {
      throw invalid(`Line ${number} of ${name} has ${line.length} characters`, `At most ${MAX_LINE_CHARACTERS} are possible.`)
    }
    if (isJson) {
      if (line.trim() !== '') documents.push(documentOf(line, number, name))
      return
    }
    passage += `${line}\n`
    if (passage.length >= sampleTokens * CHARACTERS_PER_TOKEN) {
      documents.push({ kind: 'passage', text: passage })
      passage = ''
    }
  }
  for await (const line of lines) {
    if (pending !== null) take(pending)
    pending = line
  }
  // The last line of a file that was cut off is cut off, too.
  if (pending !== null && !(truncated && isJson)) take(pending)
  if (passage.trim() !== '') documents.push({ kind: 'passage', text: passage })
  if (documents.length === 0) throw invalid(`${name} holds no text`, 'Choose a file with one {"text": …} object per line, or plain text.')
  return { documents, truncated }
}

function documentOf(line: string, number: number, name: string): CalibrationDocument {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch (cause) {
    throw new LatheError(
      'compress.invalid-calibration',
      `Line ${number} of ${name} is not JSON.`,
      'Each line must be one object: {"text": "…"} or {"messages": […]}. Save plain text as .txt.',
      { cause },
    )
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(`Line ${number} of ${name} is not an object`, 'Each line must be {"text": "…"} or {"messages": […]}.')
  }
  const json = value as Readonly<Record<string, unknown>>
  const { text } = json
  if (typeof text === 'string') return { kind: 'text', text }
  const messages = json['messages'] ?? json['conversations']
  if (Array.isArray(messages) && messages.length > 0) {
    return { kind: 'chat', turns: messages.map((message, i) => turnOf(message, i, number, name)) }
  }
  const found = Object.keys(json).slice(0, 8).join(', ') || 'no fields'
  throw invalid(`Line ${number} of ${name} has neither "text" nor "messages" (${found})`, `One of ${KEYS.join(', ')} is needed.`)
}

/** OpenAI's {role, content}, or ShareGPT's {from, value}. */
function turnOf(message: unknown, index: number, line: number, name: string): ChatTurn {
  const json = (typeof message === 'object' && message !== null ? message : {}) as Readonly<Record<string, unknown>>
  const role = json['role'] ?? json['from']
  const content = json['content'] ?? json['value']
  if (typeof role !== 'string' || typeof content !== 'string') {
    throw invalid(`Message ${index + 1} on line ${line} of ${name} has no role and text`, 'Each needs {"role": "user", "content": "…"}.')
  }
  return { role: SHAREGPT_ROLES[role] ?? role, content }
}

const SHAREGPT_ROLES: Readonly<Record<string, string>> = { human: 'user', gpt: 'assistant' }

function invalid(message: string, hint: string): LatheError {
  return new LatheError('compress.invalid-calibration', `${message}.`, hint)
}
