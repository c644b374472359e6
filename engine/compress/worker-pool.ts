/**
 * Threads that quantize. A tensor belongs to one thread from its first block to its last, so that its hashes and sums have one order
 * whatever the number of threads. Buffers are transferred, never copied. Knows nothing of what the work is.
 */
import { Worker } from 'node:worker_threads'
import { LatheError } from '../contract/errors.ts'
import type { ErrorShape } from '../contract/errors.ts'
import type { ComputeJob, ComputeResult } from './calibration/compute-job.ts'
import type { BlockPart, TensorResult, TensorTask } from './tensor-work.ts'

export type WorkerRequest =
  | { readonly kind: 'open'; readonly id: number; readonly task: TensorTask }
  | { readonly kind: 'block'; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'finish'; readonly id: number }
  | { readonly kind: 'compute'; readonly id: number; readonly job: ComputeJob }

export type WorkerReply =
  | { readonly kind: 'block'; readonly id: number; readonly parts: readonly BlockPart[]; readonly spent: Uint8Array<ArrayBuffer> | null }
  | { readonly kind: 'finish'; readonly id: number; readonly result: TensorResult }
  | { readonly kind: 'compute'; readonly id: number; readonly result: ComputeResult }
  | { readonly kind: 'failed'; readonly id: number; readonly error: ErrorShape }

/** One tensor on its thread. Calls of one tensor must not overlap. */
export interface PooledTensor {
  /**
   * The buffer under `bytes` is transferred and must not be used again. It comes back as `spent` when none of the parts is made of it.
   */
  block(bytes: Uint8Array<ArrayBuffer>): Promise<{ readonly parts: readonly BlockPart[]; readonly spent: Uint8Array<ArrayBuffer> | null }>
  finish(): Promise<TensorResult>
}

export interface WorkerPool extends AsyncDisposable {
  readonly size: number
  /** On the thread with the fewest open tensors. */
  open(task: TensorTask): PooledTensor
  /** One piece of arithmetic on the thread with the least to do. Shared arrays in `job` are read, not copied. */
  compute<Job extends ComputeJob>(job: Job): Promise<Extract<ComputeResult, { kind: Job['kind'] }>>
}

interface Waiting {
  readonly resolve: (reply: WorkerReply) => void
  readonly reject: (error: unknown) => void
}

interface Thread {
  readonly worker: Worker
  readonly waiting: Map<number, Waiting>
  openTensors: number
  failure: Error | null
}

/** The worker's file lies beside this one and has the same kind of name: .ts from source, .mjs or .js from a build. */
function workerUrl(): URL {
  const extension = /\.[cm]?[jt]s(?=$|\?)/.exec(import.meta.url)?.[0] ?? '.js'
  return new URL(`./quantize-worker${extension}`, import.meta.url)
}

/** When `signal` aborts, pending computations are given up at once; their threads go on until the pool is disposed. */
export function createWorkerPool(size: number, signal?: AbortSignal): WorkerPool {
  const threads = Array.from({ length: size }, () => startThread())
  let nextId = 0
  const leastBusy = (): Thread => threads.reduce((least, other) => (other.openTensors < least.openTensors ? other : least))
  return {
    size,
    async compute<Job extends ComputeJob>(job: Job) {
      const id = nextId++
      const thread = leastBusy()
      if (thread.failure !== null) throw thread.failure
      signal?.throwIfAborted()
      thread.openTensors++
      const giveUp = new AbortController()
      try {
        const reply = await new Promise<WorkerReply>((resolve, reject) => {
          signal?.addEventListener('abort', () => reject(signal.reason), { once: true, signal: giveUp.signal })
          thread.waiting.set(id, { resolve, reject })
          thread.worker.postMessage({ kind: 'compute', id, job } satisfies WorkerRequest, [])
        })
        if (reply.kind === 'failed') throw errorOf(reply.error)
        if (reply.kind !== 'compute' || reply.result.kind !== job.kind) throw new Error(`a thread answered "${reply.kind}" to ${job.kind}`)
        return reply.result as Extract<ComputeResult, { kind: Job['kind'] }>
      } finally {
        giveUp.abort()
        thread.openTensors--
      }
    },
    open(task) {
      const id = nextId++
      const thread = leastBusy()
      thread.openTensors++
      let isOpen = true
      const close = (): void => {
        if (isOpen) thread.openTensors--
        isOpen = false
      }
      const ask = async (request: WorkerRequest, transfer: ArrayBuffer[]): Promise<WorkerReply> => {
        if (thread.failure !== null) throw thread.failure
        const reply = await new Promise<WorkerReply>((resolve, reject) => {
          thread.waiting.set(id, { resolve, reject })
          thread.worker.postMessage(request, transfer)
        })
        if (reply.kind !== 'failed') return reply
        close()
        throw errorOf(reply.error)
      }
      thread.worker.postMessage({ kind: 'open', id, task } satisfies WorkerRequest, [])
      return {
        async block(bytes) {
          const reply = await ask({ kind: 'block', id, bytes }, [bytes.buffer])
          if (reply.kind !== 'block') throw new Error(`a thread answered "${reply.kind}" to a block`)
          return { parts: reply.parts, spent: reply.spent }
        },
        async finish() {
          const reply = await ask({ kind: 'finish', id }, [])
          close()
          if (reply.kind !== 'finish') throw new Error(`a thread answered "${reply.kind}" to finish`)
          return reply.result
        },
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(threads.map((thread) => thread.worker.terminate()))
    },
  }
}

function startThread(): Thread {
  // The parent's own flags (inspectors, test runners' loaders) are not for these threads.
  const worker = new Worker(workerUrl(), { execArgv: [], name: 'lathe-quantize' })
  const thread: Thread = { worker, waiting: new Map(), openTensors: 0, failure: null }
  const fail = (error: Error): void => {
    thread.failure ??= error
    const pending = [...thread.waiting.values()]
    thread.waiting.clear()
    for (const { reject } of pending) reject(error)
  }
  worker.on('message', (reply: WorkerReply) => {
    const waiting = thread.waiting.get(reply.id)
    thread.waiting.delete(reply.id)
    waiting?.resolve(reply)
  })
  worker.on('error', fail)
  worker.on('exit', (code) => fail(new Error(`a quantizing thread ended with code ${code}`)))
  return thread
}

function errorOf(shape: ErrorShape): Error {
  if (shape.code === 'internal') return new Error(shape.message)
  return new LatheError(shape.code, shape.message, shape.hint, shape.data === undefined ? {} : { data: { ...shape.data } })
}

/** `bytes` where their buffer can be transferred, otherwise a copy of them. Whole buffers and views of a lent one can. */
export function transferable(bytes: Uint8Array, lent: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const { buffer } = bytes
  if (buffer === lent.buffer) return new Uint8Array(lent.buffer, bytes.byteOffset, bytes.byteLength)
  return new Uint8Array(bytes)
}
