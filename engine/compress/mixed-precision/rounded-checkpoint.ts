/**
 * A checkpoint as it would read back with some of its linears compressed, rounded only when a tensor is asked for: a whole map of schemes can
 * be tried on a device without a file, and with no more memory than the tensor being loaded. Data-free: the observer must need no inputs.
 */
import { DTYPE_BYTES, asBytes, isDenseDtype, widenToF32 } from '../../checkpoint/dtypes.ts'
import type { ByteSource, Checkpoint, TensorEntry } from '../../checkpoint/types.ts'
import { withTensors } from '../calibration/memory-checkpoint.ts'
import type { Observer } from '../recipe.ts'
import { roundTripOf } from '../round-trip.ts'
import type { Scheme } from '../scheme.ts'

export interface RoundedLinears {
  readonly modules: readonly string[]
  /** Null = as they are. */
  readonly scheme: Scheme | null
}

/** Not to be disposed: it owns nothing. Rounded tensors are F32, of the shape that they have in `source`. */
export function roundedCheckpoint(source: Checkpoint, linears: readonly RoundedLinears[], observer: Observer): Checkpoint {
  const schemes = new Map<string, Scheme>()
  const tensors = new Map<string, TensorEntry>(source.tensors)
  for (const { modules, scheme } of linears) {
    if (scheme === null) continue
    for (const module of modules) {
      const name = `${module}.weight`
      const entry = source.tensors.get(name)
      if (entry === undefined || !isDenseDtype(entry.dtype)) throw new RangeError(`${name} is no dense matrix of this checkpoint`)
      schemes.set(name, scheme)
      tensors.set(name, { ...entry, dtype: 'F32', byteLength: (entry.byteLength / DTYPE_BYTES[entry.dtype]) * DTYPE_BYTES.F32 })
    }
  }
  return withTensors(source, tensors, (name) => {
    const scheme = schemes.get(name)
    return scheme === undefined ? source.open(name) : roundedSource(source, name, scheme, observer)
  })
}

function roundedSource(source: Checkpoint, name: string, scheme: Scheme, observer: Observer): ByteSource {
  let rounded: Promise<Uint8Array> | null = null
  const entry = source.tensors.get(name)
  if (entry === undefined || !isDenseDtype(entry.dtype)) throw new RangeError(`${name} is no dense matrix of this checkpoint`)
  const { dtype, byteLength } = entry
  const [rows = 0, cols = 0] = entry.shape
  const round = async (): Promise<Uint8Array> => {
    const values = widenToF32(await source.open(name).read(0, byteLength), dtype).slice()
    return asBytes(Float32Array.from(roundTripOf({ scheme, observer }, dtype, [])(values, rows, cols, null)))
  }
  return {
    byteLength: (byteLength / DTYPE_BYTES[dtype]) * DTYPE_BYTES.F32,
    // Read in ranges, rounded once.
    read: async (offset, length) => (await (rounded ??= round())).subarray(offset, offset + length),
  }
}
