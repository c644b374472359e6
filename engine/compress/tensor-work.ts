/**
 * What happens to one tensor's bytes between reading and writing, block by block: quantized and encoded, or checked and passed on, with
 * SHA-256 of what came in and of what goes out. Plain functions over buffers: quantize-worker.ts runs them on a thread, tests run them
 * here. Knows no files and no other tensor.
 */
import { createHash } from 'node:crypto'
import type { Hash } from 'node:crypto'
import { DTYPE_BYTES, findNonFinite, widenToF32 } from '../checkpoint/dtypes.ts'
import type { DenseDtype } from '../checkpoint/dtypes.ts'
import type { StoredDtype } from '../checkpoint/types.ts'
import { LatheError } from '../contract/errors.ts'
import { encodeRows } from './algorithms/encode.ts'
import { addSums, noError } from './algorithms/error-sums.ts'
import type { ErrorSums } from './algorithms/error-sums.ts'
import { roundToFloats } from './algorithms/round-to-floats.ts'
import type { QuantizedRows } from './algorithms/round-to-nearest.ts'
import type { BlockRounder } from './algorithms/simd/block-rounder.ts'
import type { Observer } from './recipe.ts'
import type { Scheme, StoredRole } from './scheme.ts'
import { weightGrid } from './weight-grid.ts'

export type TensorTask =
  /** Bytes pass through unchanged; floating-point ones are checked for NaN and infinities. */
  | { readonly kind: 'keep'; readonly name: string; readonly dtype: StoredDtype; readonly cols: number }
  /** Blocks are whole rows; all but the last a multiple of `blockRowMultiple` rows. */
  | {
      readonly kind: 'quantize'
      readonly name: string
      readonly dtype: DenseDtype
      readonly cols: number
      readonly scheme: Scheme
      readonly observer: Observer
      /** max |w| where the scheme needs it beforehand (`schemeNeeds`). */
      readonly weightMaximum?: number | null
    }

export type PartRole = StoredRole | 'copy'

export interface BlockPart {
  readonly role: PartRole
  /** Owns its whole buffer, so that it can be transferred. */
  readonly bytes: Uint8Array<ArrayBuffer>
}

export interface TensorResult {
  readonly sourceSha256: string
  /** SHA-256 of all bytes of each part. */
  readonly partSha256: Readonly<Partial<Record<PartRole, string>>>
  /** null for a kept tensor. */
  readonly error: ErrorSums | null
  /** Scales that stand for groups of zeros. */
  readonly epsilonScales: number
  readonly scales: number
  /** SHA-256 of the sampled rows as decoded (calibration/store-layer.ts), where values were chosen against more than the source. */
  readonly decodedSha256?: string
}

export interface TensorWork {
  /** Takes ownership of `bytes`. Throws `checkpoint.non-finite` naming the tensor and the element. */
  block(bytes: Uint8Array<ArrayBuffer>): readonly BlockPart[]
  finish(): TensorResult
}

/** `rounder` is shared by all tensors of a thread. */
export function openTensorWork(task: TensorTask, rounder: BlockRounder): TensorWork {
  const sourceHash = createHash('sha256')
  const hashes = new Map<PartRole, Hash>()
  const error = task.kind === 'quantize' ? noError() : null
  let elements = 0
  let epsilonScales = 0
  let scales = 0
  const emit = (parts: readonly BlockPart[]): readonly BlockPart[] => {
    for (const part of parts) {
      const hash = hashes.get(part.role) ?? createHash('sha256')
      hashes.set(part.role, hash.update(part.bytes))
    }
    return parts
  }
  return {
    block(bytes) {
      sourceHash.update(bytes)
      const first = elements
      elements += bytes.byteLength / DTYPE_BYTES[task.dtype]
      if (task.kind === 'keep') {
        refuseNonFinite(bytes, task, first)
        return [{ role: 'copy', bytes }]
      }
      const count = bytes.byteLength / DTYPE_BYTES[task.dtype]
      const quantized = roundBlock(bytes, count / task.cols, task, rounder)
      // A NaN or an infinity anywhere makes this sum one; looking for it costs nothing until then.
      if (!Number.isFinite(quantized.error.source)) refuseNonFinite(bytes, task, first)
      if (error !== null) addSums(error, quantized.error)
      scales += quantized.scales.length
      const { emptyScale } = weightGrid(task.scheme, task.dtype)
      for (const scale of quantized.scales) if (scale === emptyScale) epsilonScales++
      const encoded = encodeRows(quantized, task.scheme, task.dtype)
      // The one scale of a whole tensor comes with every block and is stored once.
      const parts =
        first > 0 && task.scheme.kind === 'fp8' && task.scheme.strategy === 'tensor'
          ? encoded.filter(({ role }) => role !== 'scale')
          : encoded
      return emit(parts.map((part) => ({ role: part.role, bytes: owned(part.bytes) })))
    },
    finish() {
      const sourceSha256 = sourceHash.digest('hex')
      // What passes through unchanged is hashed once.
      const digests = task.kind === 'keep' ? [['copy', sourceSha256]] : [...hashes].map(([role, hash]) => [role, hash.digest('hex')])
      return { sourceSha256, partSha256: Object.fromEntries(digests) as TensorResult['partSha256'], error, epsilonScales, scales }
    },
  }
}

function roundBlock(
  bytes: Uint8Array,
  rows: number,
  task: Extract<TensorTask, { kind: 'quantize' }>,
  rounder: BlockRounder,
): QuantizedRows {
  const { cols, scheme, dtype, observer, weightMaximum = null } = task
  if (scheme.kind === 'packed-int') return rounder.round(bytes, rows, cols, scheme, dtype, observer)
  return roundToFloats(widenToF32(bytes, dtype), rows, cols, scheme, dtype, observer, weightMaximum)
}

function refuseNonFinite(bytes: Uint8Array, task: TensorTask, firstElement: number): void {
  const found = findNonFinite(bytes, task.dtype)
  if (found === null) return
  const index = firstElement + found.firstIndex
  const row = Math.floor(index / task.cols)
  const column = index % task.cols
  throw new LatheError(
    'checkpoint.non-finite',
    `${task.name} holds ${found.firstValue} at element ${index} (row ${row}, column ${column}).`,
    'The model is damaged: no finite result can come of it. Download it again, or export it again from training.',
    { data: { tensor: task.name, index, row, column } },
  )
}

function owned(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = bytes
  if (buffer instanceof ArrayBuffer && bytes.byteOffset === 0 && bytes.byteLength === buffer.byteLength) return new Uint8Array(buffer)
  return new Uint8Array(bytes)
}
