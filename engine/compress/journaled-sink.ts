/**
 * Where producers put their bytes: a safetensors writer, and a journal that learns of a tensor only once its bytes are on the disk. Forcing
 * to the disk is done in batches, because each one waits for the disk.
 */
import type { SafetensorsWriter } from '../checkpoint/safetensors-writer.ts'
import { encodeShape } from './algorithms/encode.ts'
import { errorFigures } from './algorithms/error-sums.ts'
import type { Journal, JournalEntry } from './journal.ts'
import { outputNames } from './plan.ts'
import type { PlanItem } from './plan.ts'
import type { OutputSink } from './producer.ts'
import { sha256 } from './sha256.ts'

/** At most this much, or this long, of finished work is done again after a crash. */
export const JOURNAL_BATCH_BYTES = 128 << 20
const JOURNAL_BATCH_MS = 2000

export interface JournaledSink extends OutputSink {
  /** All stored tensors of `item` are complete, and `entry` is what there is to say of them. */
  takeOver(item: PlanItem, entry: JournalEntry): Promise<void>
  /** Journals what is finished so far. */
  flush(): Promise<void>
  /** The same at the end. */
  close(): Promise<void>
}

export function journaledSink(
  writer: SafetensorsWriter,
  journal: Journal,
  batchBytes: number,
  onFinished: (item: PlanItem, entry: JournalEntry) => void,
): JournaledSink {
  const placeOfOutput = new Map(writer.plan.files.flatMap((file) => file.tensors).map((tensor) => [tensor.name, tensor]))
  let waiting: { readonly item: PlanItem; readonly entry: JournalEntry }[] = []
  let waitingBytes = 0
  let lastFlush = performance.now()
  let flushing: Promise<void> = Promise.resolve()
  const flush = async (): Promise<void> => {
    const batch = waiting
    waiting = []
    waitingBytes = 0
    lastFlush = performance.now()
    if (batch.length === 0) return
    await writer.flush()
    await journal.append(batch.map(({ entry }) => entry))
    for (const { item, entry } of batch) onFinished(item, entry)
  }
  const enter = async (item: PlanItem, entry: JournalEntry): Promise<void> => {
    waiting.push({ item, entry })
    waitingBytes += entry.outputs.reduce((sum, output) => sum + output.bytes, 0)
    if (waitingBytes < batchBytes && performance.now() - lastFlush < JOURNAL_BATCH_MS) return
    // One at a time, in order; a tensor that finishes meanwhile joins the next.
    flushing = flushing.then(flush)
    await flushing
  }
  return {
    write: (name, bytes) => writer.write(name, bytes),
    async takeOver(item, entry) {
      const open = entry.outputs.find(({ name }) => !writer.isComplete(name))
      if (open !== undefined) throw new Error(`${open.name} was declared finished too early`)
      await enter(item, entry)
    },
    async finish(item, result) {
      const outputs = outputNames(item).map((name, i) => {
        const place = placeOfOutput.get(name)
        if (place === undefined || !writer.isComplete(name)) throw new Error(`${name} was declared finished too early`)
        const role = item.action === 'compress' ? item.stored[i]?.role : 'copy'
        const known = role === undefined ? undefined : result.partSha256[role]
        const digest = role === 'shape' ? (known ?? shapeDigest(item)) : known
        // An empty tensor has no block, and so no digest of its own.
        return { name, file: place.file, offset: place.offset, bytes: place.byteLength, sha256: digest ?? sha256('') }
      })
      const { epsilonScales, scales, decodedSha256 } = result
      const figures = result.error === null ? null : { ...errorFigures(result.error), epsilonScales, scales }
      await enter(item, {
        tensor: item.source.name,
        sourceSha256: result.sourceSha256,
        outputs,
        figures,
        ...(decodedSha256 === undefined ? {} : { decodedSha256 }),
      })
    },
    async flush() {
      flushing = flushing.then(flush)
      await flushing
    },
    async close() {
      await flushing.then(flush)
    },
  }
}

function shapeDigest(item: PlanItem): string {
  if (item.action !== 'compress') throw new Error('a kept tensor has no shape tensor')
  return sha256(encodeShape(item.rows, item.cols))
}
