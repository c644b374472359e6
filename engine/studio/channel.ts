/** Events pushed by work and read by one reader in order: turns callbacks into a stream. Holds what has not been read; knows no transports. */

export interface Channel<Event> {
  readonly push: (event: Event) => void
  end(): void
  /** The reader gets what was pushed before, then the error. */
  fail(error: unknown): void
  read(): AsyncGenerator<Event>
}

export function channel<Event>(): Channel<Event> {
  const waiting: Event[] = []
  let closed: { readonly error: unknown } | { readonly error: null } | null = null
  let wake: (() => void) | null = null
  return {
    push: (event) => {
      waiting.push(event)
      wake?.()
    },
    end: () => {
      closed = { error: null }
      wake?.()
    },
    fail: (error) => {
      closed = { error }
      wake?.()
    },
    async *read() {
      for (;;) {
        const next = waiting.shift()
        if (next !== undefined) {
          yield next
          continue
        }
        if (closed !== null) {
          if (closed.error !== null) throw closed.error
          return
        }
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
  }
}
