/**
 * Data-free compression: every tensor for itself, in blocks of whole rows, several tensors at once so that reading, computing on all threads
 * and writing overlap. Memory is a few blocks per thread whatever the size of the model.
 */
import { DTYPE_BYTES } from '../checkpoint/dtypes.ts'
import type { ByteSource } from '../checkpoint/types.ts'
import { BLOCK_ROW_MULTIPLE, encodeShape } from './algorithms/encode.ts'
import { createBufferPool } from './buffer-pool.ts'
import type { BufferPool } from './buffer-pool.ts'
import { inParallel } from './in-parallel.ts'
import type { PlanItem } from './plan.ts'
import type { Producer, ProducerContext } from './producer.ts'
import type { PartRole, TensorTask } from './tensor-work.ts'
import { transferable } from './worker-pool.ts'
import type { WorkerPool } from './worker-pool.ts'

/** Large enough that a message to a thread costs nothing beside it, small enough that the f32 copy stays in a shared cache. */
export const DEFAULT_BLOCK_BYTES = 2 << 20

export function streamingProducer(pool: WorkerPool, blockBytes: number = DEFAULT_BLOCK_BYTES): Producer {
  // Two tensors per thread: while one waits for its read or write, the other computes.
  return async (context) => {
    const buffers = createBufferPool()
    await inParallel(pool.size * 2, context.remaining, (item) => streamTensor(context, pool, buffers, item, blockBytes))
  }
}

async function streamTensor(
  context: ProducerContext,
  pool: WorkerPool,
  buffers: BufferPool,
  item: PlanItem,
  blockBytes: number,
): Promise<void> {
  context.throwIfCancelled()
  const { source, sink, onBytes } = context
  const { name, byteLength } = item.source
  const bytes = source.open(name)
  const work = pool.open(taskOf(item))
  const targets = new Map<PartRole, string>(
    item.action === 'keep' ? [['copy', name]] : item.stored.map((tensor) => [tensor.role, tensor.name]),
  )
  const step = blockLength(item, blockBytes)
  let writing: Promise<void> = Promise.resolve()
  let reading = readBlock(bytes, buffers, 0, step)
  try {
    for (let offset = 0; offset < byteLength; offset += step) {
      const block = await reading
      context.throwIfCancelled()
      onBytes('read', block.byteLength, name)
      reading = readBlock(bytes, buffers, offset + step, step)
      const length = block.byteLength
      const { parts, spent } = await work.block(block)
      if (spent !== null) buffers.give(spent)
      onBytes('quantize', length, name)
      await writing
      writing = (async () => {
        for (const part of parts) {
          await sink.write(targets.get(part.role) ?? '', part.bytes)
          if (part.role === 'copy') buffers.give(part.bytes)
        }
        onBytes(
          'write',
          parts.reduce((sum, part) => sum + part.bytes.byteLength, 0),
          name,
        )
      })()
      // Its failure is met at the next await; until then it must not count as unhandled.
      writing.catch(() => {})
    }
    await writing
  } finally {
    // After a failure elsewhere these may still fail on their own, and nobody is left to care.
    await Promise.allSettled([reading, writing])
  }
  if (item.action === 'compress') {
    const shape = encodeShape(item.rows, item.cols)
    await sink.write(targets.get('shape') ?? '', shape)
    onBytes('write', shape.byteLength, name)
  }
  await sink.finish(item, await work.finish())
}

function taskOf(item: PlanItem): TensorTask {
  const { name, dtype, shape } = item.source
  if (item.action === 'keep') return { kind: 'keep', name, dtype, cols: Math.max(1, shape.at(-1) ?? 1) }
  return { kind: 'quantize', name, dtype: item.dtype, cols: item.cols, scheme: item.scheme, observer: item.observer }
}

/** Bytes per block: whole rows in multiples that packing needs, or whole elements. */
function blockLength(item: PlanItem, blockBytes: number): number {
  if (item.action === 'keep') {
    const size = DTYPE_BYTES[item.source.dtype]
    return Math.max(size, Math.floor(blockBytes / size) * size)
  }
  const rowBytes = item.cols * DTYPE_BYTES[item.dtype]
  return Math.max(1, Math.floor(blockBytes / rowBytes / BLOCK_ROW_MULTIPLE)) * BLOCK_ROW_MULTIPLE * rowBytes
}

async function readBlock(bytes: ByteSource, buffers: BufferPool, offset: number, step: number): Promise<Uint8Array<ArrayBuffer>> {
  const length = Math.min(step, bytes.byteLength - offset)
  if (length <= 0) return new Uint8Array(0)
  // Always a full step, so that the last, shorter block of a tensor does not leave a buffer that fits no other.
  const lent = buffers.take(step)
  return transferable(await bytes.read(offset, length, lent), lent)
}
