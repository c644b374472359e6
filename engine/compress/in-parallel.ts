/** A bounded number of asynchronous pieces of work at a time. */

/** Runs `work` on all items, at most `limit` at a time, in order of start. The first failure stops new starts and is thrown. */
export async function inParallel<T>(limit: number, items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0
  let stopped = false
  const runner = async (): Promise<void> => {
    while (!stopped && next < items.length) {
      const item = items[next++] as T
      try {
        await work(item)
      } catch (error) {
        stopped = true
        throw error
      }
    }
  }
  const results = await Promise.allSettled(Array.from({ length: Math.min(limit, items.length) }, runner))
  const rejected = results.find((result) => result.status === 'rejected')
  if (rejected !== undefined) throw rejected.reason
}
