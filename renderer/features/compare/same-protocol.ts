/** Whether two results were made in the same way, by the keys that they were filed under. */
import type { Entry } from './metrics.ts'

/** Keys end in what an engine adds of its own: the type of its cache, or that it is a server, which keeps its cache to itself, or how many tokens it lists. */
const ENGINE = /:(?:kv-[^:]*|served|top\w+)$/
const SERVED = /:(?:served|top\w+)$/

/** Strict among models here, whose caches round differently; but for the engine where a side is a server. */
export function isSameProtocol(mine: string, theirs: string): boolean {
  if (mine === theirs) return true
  if (!SERVED.test(mine) && !SERVED.test(theirs)) return false
  return mine.replace(ENGINE, '') === theirs.replace(ENGINE, '')
}

/** `part` is a key of the results; null where the protocols may meet, or one of them is not known. */
export function protocolReason(part: string, entry: Entry, baseline: Entry): string | null {
  const key = (of: Entry) => of.result?.protocolKeys[part] ?? (part.startsWith('task:') ? of.result?.protocolKeys['tasks'] : undefined)
  const mine = key(entry)
  const theirs = key(baseline)
  if (mine === undefined || theirs === undefined || isSameProtocol(mine, theirs)) return null
  return 'measured under another protocol or on other data than the baseline'
}
