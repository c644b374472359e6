/** Checking a request body against a schema, with the error that OpenAI's clients expect: 400, and the parameter as a dotted path. */
import type { z } from 'zod'
import { ApiError } from './api-error.ts'

/** `null` means absent everywhere. */
export const optional = <T extends z.ZodType>(schema: T) => schema.nullish().transform((value) => value ?? undefined)

export function parseBody<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const result = schema.safeParse(body)
  if (result.success) return result.data
  const [issue] = result.error.issues
  const { path, message } = issue === undefined ? { path: [], message: 'invalid' } : fault(issue)
  const param = path.map(String).join('.')
  throw new ApiError(400, `${param === '' ? 'The request body' : `"${param}"`}: ${message}`, param === '' ? {} : { param })
}

interface Fault {
  readonly path: readonly PropertyKey[]
  readonly message: string
}

/** A value that may have several forms fails in each of them: the form that it has in the main is the one to speak of, else what the forms are. */
function fault(issue: z.core.$ZodIssue): Fault {
  if (issue.code === 'invalid_key') return { path: issue.path, message: issue.issues[0]?.message ?? issue.message }
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return { path: issue.path, message: issue.message }
  const firsts = issue.errors.flatMap(([first]) => (first === undefined ? [] : [first]))
  const meant = firsts.filter((first) => first.code !== 'invalid_type' || first.path.length > 0)
  const [only, ...others] = meant
  if (only !== undefined && others.length === 0) {
    const inner = fault(only)
    return { path: [...issue.path, ...inner.path], message: inner.message }
  }
  const forms = [...new Set((meant.length > 0 ? meant : firsts).map((first) => fault(first).message.replace(/^Invalid input: /, '')))]
  return { path: issue.path, message: `Invalid input: ${forms.join('; or ')}` }
}

export function badRequest(param: string, message: string): ApiError {
  return new ApiError(400, message, { param })
}

/** For what is known and not done: ignoring it would be a wrong answer that looks right. */
export function notImplemented(param: string, what: string): ApiError {
  return new ApiError(501, `${what} is not supported by this server, and ignoring it would change the answer.`, { param })
}
