/** Gram matrices and column sums against sums in f64 that this file makes itself, over several steps, ragged widths, and cut into shards. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createReferenceBackend } from '../../reference/backend.ts'
import type { Accumulator, Backend, Capacity, Program, Value } from '../../program.ts'
import { isStateful } from '../../program.ts'
import { narrowGpuTuning, testBackends, testConfigurations } from '../../test/adapters.ts'
import { NO_CACHE, normals, prepare, randomFrom, sequenceStep } from '../../test/numeric.ts'

const CAPACITY: Capacity = { tokens: 40, rows: 1, sequences: 1, blocksPerSequence: 2 }
/** Of the largest term: f32 sums of a hundred products. */
const TOLERANCE = 2 ** -20

function statisticsProgram(width: number) {
  const x: Value = { id: 0, name: 'x', extent: 'tokens', width }
  const logits: Value = { id: 1, name: 'logits', extent: 'rows', width }
  const gram: Accumulator = { id: 0, name: 'gram', kind: 'gram', width }
  const columns: Accumulator = { id: 1, name: 'columns', kind: 'columns', width }
  const program: Program = {
    operations: [
      { op: 'input', out: x },
      { op: 'gram', x, out: gram },
      { op: 'columnSums', x, out: columns },
      { op: 'gatherRows', x, out: logits },
    ],
    weights: [],
    ropes: [],
    logits,
    vocabulary: width,
  }
  return { program, x, gram, columns }
}

function expected(chunks: readonly Float32Array[], width: number): { gram: Float64Array; columns: Float64Array } {
  const gram = new Float64Array(width * width)
  const columns = new Float64Array(4 * width)
  for (const chunk of chunks) {
    for (let row = 0; row < chunk.length; row += width) {
      for (let i = 0; i < width; i++) {
        const value = chunk[row + i]!
        columns[i]! += Math.abs(value)
        columns[width + i]! += value ** 2
        columns[2 * width + i] = Math.max(columns[2 * width + i]!, value)
        columns[3 * width + i] = Math.max(columns[3 * width + i]!, -value)
        for (let j = 0; j < width; j++) gram[i * width + j]! += value * chunk[row + j]!
      }
    }
  }
  return { gram, columns }
}

async function worst(backend: Backend, width: number, sizes: readonly number[]): Promise<number> {
  const { program, x, gram, columns } = statisticsProgram(width)
  const random = randomFrom(width)
  const chunks = sizes.map((tokens) => normals(random, tokens * width, 2))
  using prepared = await prepare(backend, program, NO_CACHE, CAPACITY)
  const { executable } = prepared
  if (!isStateful(executable)) throw new Error('not stateful')
  const run = async (chunk: Float32Array): Promise<void> => {
    executable.write(x, chunk)
    await executable.step({
      ...sequenceStep(chunk.length / width, NO_CACHE, CAPACITY),
      logitRows: new Uint32Array(0),
      samplers: [],
      targets: new Uint32Array(0),
    })
  }
  // What came before `clear` must leave no trace.
  await run(chunks[0]!)
  executable.clear()
  for (const chunk of chunks) await run(chunk)
  const want = expected(chunks, width)
  const [foundGram, foundColumns] = [await executable.accumulated(gram), await executable.accumulated(columns)]
  let error = 0
  for (const [i, value] of want.gram.entries()) {
    const scale = Math.sqrt(want.gram[Math.floor(i / width) * (width + 1)]! * want.gram[(i % width) * (width + 1)]!)
    error = Math.max(error, Math.abs(foundGram[i]! - value) / scale)
  }
  for (const [i, value] of want.columns.entries()) error = Math.max(error, Math.abs(foundColumns[i]! - value) / Math.max(1, value))
  return error
}

describe('reference', () => {
  it.each([1, 5, 67])('width %i', async (width) => {
    await using backend = createReferenceBackend()
    expect(await worst(backend, width, [3, 40])).toBeLessThanOrEqual(2 ** -23)
  })
})

// Either kernel on the adapter it compiles fastest on; the others take seconds of LLVM and found nothing.
describe.each((await testConfigurations()).filter(({ thorough }) => thorough))('$name', ({ open }) => {
  let backend: Backend
  beforeAll(async () => {
    backend = await open()
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
  })

  it.each([130, 1, 6, 64])('width %i', async (width) => {
    expect(await worst(backend, width, [1, 40, 17])).toBeLessThanOrEqual(TOLERANCE)
  })
})

it.each((await testBackends()).filter(({ adapter }) => adapter === 'swiftshader'))('in shards of 64 rows on $name', async ({ open }) => {
  await using backend = await open({ tuning: { ...narrowGpuTuning(), weightShardBytes: 64 * 130 * 4 } })
  expect(await worst(backend, 130, [5, 3])).toBeLessThanOrEqual(TOLERANCE)
})

it.each((await testBackends()).filter(({ adapter }) => adapter === 'swiftshader'))('in wide tiles on $name', async ({ open }) => {
  await using backend = await open({ tuning: { ...narrowGpuTuning(), gram: { wideFrom: 0 }, weightShardBytes: 192 * 4 * 300 } })
  for (const width of [300, 5]) expect(await worst(backend, width, [1, 40, 17])).toBeLessThanOrEqual(TOLERANCE)
})
