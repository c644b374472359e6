/**
 * Largest magnitudes of whole matrices, for schemes that need them before the first row can be stored: a per-tensor scale, or NVFP4's factor,
 * which the parts of a fused layer share (specs/compressed-tensors.md §6.3). Reads each matrix once more; matrices of one set are read once.
 */
import { DTYPE_BYTES, widenToF32 } from '../checkpoint/dtypes.ts'
import type { Checkpoint } from '../checkpoint/types.ts'
import { absmax } from './algorithms/round-to-floats.ts'
import { fusedKey } from './module-roles.ts'
import type { CompressItem, PlanItem } from './plan.ts'
import { schemeNeeds } from './scheme.ts'

export interface WeightMaxima {
  /** max |w| as the item's scheme needs it; null where it needs none. */
  of(item: CompressItem): Promise<number | null>
}

const READ_BYTES = 4 << 20

/** `items` are all of the plan's, finished ones included: partners of a fused layer count whether or not they are still to do. */
export function weightMaxima(source: Checkpoint, items: readonly PlanItem[], throwIfCancelled: () => void): WeightMaxima {
  const fused = new Map<string, CompressItem[]>()
  for (const item of items) {
    if (item.action === 'compress') fused.set(setOf(item), [...(fused.get(setOf(item)) ?? []), item])
  }
  const known = new Map<string, Promise<number>>()
  const maximumOf = (item: CompressItem): Promise<number> => {
    const { name } = item.source
    const found = known.get(name) ?? scan(source, item, throwIfCancelled)
    known.set(name, found)
    return found
  }
  return {
    async of(item) {
      const { weightMaximum } = schemeNeeds(item.scheme)
      if (weightMaximum === null) return null
      const partners = weightMaximum === 'fused' ? (fused.get(setOf(item)) ?? [item]) : [item]
      return Math.max(...(await Promise.all(partners.map(maximumOf))))
    },
  }
}

function setOf(item: CompressItem): string {
  return fusedKey(item.module) ?? item.module
}

async function scan(source: Checkpoint, item: CompressItem, throwIfCancelled: () => void): Promise<number> {
  const bytes = source.open(item.source.name)
  const step = Math.floor(READ_BYTES / DTYPE_BYTES[item.dtype]) * DTYPE_BYTES[item.dtype]
  let largest = 0
  for (let offset = 0; offset < bytes.byteLength; offset += step) {
    throwIfCancelled()
    largest = Math.max(largest, absmax(widenToF32(await bytes.read(offset, Math.min(step, bytes.byteLength - offset)), item.dtype)))
  }
  return largest
}
