/**
 * Takes tensors over from a finished result of the same source instead of making them again (raise one layer, keep the rest). Only what is
 * made the same way (same-making.ts), of a source whose bytes are those that the result was made of, and whose own bytes are still those that
 * its record names; all else is left to the producer, so the result is the same with a base, without one, or with a damaged one.
 */
import type { ByteSource, Checkpoint } from '../checkpoint/types.ts'
import type { TakenOver } from '../contract/index.ts'
import type { PlannedTensor } from '../checkpoint/safetensors-writer.ts'
import type { BaseRun, OpenedBase } from './base-variant.ts'
import { createBufferPool } from './buffer-pool.ts'
import type { BufferPool } from './buffer-pool.ts'
import { inParallel } from './in-parallel.ts'
import type { JournalEntry } from './journal.ts'
import type { JournaledSink } from './journaled-sink.ts'
import { outputNames } from './plan.ts'
import type { CompressionPlan, PlanItem } from './plan.ts'
import { layerOfTensor, sameMaking, wholeLayers } from './same-making.ts'
import type { Making } from './same-making.ts'
import { transferable } from './worker-pool.ts'
import type { WorkerPool } from './worker-pool.ts'

const READ_BYTES = 4 << 20

export interface TakeOverOptions {
  readonly base: OpenedBase
  readonly source: Checkpoint
  readonly making: Making
  /** What an interrupted run finished, by source tensor. */
  readonly finished: ReadonlyMap<string, JournalEntry>
  readonly sink: JournaledSink
  readonly pool: WorkerPool
  readonly signal: AbortSignal | undefined
  /** A tensor of the source is what the base was made of: a sign of life, no progress yet. */
  readonly onChecked: (name: string) => void
  /** A tensor's bytes are in the output, and will be in the journal. */
  readonly onTaken: (item: PlanItem, entry: JournalEntry) => void
}

/** Resolves to why nothing (or, where a tensor was damaged, not everything) could be taken over; null where all went as planned. */
export async function takeOver(options: TakeOverOptions): Promise<string | null> {
  const { base, source, making, finished, sink, pool, signal } = options
  const same = sameMaking(source, making, base.making)
  if (same.nothing !== null) return same.nothing
  const wanted = same.items.filter((item) => !finished.has(item.source.name))
  if (wanted.length === 0) return null
  const buffers = createBufferPool()
  const digest = (bytes: ByteSource, name: string): Promise<string> => hashed({ bytes, name, pool, buffers, signal })
  // A layer depends on the source of every layer before it, and through OWL of every layer, which may have been another then.
  const isOwl = Object.keys(base.run.sparsities).length > 0
  const deepest = isOwl ? Infinity : Math.max(-1, ...wanted.map((item) => layerOfTensor(item.source.name) ?? -1))
  const wantedNames = new Set(wanted.map((item) => item.source.name))
  const behind = (item: PlanItem): boolean =>
    wantedNames.has(item.source.name) || (making.calibration !== null && (layerOfTensor(item.source.name) ?? -1) <= deepest)
  let changed: string | null = null
  await inParallel(pool.size * 2, making.plan.items.filter(behind), async ({ source: { name } }) => {
    if (changed !== null) return
    if ((await digest(source.open(name), name)) !== base.run.source.tensors[name]?.sha256) changed = name
    options.onChecked(name)
  })
  if (changed !== null) return `${String(changed)} of the original is not what it was made of`
  let damaged: string | null = null
  const recordOf = entriesOf(base, making.plan)
  for (const item of wanted) {
    signal?.throwIfAborted()
    const entry = recordOf(item)
    if (entry === null || !(await isIntact(entry, base.checkpoint, digest))) {
      damaged = item.source.name
      continue
    }
    for (const { name } of entry.outputs) await copy(base.checkpoint.open(name), name, sink, signal)
    await sink.takeOver(item, entry)
    options.onTaken(item, entry)
  }
  return damaged === null ? null : `${damaged} in it is no longer as it was written, and is made again`
}

/** What was taken over by this run or by one that it continues. */
export function takenOverSummary(plan: CompressionPlan, entries: ReadonlyMap<string, JournalEntry>, from: string): TakenOver | null {
  const taken = plan.items.filter((item) => entries.get(item.source.name)?.takenOver === true)
  if (taken.length === 0) return null
  const ofLayers = new Set(plan.items.map((item) => layerOfTensor(item.source.name)).filter((layer) => layer !== null)).size
  return { from, layers: [...wholeLayers(plan, new Set(taken))], ofLayers, tensors: taken.length, ofTensors: plan.items.length }
}

/** The journal's line of a tensor, as the base's record has it; null where it says too little. */
function entriesOf({ run }: OpenedBase, plan: CompressionPlan): (item: PlanItem) => JournalEntry | null {
  const places = new Map(plan.write.files.flatMap((file) => file.tensors).map((tensor) => [tensor.name, tensor]))
  const errors = new Map(run.tensors.map((tensor) => [tensor.name, tensor]))
  return (item) => entryOf(item, run, places, errors)
}

function entryOf(
  item: PlanItem,
  run: BaseRun,
  places: ReadonlyMap<string, PlannedTensor>,
  errors: ReadonlyMap<string, BaseRun['tensors'][number]>,
): JournalEntry | null {
  const { name } = item.source
  const outputs = outputNames(item).map((output) => {
    const place = places.get(output)
    const written = run.output[output]
    if (place === undefined || written === undefined || written.bytes !== place.byteLength) return null
    return { name: output, file: place.file, offset: place.offset, bytes: place.byteLength, sha256: written.sha256 }
  })
  const source = run.source.tensors[name]
  const complete = outputs.filter((output) => output !== null)
  if (source === undefined || complete.length < outputs.length) return null
  const error = item.action === 'keep' ? undefined : errors.get(item.module)
  const scales = run.scales[name]
  if (item.action === 'compress' && (error === undefined || scales === undefined)) return null
  const decoded = run.decoded[name]
  return {
    tensor: name,
    sourceSha256: source.sha256,
    outputs: complete,
    figures:
      error === undefined || scales === undefined
        ? null
        : {
            sqnrDb: error.sqnr_db,
            relativeError: error.relative_error,
            maxError: error.max_error,
            cosine: error.cosine,
            scales: scales.count,
            epsilonScales: scales.of_zero_groups,
          },
    ...(decoded === undefined ? {} : { decodedSha256: decoded.sha256 }),
    takenOver: true,
  }
}

async function isIntact(
  { outputs }: JournalEntry,
  checkpoint: Checkpoint,
  digest: (bytes: ByteSource, name: string) => Promise<string>,
): Promise<boolean> {
  for (const { name, bytes, sha256 } of outputs) {
    if (checkpoint.tensors.get(name)?.byteLength !== bytes) return false
    if ((await digest(checkpoint.open(name), name)) !== sha256) return false
  }
  return true
}

async function copy(bytes: ByteSource, name: string, sink: JournaledSink, signal: AbortSignal | undefined): Promise<void> {
  for (let offset = 0; offset < bytes.byteLength; offset += READ_BYTES) {
    signal?.throwIfAborted()
    await sink.write(name, await bytes.read(offset, Math.min(READ_BYTES, bytes.byteLength - offset)))
  }
}

interface Hashing {
  readonly bytes: ByteSource
  readonly name: string
  readonly pool: WorkerPool
  readonly buffers: BufferPool
  readonly signal: AbortSignal | undefined
}

/** SHA-256 on a thread, which this one has enough to do without. */
async function hashed({ bytes, name, pool, buffers, signal }: Hashing): Promise<string> {
  const work = pool.open({ kind: 'keep', name, dtype: 'U8', cols: 1 })
  for (let offset = 0; offset < bytes.byteLength; offset += READ_BYTES) {
    signal?.throwIfAborted()
    const lent = buffers.take(READ_BYTES)
    const read = await bytes.read(offset, Math.min(READ_BYTES, bytes.byteLength - offset), lent)
    const { parts } = await work.block(transferable(read, lent))
    for (const part of parts) buffers.give(part.bytes)
  }
  return (await work.finish()).sourceSha256
}
