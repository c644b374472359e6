/**
 * Memory for activations. A value lives from the first operation that writes it to the last that reads it, and values whose lives do not meet
 * share a buffer: a deep model needs a handful of buffers, not a handful per layer. The logits are kept, since drift reads them after the step.
 */
import type { Capacity, Operation, Program, Value } from '../program.ts'
import { extentOf, strideOf } from './plan.ts'

/** Where each value lives: index into `slotBytes`. */
export interface ArenaLayout {
  readonly slotOf: ReadonlyMap<number, number>
  readonly slotBytes: readonly number[]
  /** The last value written to each slot: what a slot holds after a step. */
  readonly lastValue: readonly number[]
}

/** An operation as memory sees it. */
export interface ArenaStep {
  readonly reads: readonly Value[]
  /** null for an operation that adds to an accumulator. */
  readonly writes: Value | null
}

export function valueBytes(value: Value, capacity: Pick<Capacity, 'tokens' | 'rows'>): number {
  return extentOf(value, capacity) * strideOf(value.width) * Float32Array.BYTES_PER_ELEMENT
}

export function inputsOf(operation: Operation): readonly Value[] {
  switch (operation.op) {
    case 'embed':
    case 'input':
      return []
    case 'rmsNorm':
    case 'gatherRows':
    case 'gram':
    case 'columnSums':
      return [operation.x]
    case 'linear':
      return operation.accumulate ? [operation.x, operation.out] : [operation.x]
    case 'swiglu':
      return [operation.gateUp]
    case 'ropeAppend':
      return [operation.qkv]
    case 'attention':
      return [operation.q]
  }
}

/** null for an operation that adds to an accumulator. */
export function outputOf(operation: Operation): Value | null {
  switch (operation.op) {
    case 'ropeAppend':
      return operation.q
    case 'gram':
    case 'columnSums':
      return null
    default:
      return operation.out
  }
}

function valuesOf({ reads, writes }: ArenaStep): readonly Value[] {
  return writes === null ? reads : [...reads, writes]
}

export function layoutArena(
  { operations, logits }: Pick<Program, 'operations' | 'logits'>,
  capacity: Capacity,
  keepAll: boolean,
): ArenaLayout {
  const steps = operations.map((operation) => ({ reads: inputsOf(operation), writes: outputOf(operation) }))
  return layoutSteps(steps, logits, capacity, keepAll)
}

/** Assigns slots greedily in program order; with `keepAll` every value gets its own. */
export function layoutSteps(
  steps: readonly ArenaStep[],
  logits: Value,
  capacity: Pick<Capacity, 'tokens' | 'rows'>,
  keepAll: boolean,
): ArenaLayout {
  const lastUse = new Map<number, number>()
  for (const [index, step] of steps.entries()) {
    for (const value of valuesOf(step)) lastUse.set(value.id, index)
  }
  lastUse.set(logits.id, Infinity)
  const slotOf = new Map<number, number>()
  const slotBytes: number[] = []
  const lastValue: number[] = []
  const free = new Set<number>()
  for (const [index, step] of steps.entries()) {
    const out = step.writes
    if (out !== null && !slotOf.has(out.id)) {
      const bytes = valueBytes(out, capacity)
      // The tightest free slot that fits, else the largest free one, grown.
      const candidates = [...free].sort((a, b) => (slotBytes[a] ?? 0) - (slotBytes[b] ?? 0))
      const slot = candidates.find((candidate) => (slotBytes[candidate] ?? 0) >= bytes) ?? candidates.at(-1) ?? slotBytes.length
      free.delete(slot)
      slotBytes[slot] = Math.max(slotBytes[slot] ?? 0, bytes)
      slotOf.set(out.id, slot)
    }
    const slot = out === null ? undefined : slotOf.get(out.id)
    if (slot !== undefined && out !== null) lastValue[slot] = out.id
    if (keepAll) continue
    for (const value of new Set(valuesOf(step))) {
      const used = slotOf.get(value.id)
      if (lastUse.get(value.id) === index && used !== undefined) free.add(used)
    }
  }
  return { slotOf, slotBytes, lastValue }
}
