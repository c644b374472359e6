/**
 * Bounds the time of code that a model folder supplies: regular expressions (which may backtrack for ages) and templates (which may loop).
 * V8 can interrupt running JavaScript, its regular expressions included, only through node:vm's timeout; the function itself still runs in
 * this realm, so this is no sandbox, only a clock. Costs about 0.2 ms a call (a watchdog thread).
 */
import { types } from 'node:util'
import { Script, createContext } from 'node:vm'

const context = createContext({ run: null as (() => void) | null })
const script = new Script('run()')

/** Result of `run`; `onTimeout` makes the error when it takes longer than `limitMs`. Errors of `run` pass through. */
export function withTimeLimit<T>(limitMs: number, run: () => T, onTimeout: () => Error): T {
  let result: { readonly value: T } | undefined
  // Restored afterwards, because `run` may itself use a time limit.
  const outer = context.run
  context.run = () => {
    result = { value: run() }
  }
  try {
    script.runInContext(context, { timeout: limitMs })
  } catch (error) {
    // Not `instanceof Error`: the timeout's error belongs to the context's realm.
    if (types.isNativeError(error) && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw onTimeout()
    throw error
  } finally {
    context.run = outer
  }
  if (result === undefined) throw new Error('the time-limited function did not run')
  return result.value
}
