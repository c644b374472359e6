/**
 * Items of a task from local files: jsonl and json, csv, parquet, text. Files are user input: sizes are capped and every problem is named with its
 * line. Nothing is fetched.
 */
import { open, readFile, stat } from 'node:fs/promises'
import { basename, extname } from 'node:path'
import { parse as parseCsv } from 'csv-parse/sync'
import { parquetReadObjects } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import { LatheError } from '../../contract/errors.ts'
import type { DataFormat } from './task-config.ts'
import type { Doc } from './template.ts'

/** The largest public evaluation sets are tens of megabytes; above this a file is not one. */
const MAX_FILE_BYTES = 1 << 30
/** Text formats are read whole. */
const MAX_TEXT_BYTES = 256 * 1024 * 1024

function invalid(path: string, problem: string, hint: string, cause?: unknown): LatheError {
  return new LatheError('evaluate.invalid-data', `${basename(path)}: ${problem}`, hint, { cause })
}

async function readText(path: string): Promise<string> {
  const info = await stat(path).catch((cause: unknown) => {
    throw new LatheError('evaluate.invalid-data', `${path} can't be read.`, 'Check the path.', { cause })
  })
  if (info.size > MAX_TEXT_BYTES) throw invalid(path, `${info.size} bytes are too many for one evaluation`, 'Use parquet, or a part of it.')
  return readFile(path, 'utf8')
}

function asDoc(value: unknown): Doc | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Doc) : null
}

/** One object a line, or one array of objects. */
export function parseJsonItems(path: string, text: string): Doc[] {
  const trimmed = text.trimStart()
  if (trimmed.startsWith('[')) {
    let values: unknown
    try {
      values = JSON.parse(trimmed)
    } catch (cause) {
      throw invalid(
        path,
        `not valid JSON (${cause instanceof Error ? cause.message : String(cause)})`,
        'Write one JSON object a line, or one array of objects.',
        cause,
      )
    }
    const docs = Array.isArray(values) ? values.map(asDoc) : []
    const bad = docs.indexOf(null)
    if (bad >= 0) throw invalid(path, `entry ${bad + 1} is not an object`, 'Each item is a JSON object.')
    return docs.filter((doc) => doc !== null)
  }
  const docs: Doc[] = []
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue
    let value: unknown
    try {
      value = JSON.parse(line)
    } catch (cause) {
      throw invalid(
        path,
        `line ${index + 1} is not valid JSON (${cause instanceof Error ? cause.message : String(cause)})`,
        'Write one JSON object a line.',
        cause,
      )
    }
    const doc = asDoc(value)
    if (doc === null) throw invalid(path, `line ${index + 1} is not a JSON object`, 'Write one JSON object a line.')
    docs.push(doc)
  }
  return docs
}

function parseCsvItems(path: string, text: string): Doc[] {
  try {
    const rows: unknown[] = parseCsv(text, { columns: true, bom: true, skip_empty_lines: true, relax_column_count: false })
    // As pandas and datasets read them: what looks like a number is one.
    return rows.map((row) =>
      Object.fromEntries(
        Object.entries(row as Readonly<Record<string, string>>).map(([key, value]) => [
          key,
          /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value,
        ]),
      ),
    )
  } catch (cause) {
    throw invalid(
      path,
      `not valid CSV (${cause instanceof Error ? cause.message : String(cause)})`,
      'The first line names the columns.',
      cause,
    )
  }
}

/** 64-bit integers as numbers, dates as text: what templates and JSON can hold. */
function plainValue(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value)
  if (value instanceof Date) return value.toISOString()
  if (value instanceof Uint8Array) return new TextDecoder().decode(value)
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number>)
  if (Array.isArray(value)) return value.map(plainValue)
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, plainValue(entry)]))
  return value
}

async function readParquet(path: string, limit: number | null): Promise<Doc[]> {
  const info = await stat(path).catch((cause: unknown) => {
    throw new LatheError('evaluate.invalid-data', `${path} can't be read.`, 'Check the path.', { cause })
  })
  if (info.size > MAX_FILE_BYTES) throw invalid(path, `${info.size} bytes are too many for one evaluation`, 'Use a part of it.')
  const file = await open(path)
  try {
    const buffer = {
      byteLength: info.size,
      slice: async (start: number, end: number = info.size): Promise<ArrayBuffer> => {
        const bytes = new Uint8Array(Math.max(0, end - start))
        await file.read(bytes, 0, bytes.length, start)
        return bytes.buffer
      },
    }
    const rows = await parquetReadObjects({ file: buffer, compressors, ...(limit === null ? {} : { rowEnd: limit }) })
    return rows.map((row) => plainValue(row) as Doc)
  } catch (cause) {
    if (cause instanceof LatheError) throw cause
    throw invalid(
      path,
      `not a parquet file that can be read (${cause instanceof Error ? cause.message : String(cause)})`,
      'Save it again, or as jsonl.',
      cause,
    )
  } finally {
    await file.close()
  }
}

/** `limit` is a hint for formats that can stop early; more may come back. Throws `evaluate.invalid-data`. */
export async function readItems(format: DataFormat, paths: readonly string[], limit: number | null): Promise<Doc[]> {
  const docs: Doc[] = []
  for (const path of paths) {
    if (extname(path) === '.gz' || extname(path) === '.zip') throw invalid(path, 'compressed files are not read', 'Unpack it first.')
    if (format === 'parquet') docs.push(...(await readParquet(path, limit)))
    else if (format === 'json') docs.push(...parseJsonItems(path, await readText(path)))
    else if (format === 'csv') docs.push(...parseCsvItems(path, await readText(path)))
    // datasets' "text" builder: a document a line
    else docs.push(...(await readText(path)).split('\n').flatMap((line) => (line === '' ? [] : [{ text: line }])))
  }
  return docs
}
