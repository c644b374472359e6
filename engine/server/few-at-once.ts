/** Many parts of one request, some at a time and in order: hundreds of prompts must not fill the queue that all clients share. */

/**
 * Starts `work` for each item, at most `limit` at once, and resolves with the results in the order of the items. After a rejection no further item is
 * started; it rejects with the first one, once the started ones may still be running.
 */
export async function fewAtOnce<T, R>(items: readonly T[], limit: number, work: (item: T, index: number) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  const entries = items.entries()
  let failed = false
  const worker = async (): Promise<void> => {
    // The workers share one iterator: each takes the next item that nobody has.
    for (const [index, item] of entries) {
      if (failed) return
      try {
        results[index] = await work(item, index)
      } catch (failure) {
        failed = true
        throw failure
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker))
  return results
}
