/** Checking a request body against a schema, with the error that OpenAI's clients expect: 400, and the parameter as a dotted path. */
import type { z } from 'zod'
import { ApiError } from './api-error.ts'

/** `null` means absent everywhere. */
export const optional = <T extends z.ZodType>(schema: T) => schema.nullish().transform((value) => value ?? undefined)

export function parseBody<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const result = schema.safeParse(body)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const param = issue?.path.map(String).join('.') ?? ''
  throw new ApiError(
    400,
    `${param === '' ? 'The request body' : `"${param}"`}: ${issue?.message ?? 'invalid'}`,
    param === '' ? {} : { param },
  )
}

export function badRequest(param: string, message: string): ApiError {
  return new ApiError(400, message, { param })
}

/** For what is known and not done: ignoring it would be a wrong answer that looks right. */
export function notImplemented(param: string, what: string): ApiError {
  return new ApiError(501, `${what} is not supported by this server, and ignoring it would change the answer.`, { param })
}
