/** A worker thread that runs tensor-work.ts: see worker-pool.ts for the messages. A thread of its own file; import it from nowhere. */
import { parentPort } from 'node:worker_threads'
import { runComputeJob } from './calibration/compute-job.ts'
import type { ComputeResult } from './calibration/compute-job.ts'
import { toErrorShape } from '../contract/errors.ts'
import { createBlockRounder } from './algorithms/simd/block-rounder.ts'
import { openTensorWork } from './tensor-work.ts'
import type { TensorWork } from './tensor-work.ts'
import type { WorkerReply, WorkerRequest } from './worker-pool.ts'

const rounder = createBlockRounder()
const open = new Map<number, TensorWork>()

function reply(message: WorkerReply, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer)
}

/** Buffers of a result that belong to it alone. */
function buffersOf(result: ComputeResult): ArrayBuffer[] {
  const arrays: ArrayBufferView[] =
    result.kind === 'quantize' || result.kind === 'encode'
      ? result.parts.map((part) => part.bytes)
      : result.kind === 'prune'
        ? [result.values, result.mask]
        : result.kind === 'trial' || result.kind === 'clip'
          ? [result.values]
          : []
  // Views of a larger buffer are copied instead.
  return [
    ...new Set(
      arrays.flatMap(({ buffer, byteLength }) => (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength ? [buffer] : [])),
    ),
  ]
}

function workOf(id: number): TensorWork {
  const work = open.get(id)
  if (work === undefined) throw new Error(`no open tensor ${id}`)
  return work
}

parentPort?.on('message', (request: WorkerRequest) => {
  try {
    switch (request.kind) {
      case 'open':
        open.set(request.id, openTensorWork(request.task, rounder))
        break
      case 'block': {
        const { id, bytes } = request
        const parts = workOf(id).block(bytes)
        const spent = parts.some((part) => part.bytes.buffer === bytes.buffer) ? null : bytes
        const buffers = parts.map((part) => part.bytes.buffer)
        reply({ kind: 'block', id, parts, spent }, spent === null ? buffers : [...buffers, spent.buffer])
        break
      }
      case 'finish': {
        const result = workOf(request.id).finish()
        open.delete(request.id)
        reply({ kind: 'finish', id: request.id, result })
        break
      }
      case 'compute': {
        const result = runComputeJob(request.job)
        reply({ kind: 'compute', id: request.id, result }, buffersOf(result))
        break
      }
    }
  } catch (error) {
    open.delete(request.id)
    reply({ kind: 'failed', id: request.id, error: toErrorShape(error) })
  }
})
