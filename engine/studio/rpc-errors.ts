/**
 * Turns whatever a procedure throws into the one error that the contract declares: LATHE with an ErrorShape. Expected failures pass as they
 * are, a rejected input becomes `request.invalid`, and everything else is a defect: logged with its stack, reported as `internal`.
 */
import { ORPCError } from '@orpc/server'
import { LatheError, toErrorShape } from '../contract/index.ts'
import type { ErrorShape } from '../contract/index.ts'
import type { Log } from './ports.ts'

export function toRpcError(thrown: unknown, path: readonly string[], log: Log): ORPCError<'LATHE', ErrorShape> {
  if (thrown instanceof ORPCError && thrown.code === 'LATHE') return thrown as ORPCError<'LATHE', ErrorShape>
  const shape = shapeOf(thrown)
  if (shape.code === 'internal')
    log('error', `${path.join('.')}: ${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}`)
  return new ORPCError('LATHE', { status: 400, message: shape.message, data: shape, cause: thrown })
}

/** Passes a stream on and maps an error that it throws midway. Ending the outer stream ends the inner one. */
export async function* mapStreamErrors<T>(stream: AsyncIterable<T>, path: readonly string[], log: Log): AsyncGenerator<T, void, undefined> {
  try {
    yield* stream
  } catch (error) {
    throw toRpcError(error, path, log)
  }
}

function shapeOf(thrown: unknown): ErrorShape {
  if (thrown instanceof ORPCError && thrown.code === 'BAD_REQUEST') {
    const issues = issuesOf(thrown.data)
    return new LatheError(
      'request.invalid',
      issues.length === 0 ? thrown.message : issues.join('; '),
      'Check the values that were sent.',
    ).toShape()
  }
  return toErrorShape(thrown)
}

function issuesOf(data: unknown): string[] {
  if (typeof data !== 'object' || data === null || !('issues' in data) || !Array.isArray(data.issues)) return []
  return data.issues.map((issue: { readonly path?: readonly PropertyKey[]; readonly message?: string }) => {
    const where = (issue.path ?? []).map(String).join('.')
    return where === '' ? (issue.message ?? 'invalid value') : `${where}: ${issue.message ?? 'invalid value'}`
  })
}
