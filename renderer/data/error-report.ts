/** What "Copy details" puts on the clipboard: the error, then what the engine says of itself. The engine redacts its text; the error is redacted here. */
import { useCallback } from 'react'
import type { UiError } from '../lib/errors.ts'
import { useEngine } from './engine.tsx'

/** A hung engine must not keep the error from being copied. */
const DIAGNOSTICS_TIMEOUT_MS = 2000

export function useErrorReport(): (error: UiError) => Promise<string> {
  const { client } = useEngine()
  return useCallback(
    async (error) => {
      const diagnostics = await client.system
        .diagnostics(undefined, { signal: AbortSignal.timeout(DIAGNOSTICS_TIMEOUT_MS) })
        .then((answer) => answer.text)
        .catch(() => 'The engine gave no diagnostics.')
      return errorReport(error, diagnostics)
    },
    [client],
  )
}

/** Home folders as the three systems have them; backslashes stand doubled in JSON. */
const HOME_FOLDER = /\/home\/[^/"\s]+|\/Users\/[^/"\s]+|[A-Za-z]:\\\\Users\\\\[^\\"\s]+/g

export function errorReport(error: UiError, diagnostics: string): string {
  return `${JSON.stringify(error, null, 2).replaceAll(HOME_FOLDER, '~')}\n\n${diagnostics.trim()}\n`
}
