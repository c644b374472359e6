/**
 * Data-free compression: every tensor for itself, in blocks of whole rows, several tensors at once so that reading, computing on all threads
 * and writing overlap. Memory is a few blocks per thread whatever the size of the model.
 */
import { DTYPE_BYTES } from '../checkpoint/dtypes.ts'
import type { ByteSource } from '../checkpoint/types.ts'
import { LatheError } from '../contract/errors.ts'
import { blockRowMultiple, encodeConstant } from './algorithms/encode.ts'
import { createBufferPool } from './buffer-pool.ts'
import type { BufferPool } from './buffer-pool.ts'
import { inParallel } from './in-parallel.ts'
import type { PlanItem } from './plan.ts'
import type { Producer, ProducerContext } from './producer.ts'
import { isConstant, schemeName, schemeNeeds } from './scheme.ts'
import { sha256 } from './sha256.ts'
import type { PartRole, TensorTask } from './tensor-work.ts'
import { weightMaxima } from './weight-maxima.ts'
import type { WeightMaxima } from './weight-maxima.ts'
import { transferable } from './worker-pool.ts'
import type { WorkerPool } from './worker-pool.ts'

/** Large enough that a message to a thread costs nothing beside it, small enough that the f32 copy stays in a shared cache. */
export const DEFAULT_BLOCK_BYTES = 2 << 20

export function streamingProducer(pool: WorkerPool, blockBytes: number = DEFAULT_BLOCK_BYTES): Producer {
  // Two tensors per thread: while one waits for its read or write, the other computes.
  return async (context) => {
    refuseUncalibrated(context)
    const buffers = createBufferPool()
    const maxima = weightMaxima(context.source, context.plan.items, context.throwIfCancelled)
    await inParallel(pool.size * 2, context.remaining, (item) => streamTensor(context, pool, buffers, maxima, item, blockBytes))
  }
}

/** Scales of inputs come from calibration, which a data-free run has only where its caller brings it along. */
function refuseUncalibrated({ remaining, inputMaxima }: ProducerContext): void {
  const item = remaining.find(
    (each) => each.action === 'compress' && schemeNeeds(each.scheme).inputMaximum && inputMaxima?.has(each.module) !== true,
  )
  if (item?.action !== 'compress') return
  throw new LatheError(
    'compress.invalid-recipe',
    `${schemeName(item.scheme)} stores the range of each layer's inputs, and that of ${item.module} is not known.`,
    'Choose calibration text, or a scheme that finds input scales as it runs (FP8_DYNAMIC, W8A8) or leaves inputs alone (NVFP4A16).',
  )
}

async function streamTensor(
  context: ProducerContext,
  pool: WorkerPool,
  buffers: BufferPool,
  maxima: WeightMaxima,
  item: PlanItem,
  blockBytes: number,
): Promise<void> {
  context.throwIfCancelled()
  const weightMaximum = item.action === 'compress' ? await maxima.of(item) : null
  const { source, sink, onBytes } = context
  const { name, byteLength } = item.source
  const bytes = source.open(name)
  const work = pool.open(taskOf(item, weightMaximum))
  const targets = new Map<PartRole, string>(
    item.action !== 'compress' ? [['copy', name]] : item.stored.map((tensor) => [tensor.role, tensor.name]),
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
  const result = await work.finish()
  const digests: Partial<Record<PartRole, string>> = {}
  if (item.action === 'compress') {
    const known = { weight: weightMaximum, input: context.inputMaxima?.get(item.module) ?? null }
    for (const { role, name: target } of item.stored) {
      if (!isConstant(role)) continue
      const constant = encodeConstant(role, item.scheme, item.rows, item.cols, item.dtype, known)
      digests[role] = sha256(constant)
      await sink.write(target, constant)
      onBytes('write', constant.byteLength, name)
    }
  }
  await sink.finish(item, { ...result, partSha256: { ...result.partSha256, ...digests } })
}

function taskOf(item: PlanItem, weightMaximum: number | null): TensorTask {
  const { name, dtype, shape } = item.source
  if (item.action !== 'compress') return { kind: 'keep', name, dtype, cols: Math.max(1, shape.at(-1) ?? 1) }
  const { cols, scheme, observer } = item
  return { kind: 'quantize', name, dtype: item.dtype, cols, scheme, observer, weightMaximum }
}

/** Bytes per block: whole rows in multiples that packing needs, or whole elements. */
function blockLength(item: PlanItem, blockBytes: number): number {
  if (item.action !== 'compress') {
    const size = DTYPE_BYTES[item.source.dtype]
    return Math.max(size, Math.floor(blockBytes / size) * size)
  }
  const rowBytes = item.cols * DTYPE_BYTES[item.dtype]
  const multiple = blockRowMultiple(item.scheme)
  return Math.max(1, Math.floor(blockBytes / rowBytes / multiple)) * multiple * rowBytes
}

async function readBlock(bytes: ByteSource, buffers: BufferPool, offset: number, step: number): Promise<Uint8Array<ArrayBuffer>> {
  const length = Math.min(step, bytes.byteLength - offset)
  if (length <= 0) return new Uint8Array(0)
  // Always a full step, so that the last, shorter block of a tensor does not leave a buffer that fits no other.
  const lent = buffers.take(step)
  return transferable(await bytes.read(offset, length, lent), lent)
}
