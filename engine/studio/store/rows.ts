/**
 * Typed reading of SQLite rows. A row comes from our own file, but a file can be edited or damaged, so a column of the wrong kind is an
 * error with the column's name rather than an `undefined` that surfaces three layers later.
 */

export type Row = Readonly<Record<string, unknown>>

export function text(row: Row, column: string): string {
  const value = row[column]
  if (typeof value !== 'string') throw wrong(column, 'text', value)
  return value
}

export function textOrNull(row: Row, column: string): string | null {
  return row[column] === null ? null : text(row, column)
}

export function integer(row: Row, column: string): number {
  const value = row[column]
  if (typeof value !== 'number' || !Number.isInteger(value)) throw wrong(column, 'integer', value)
  return value
}

export function integerOrNull(row: Row, column: string): number | null {
  return row[column] === null ? null : integer(row, column)
}

export function real(row: Row, column: string): number {
  const value = row[column]
  if (typeof value !== 'number') throw wrong(column, 'number', value)
  return value
}

export function flag(row: Row, column: string): boolean {
  return integer(row, column) === 1
}

/** Parses a JSON column through a contract schema. */
export function json<T>(row: Row, column: string, schema: { parse(value: unknown): T }): T {
  return schema.parse(JSON.parse(text(row, column)))
}

export function jsonOrNull<T>(row: Row, column: string, schema: { parse(value: unknown): T }): T | null {
  return row[column] === null ? null : json(row, column, schema)
}

function wrong(column: string, expected: string, value: unknown): Error {
  return new Error(`The library file holds ${value === undefined ? 'no column' : typeof value} where ${expected} "${column}" should be.`)
}
