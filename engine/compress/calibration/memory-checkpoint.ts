/** A Checkpoint made of another one with some tensors' values replaced by f32 arrays in memory: trial weights for a layer's program. */
import { asBytes } from '../../checkpoint/dtypes.ts'
import type { ByteSource, Checkpoint, TensorEntry } from '../../checkpoint/types.ts'

/** `replaced` by tensor name; shapes stay those of `source`. The result is not to be disposed: it owns nothing. */
export function withValues(source: Checkpoint, replaced: ReadonlyMap<string, Float32Array>): Checkpoint {
  const tensors = new Map<string, TensorEntry>(source.tensors)
  for (const [name, values] of replaced) {
    const entry = source.tensors.get(name)
    if (entry === undefined) throw new Error(`the source has no tensor ${name}`)
    tensors.set(name, { ...entry, dtype: 'F32', byteLength: values.byteLength })
  }
  return withTensors(source, tensors, (name) => {
    const values = replaced.get(name)
    return values === undefined ? source.open(name) : bytesOf(values)
  })
}

/** `source` as a dense checkpoint with other entries, read by `open`. The result is not to be disposed: it owns nothing. */
export function withTensors(source: Checkpoint, tensors: ReadonlyMap<string, TensorEntry>, open: Checkpoint['open']): Checkpoint {
  return {
    folder: source.folder,
    config: source.config,
    generationConfig: source.generationConfig,
    quantization: null,
    metadata: source.metadata,
    files: source.files,
    tensors,
    open,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}

function bytesOf(values: Float32Array): ByteSource {
  const bytes = asBytes(values)
  return { byteLength: bytes.byteLength, read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)) }
}
