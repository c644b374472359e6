/**
 * What was asked of the core since its loop last looked: requests, aborts, constraints that became ready, sections that want the executable.
 * Asking wakes the loop; nothing takes effect until the loop takes it out.
 */
import type { Request } from './request.ts'

/** Work of somebody else's between two steps. */
export interface Section {
  readonly run: () => Promise<void>
  readonly reject: (error: Error) => void
}

export class CoreInbox {
  #added: Request[] = []
  readonly #aborted = new Set<string>()
  readonly #settled = new Map<Request, Error | null>()
  #sections: Section[] = []
  #wake: (() => void) | null = null

  get added(): number {
    return this.#added.length
  }

  get aborts(): number {
    return this.#aborted.size
  }

  get isEmpty(): boolean {
    return this.#added.length + this.#aborted.size + this.#settled.size + this.#sections.length === 0
  }

  add(request: Request): void {
    this.#added.push(request)
    this.wake()
  }

  abort(id: string): void {
    this.#aborted.add(id)
    this.wake()
  }

  /** The request's output constraint is ready, or has failed. */
  settle(request: Request, error: Error | null): void {
    this.#settled.set(request, error)
    this.wake()
  }

  section(section: Section): void {
    this.#sections.push(section)
    this.wake()
  }

  /** The request has ended by itself. */
  forget(id: string): void {
    this.#aborted.delete(id)
  }

  takeAdded(): readonly Request[] {
    const added = this.#added
    this.#added = []
    return added
  }

  takeAborted(): readonly string[] {
    const aborted = [...this.#aborted]
    this.#aborted.clear()
    return aborted
  }

  takeSettled(): readonly (readonly [request: Request, error: Error | null])[] {
    const settled = [...this.#settled]
    this.#settled.clear()
    return settled
  }

  takeSection(): Section | undefined {
    return this.#sections.shift()
  }

  rejectSections(error: Error): void {
    for (const section of this.#sections.splice(0)) section.reject(error)
  }

  /** Everything in it is over. */
  close(error: Error): void {
    this.#added = []
    this.#aborted.clear()
    this.#settled.clear()
    this.rejectSections(error)
    this.wake()
  }

  /** Resolves when something is asked. */
  sleep(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#wake = resolve
    return promise
  }

  wake(): void {
    this.#wake?.()
    this.#wake = null
  }
}
