/**
 * A checkpoint in which some matrices have other values, held in memory as F32: what a model would be with only these layers compressed,
 * without writing a folder. Everything else is read from the original.
 */
import { asBytes } from '../../checkpoint/dtypes.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'

/** `values` by tensor name; each has as many elements as the original. The original stays the caller's to close. */
export function overlayCheckpoint(source: Checkpoint, values: ReadonlyMap<string, Float32Array>): Checkpoint {
  const tensors = new Map(source.tensors)
  for (const [name, array] of values) {
    const entry = source.tensors.get(name)
    const elements = entry?.shape.reduce((product, size) => product * size, 1) ?? null
    if (entry === undefined || elements !== array.length)
      throw new RangeError(`${array.length} values for ${name}, which has ${elements ?? 'no place'}`)
    tensors.set(name, { ...entry, dtype: 'F32', byteLength: array.byteLength })
  }
  return {
    folder: source.folder,
    config: source.config,
    generationConfig: source.generationConfig,
    quantization: source.quantization,
    metadata: source.metadata,
    files: source.files,
    tensors,
    open(name) {
      const replaced = values.get(name)
      if (replaced === undefined) return source.open(name)
      const bytes = asBytes(replaced)
      return {
        byteLength: bytes.byteLength,
        read(offset, length) {
          if (offset < 0 || length < 0 || offset + length > bytes.byteLength) {
            return Promise.reject(new RangeError(`bytes ${offset} … ${offset + length} of ${name}, which has ${bytes.byteLength}`))
          }
          return Promise.resolve(bytes.slice(offset, offset + length))
        },
      }
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}
