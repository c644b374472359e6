/**
 * The last look before a folder gets its name (specs/compressed-tensors.md §11): it is opened like any model, every byte is hashed against
 * what was written, and compressed matrices are decoded by the reader's own code and compared with the source. Throws
 * `compress.verification-failed` at the first thing that is not as it must be. Repairs nothing.
 */
import { createHash } from 'node:crypto'
import { asBytes, widenToF32 } from '../checkpoint/dtypes.ts'
import { openDequantizer } from '../checkpoint/dequantize.ts'
import { storedLinears } from '../checkpoint/modules.ts'
import type { StoredLinear } from '../checkpoint/modules.ts'
import { openCheckpoint } from '../checkpoint/open.ts'
import { serializeQuantizationConfig } from '../checkpoint/quantization-config.ts'
import type { Checkpoint } from '../checkpoint/types.ts'
import { LatheError } from '../contract/errors.ts'
import { createBufferPool } from './buffer-pool.ts'
import type { BufferPool } from './buffer-pool.ts'
import { folderFindings } from './folder-findings.ts'
import { inParallel } from './in-parallel.ts'
import type { JournalEntry } from './journal.ts'
import type { CompressItem, CompressionPlan } from './plan.ts'
import { transferable } from './worker-pool.ts'
import type { PooledTensor, WorkerPool } from './worker-pool.ts'

const READ_BYTES = 4 << 20
/** Elements decoded in each of three places of a matrix: its start, middle and end. Small matrices are compared whole. */
const SAMPLE_ELEMENTS = 64 * 1024

export interface VerifyOptions {
  readonly folder: string
  readonly source: Checkpoint
  readonly plan: CompressionPlan
  readonly entries: ReadonlyMap<string, JournalEntry>
  readonly pool: WorkerPool
  readonly signal: AbortSignal | undefined
  readonly onBytes: (bytes: number, tensor: string) => void
}

/** Resolves to what somebody should know although nothing is wrong with it. */
export async function verifyOutput(options: VerifyOptions): Promise<readonly string[]> {
  const { plan, source, signal } = options
  await using result = await openCheckpoint(options.folder)
  checkTensors(result, plan)
  checkConfig(result, plan)
  const findings = await folderFindings(options.folder, signal)
  const wrong = findings.find(({ severity }) => severity === 'error')
  if (wrong !== undefined) throw failed(`${wrong.text} (${wrong.check})`)
  const buffers = createBufferPool()
  await inParallel(options.pool.size * 2, plan.items, async (item) => {
    signal?.throwIfAborted()
    const entry = options.entries.get(item.source.name)
    if (entry === undefined) throw failed(`${item.source.name} is not in the journal`)
    for (const output of entry.outputs) await checkBytes(result, output, options, buffers)
  })
  const linears = new Map((await storedLinears(result)).map((linear) => [linear.name, linear]))
  for (const item of plan.items) {
    if (item.action !== 'compress') continue
    signal?.throwIfAborted()
    const linear = linears.get(item.module)
    if (linear === undefined || linear.args === null) throw failed(`a reader does not take ${item.module} for a quantized matrix`)
    await checkDecoded(source, result, item, linear, options.entries)
  }
  const lost = [...linears.values()].find(
    (linear) => linear.args !== null && !plan.items.some((item) => item.action === 'compress' && item.module === linear.name),
  )
  if (lost !== undefined) throw failed(`a reader takes ${lost.name} for quantized, which it is not`)
  return findings.map(({ text }) => text)
}

/** Exactly the planned tensors, no leftover `P.weight`, nothing doubled. */
function checkTensors(result: Checkpoint, plan: CompressionPlan): void {
  const planned = plan.write.files.flatMap((file) => file.tensors)
  for (const tensor of planned) {
    const found = result.tensors.get(tensor.name)
    if (found === undefined) throw failed(`${tensor.name} is missing`)
    if (found.dtype !== tensor.dtype || found.shape.join() !== tensor.shape.join() || found.file !== tensor.file) {
      throw failed(`${tensor.name} is ${found.dtype} [${found.shape.join(', ')}] in ${found.file}`)
    }
  }
  if (result.tensors.size !== planned.length) throw failed(`it holds ${result.tensors.size} tensors instead of ${planned.length}`)
}

function checkConfig(result: Checkpoint, plan: CompressionPlan): void {
  if (plan.quantization === null) {
    if (result.quantization !== null) throw failed('config.json has a quantization_config although nothing is quantized')
    return
  }
  if (result.quantization === null) throw failed('config.json has no quantization_config')
  const written = JSON.stringify(serializeQuantizationConfig(result.quantization))
  if (written !== JSON.stringify(serializeQuantizationConfig(plan.quantization)))
    throw failed('quantization_config does not read back as it was written')
}

async function checkBytes(
  result: Checkpoint,
  output: JournalEntry['outputs'][number],
  options: VerifyOptions,
  buffers: BufferPool,
): Promise<void> {
  const tensor = result.tensors.get(output.name)
  if (tensor === undefined) throw failed(`${output.name} is missing`)
  const bytes = result.open(output.name)
  // Also refuses NaN and infinities, so the scales are checked here.
  const work: PooledTensor = options.pool.open({ kind: 'keep', name: output.name, dtype: tensor.dtype, cols: tensor.shape.at(-1) ?? 1 })
  for (let offset = 0; offset < bytes.byteLength; offset += READ_BYTES) {
    options.signal?.throwIfAborted()
    const length = Math.min(READ_BYTES, bytes.byteLength - offset)
    const lent = buffers.take(READ_BYTES)
    const { parts } = await work.block(transferable(await bytes.read(offset, length, lent), lent))
    for (const part of parts) buffers.give(part.bytes)
    options.onBytes(length, output.name)
  }
  const { sourceSha256 } = await work.finish()
  if (sourceSha256 !== output.sha256) throw failed(`${output.name} reads back with other bytes than were written`)
}

/** No decoded weight is further from its source than the largest error measured while quantizing. */
async function checkDecoded(
  source: Checkpoint,
  result: Checkpoint,
  item: CompressItem,
  linear: StoredLinear,
  entries: ReadonlyMap<string, JournalEntry>,
): Promise<void> {
  if (linear.rows !== item.rows || linear.cols !== item.cols) throw failed(`${item.module} reads back as ${linear.rows} × ${linear.cols}`)
  const entry = entries.get(item.source.name)
  if (entry?.decodedSha256 !== undefined) return checkDigest(result, item, linear, entry.decodedSha256)
  const limit = entry?.figures?.maxError
  if (limit === undefined) throw failed(`the error of ${item.module} was not recorded`)
  const dequantizer = await openDequantizer(result, linear)
  const original = source.open(item.source.name)
  const rowBytes = item.source.byteLength / item.rows
  for (const [from, to] of sampledRows(item.rows, item.cols)) {
    const decoded = await dequantizer.rows(from, to)
    const expected = widenToF32(await original.read(from * rowBytes, (to - from) * rowBytes), item.dtype)
    for (let i = 0; i < expected.length; i++) {
      const error = Math.abs((expected[i] as number) - (decoded[i] as number))
      // Not "error > limit": a NaN must fail too.
      if (!(error <= limit)) {
        throw failed(
          `${item.module} decodes to ${decoded[i]} at row ${from + Math.floor(i / item.cols)}, where the source has ${expected[i]}`,
        )
      }
    }
  }
}

/** Where a step changed weights before they were quantized, the source is no measure: readers must get exactly what was chosen. */
async function checkDigest(result: Checkpoint, item: CompressItem, linear: StoredLinear, expected: string): Promise<void> {
  const dequantizer = await openDequantizer(result, linear)
  const hash = createHash('sha256')
  for (const [from, to] of sampledRows(item.rows, item.cols)) {
    const decoded = await dequantizer.rows(from, to)
    if (!decoded.every(Number.isFinite)) throw failed(`${item.module} decodes to numbers that are not finite`)
    hash.update(asBytes(decoded))
  }
  if (hash.digest('hex') !== expected) throw failed(`${item.module} decodes to other values than were chosen`)
}

/** Ranges of rows to compare; all of a small matrix. */
export function sampledRows(rows: number, cols: number): readonly (readonly [number, number])[] {
  const count = Math.max(1, Math.floor(SAMPLE_ELEMENTS / cols))
  if (rows <= 3 * count) return [[0, rows]]
  const middle = Math.floor((rows - count) / 2)
  return [
    [0, count],
    [middle, middle + count],
    [rows - count, rows],
  ]
}

function failed(what: string): LatheError {
  return new LatheError(
    'compress.verification-failed',
    `The result was checked before it got its name, and ${what}.`,
    'Nothing was published. Check the disk, discard the unfinished run and try again; if it happens again, report it.',
  )
}
