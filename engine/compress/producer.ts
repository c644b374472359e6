/**
 * The seam between the pipeline and the algorithms that choose values. The pipeline owns plan, files, journal, verification and
 * publication; a producer turns source tensors into stored bytes, in whatever order and granularity its algorithm needs, and hands them
 * over. Data-free recipes have streaming-producer.ts. README.md here says how a calibrated, layer-streaming one fits in.
 */
import type { Checkpoint } from '../checkpoint/types.ts'
import type { JournalEntry } from './journal.ts'
import type { CompressionPlan, PlanItem } from './plan.ts'
import type { TensorResult } from './tensor-work.ts'

export interface OutputSink {
  /** Appends to one stored tensor. Tensors may interleave; the pieces of one come in order. Awaiting it is the backpressure. */
  write(storedName: string, bytes: Uint8Array): Promise<void>
  /** All stored tensors of `item` are complete. Journaled soon after, when its bytes are on the disk. */
  finish(item: PlanItem, result: TensorResult): Promise<void>
}

export interface ProducerContext {
  readonly source: Checkpoint
  readonly plan: CompressionPlan
  /** What is left to do: the plan's items, in its order, without those that an interrupted run finished. */
  readonly remaining: readonly PlanItem[]
  /** Source names of items that an interrupted run finished, with what it recorded. */
  readonly finished: ReadonlyMap<string, JournalEntry>
  readonly seed: number
  /** max |x| over the inputs of each linear, by module name, where calibration has found it; see `schemeNeeds`. */
  readonly inputMaxima?: ReadonlyMap<string, number>
  readonly sink: OutputSink
  /** Throws when the job is cancelled; look at it between blocks. */
  readonly throwIfCancelled: () => void
  readonly onBytes: (phase: 'read' | 'quantize' | 'write', bytes: number, tensor: string) => void
}

export type Producer = (context: ProducerContext) => Promise<void>
