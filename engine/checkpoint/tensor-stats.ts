/**
 * Statistics and histogram of one tensor, streamed in blocks, dequantized where it is stored packed. 8- and 16-bit types are counted by bit
 * pattern, which makes everything exact from one pass; wider ones take a pass for range and mean and a second for spread and histogram.
 */
import { LatheError } from '../contract/errors.ts'
import type { TensorStats } from '../contract/model.ts'
import { openDequantizer } from './dequantize.ts'
import { DTYPE_BYTES, asUint16, valueTable, widenToF32 } from './dtypes.ts'
import type { StoredLinear } from './modules.ts'
import { storedLinear } from './modules.ts'
import type { Checkpoint, StoredDtype, TensorEntry } from './types.ts'

export interface StatsOptions {
  /** Histogram bins over [min, max]. */
  readonly bins?: number
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void
}

/** Enough to see outliers beside the bulk, few enough for one bar per two pixels of a small chart. */
const DEFAULT_BINS = 80
/** Large enough that reads run at disk speed, small enough that cancelling is felt at once. */
const BLOCK_BYTES = 4 << 20

/** A pass over all values, block by block; may be started twice. */
interface ValueSource {
  readonly totalBytes: number
  blocks(): AsyncIterable<{ readonly values: Float32Array; readonly bytes: number }>
}

/**
 * Statistics of a stored tensor. For the weight of a quantized linear (its `weight`, `weight_packed`) the values are the dequantized ones.
 * NaN and infinities are left out of every figure but `count`, and counted in `nonFiniteCount`. Throws `checkpoint.missing-tensor`,
 * `checkpoint.unsupported-scheme`, `job.cancelled`.
 */
export async function tensorStats(checkpoint: Checkpoint, name: string, options: StatsOptions = {}): Promise<TensorStats> {
  const entry = checkpoint.tensors.get(name)
  if (entry === undefined) {
    throw new LatheError('checkpoint.missing-tensor', `The model has no tensor "${name.slice(0, 120)}".`, 'It may belong to another model.')
  }
  const bins = options.bins ?? DEFAULT_BINS
  const linear = await quantizedLinearOf(checkpoint, name)
  if (linear === null && isNarrow(entry.dtype)) return countPatterns(checkpoint, entry, entry.dtype, bins, options)
  const source = linear === null ? rawSource(checkpoint, entry) : await dequantizedSource(checkpoint, linear)
  return twoPasses(name, source, bins, options)
}

/** The quantized linear whose weight this tensor is, or null for any other tensor. */
async function quantizedLinearOf(checkpoint: Checkpoint, name: string): Promise<StoredLinear | null> {
  if (checkpoint.quantization === null || !/\.weight(?:_packed)?$/.test(name)) return null
  const module = name.slice(0, name.lastIndexOf('.'))
  if (checkpoint.tensors.get(`${module}.weight_scale`) === undefined) return null
  const linear = await storedLinear(checkpoint, module)
  return linear === null || linear.format === 'dense' ? null : linear
}

type NarrowDtype = Parameters<typeof valueTable>[0]

function isNarrow(dtype: StoredDtype): dtype is NarrowDtype {
  return DTYPE_BYTES[dtype] <= 2
}

async function* rawBlocks(checkpoint: Checkpoint, entry: TensorEntry): AsyncGenerator<Uint8Array> {
  const source = checkpoint.open(entry.name)
  for (let at = 0; at < source.byteLength; at += BLOCK_BYTES) yield source.read(at, Math.min(BLOCK_BYTES, source.byteLength - at))
}

function rawSource(checkpoint: Checkpoint, entry: TensorEntry): ValueSource {
  return {
    totalBytes: entry.byteLength,
    async *blocks() {
      for await (const bytes of rawBlocks(checkpoint, entry)) yield { values: widenToF32(bytes, entry.dtype), bytes: bytes.byteLength }
    },
  }
}

async function dequantizedSource(checkpoint: Checkpoint, linear: StoredLinear): Promise<ValueSource> {
  const dequantizer = await openDequantizer(checkpoint, linear)
  const rowsPerBlock = Math.max(1, Math.floor(BLOCK_BYTES / 4 / Math.max(1, linear.cols)))
  const rowBytes = linear.rows === 0 ? 0 : linear.byteLength / linear.rows
  return {
    totalBytes: linear.byteLength,
    async *blocks() {
      for (let row = 0; row < linear.rows; row += rowsPerBlock) {
        const end = Math.min(linear.rows, row + rowsPerBlock)
        yield { values: await dequantizer.rows(row, end), bytes: (end - row) * rowBytes }
      }
    },
  }
}

function assertNotCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new LatheError('job.cancelled', 'Reading the tensor was cancelled.', 'Open it again when you like.')
}

async function countPatterns(
  checkpoint: Checkpoint,
  entry: TensorEntry,
  dtype: NarrowDtype,
  bins: number,
  options: StatsOptions,
): Promise<TensorStats> {
  const values = valueTable(dtype)
  const counts = new Float64Array(values.length)
  let doneBytes = 0
  for await (const bytes of rawBlocks(checkpoint, entry)) {
    assertNotCancelled(options.signal)
    const patterns = values.length === 256 ? bytes : asUint16(bytes)
    for (let i = 0; i < patterns.length; i++) (counts[patterns[i] as number] as number)++
    doneBytes += bytes.byteLength
    options.onProgress?.({ doneBytes, totalBytes: entry.byteLength })
  }
  const moments = newMoments()
  for (let i = 0; i < values.length; i++) if (counts[i] !== 0) addValue(moments, values[i] as number, counts[i] as number)
  const spread = newSpread(moments, bins)
  for (let i = 0; i < values.length; i++) if (counts[i] !== 0) addToSpread(spread, values[i] as number, counts[i] as number)
  return statsOf(entry.name, moments, spread)
}

async function twoPasses(name: string, source: ValueSource, bins: number, options: StatsOptions): Promise<TensorStats> {
  const totalBytes = source.totalBytes * 2
  let doneBytes = 0
  const pass = async (visit: (value: number) => void): Promise<void> => {
    for await (const { values, bytes } of source.blocks()) {
      assertNotCancelled(options.signal)
      for (let i = 0; i < values.length; i++) visit(values[i] as number)
      doneBytes += bytes
      options.onProgress?.({ doneBytes, totalBytes })
    }
  }
  const moments = newMoments()
  await pass((value) => addValue(moments, value, 1))
  const spread = newSpread(moments, bins)
  await pass((value) => addToSpread(spread, value, 1))
  return statsOf(name, moments, spread)
}

interface Moments {
  count: number
  finite: number
  zeros: number
  sum: number
  min: number
  max: number
}

function newMoments(): Moments {
  return { count: 0, finite: 0, zeros: 0, sum: 0, min: Infinity, max: -Infinity }
}

function addValue(moments: Moments, value: number, times: number): void {
  moments.count += times
  // Infinity − Infinity and NaN − NaN are NaN, everything finite is 0.
  if (value - value !== 0) return
  moments.finite += times
  if (value === 0) moments.zeros += times
  moments.sum += value * times
  if (value < moments.min) moments.min = value
  if (value > moments.max) moments.max = value
}

interface Spread {
  readonly mean: number
  readonly from: number
  readonly to: number
  readonly binsPerUnit: number
  readonly counts: number[]
  squares: number
}

function newSpread(moments: Moments, bins: number): Spread {
  const empty = moments.finite === 0
  const from = empty ? 0 : moments.min
  const to = empty ? 0 : moments.max
  return {
    mean: empty ? 0 : moments.sum / moments.finite,
    from,
    to,
    binsPerUnit: to > from ? bins / (to - from) : 0,
    counts: Array.from({ length: bins }, () => 0),
    squares: 0,
  }
}

function addToSpread(spread: Spread, value: number, times: number): void {
  if (value - value !== 0) return
  spread.squares += (value - spread.mean) ** 2 * times
  // The maximum belongs to the last bin; a constant tensor falls into the first.
  const bin = Math.min(spread.counts.length - 1, Math.floor((value - spread.from) * spread.binsPerUnit))
  ;(spread.counts[bin] as number) += times
}

function statsOf(name: string, moments: Moments, spread: Spread): TensorStats {
  const { count, finite } = moments
  return {
    name,
    count,
    min: spread.from,
    max: spread.to,
    mean: spread.mean,
    standardDeviation: finite === 0 ? 0 : Math.sqrt(spread.squares / finite),
    zeroFraction: finite === 0 ? 0 : moments.zeros / finite,
    histogram: { from: spread.from, to: spread.to, counts: spread.counts },
    nonFiniteCount: count - finite,
  }
}
