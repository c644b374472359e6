/**
 * The reference backend: the seam in f64, obviously right and slow. It is the oracle of every kernel test and the `reference` adapter of the
 * command line. Weights are decoded to f64, so it needs up to sixteen times a 4-bit checkpoint's bytes.
 */
import { LatheError } from '../../contract/errors.ts'
import { checkProgram, weightBytes } from '../check-program.ts'
import type { Backend, CompileOptions, DriftRows, Executable, InputQuantization, KvCache, KvLayout, Program, Value } from '../program.ts'
import { decodeWeight, readNumber } from './decode-weight.ts'
import { extentRows, ReferenceExecutable } from './executable.ts'
import { kvCacheBytes, ReferenceKvCache } from './kv-cache.ts'
import { Ledger, type Lease } from './ledger.ts'
import { reduceDrift } from './reductions.ts'

export function createReferenceBackend(): Backend {
  return new ReferenceBackend()
}

class ReferenceBackend implements Backend {
  readonly id = 'reference'
  readonly kind = 'reference'
  readonly software = true
  /** The CPU cannot be lost: stays pending. */
  readonly lost = new Promise<string>(() => {})
  readonly #ledger = new Ledger()
  readonly #live = new Set<Disposable>()

  createKvCache(layout: KvLayout, owner: string): Promise<KvCache> {
    const lease = this.#ledger.hold(owner, kvCacheBytes(layout))
    const cache: ReferenceKvCache = new ReferenceKvCache(layout, () => {
      lease[Symbol.dispose]()
      this.#live.delete(cache)
    })
    this.#live.add(cache)
    return Promise.resolve(cache)
  }

  async compile(program: Program, options: CompileOptions): Promise<Executable> {
    const { capacity, kv, owner } = options
    if (!(kv instanceof ReferenceKvCache)) throw foreign('KV cache')
    if (options.matrixUnits === true)
      throw new LatheError('gpu.unsupported', 'The reference backend has no matrix units.', 'Leave matrix units off.')
    checkProgram(program, capacity, kv.layout)
    const leases: Lease[] = []
    try {
      const weights = await this.#loadWeights(program, options, leases)
      const staticScales = await loadStaticScales(program)
      const values = new Map<number, Float64Array>()
      for (const value of writtenValues(program)) {
        const buffer = new Float64Array(extentRows(value.extent, capacity) * value.width)
        values.set(value.id, buffer)
        leases.push(this.#ledger.hold(owner, buffer.byteLength))
      }
      const sums = new Map<number, Float64Array>()
      for (const operation of program.operations) {
        if (operation.op !== 'gram' && operation.op !== 'columnSums') continue
        const { id, width } = operation.out
        if (sums.has(id)) continue
        const buffer = new Float64Array(width * (operation.op === 'gram' ? width : 4))
        sums.set(id, buffer)
        leases.push(this.#ledger.hold(owner, buffer.byteLength))
      }
      const executable: ReferenceExecutable = new ReferenceExecutable(
        { program, capacity, kv, weights, values, sums, staticScales },
        () => {
          for (const lease of leases) lease[Symbol.dispose]()
          this.#live.delete(executable)
        },
      )
      this.#live.add(executable)
      return executable
    } catch (error) {
      for (const lease of leases) lease[Symbol.dispose]()
      throw error
    }
  }

  drift(baseline: Executable, candidate: Executable, rows: number, targets: Uint32Array): Promise<DriftRows> {
    if (!(baseline instanceof ReferenceExecutable) || !(candidate instanceof ReferenceExecutable)) throw foreign('executable')
    const { vocabulary } = baseline.program
    const size = rows * vocabulary
    const fits = baseline.logits().length === size && candidate.logits().length === size && targets.length === rows
    if (!fits || candidate.program.vocabulary !== vocabulary) {
      throw new LatheError('gpu.invalid-operation', `Drift over ${rows} rows, but the last steps left other rows.`, 'Report this defect.')
    }
    return Promise.resolve(reduceDrift(baseline.logits(), candidate.logits(), vocabulary, targets))
  }

  usage(): ReadonlyMap<string, { readonly bytes: number; readonly buffers: number }> {
    return this.#ledger.usage()
  }

  [Symbol.asyncDispose](): Promise<void> {
    for (const resource of Array.from(this.#live)) resource[Symbol.dispose]()
    return Promise.resolve()
  }

  async #loadWeights(program: Program, options: CompileOptions, leases: Lease[]): Promise<Map<number, Float64Array>> {
    const weights = new Map<number, Float64Array>()
    const totalBytes = program.weights.reduce((sum, weight) => sum + weightBytes(weight), 0)
    let doneBytes = 0
    for (const weight of program.weights) {
      options.signal?.throwIfAborted()
      const matrix = await decodeWeight(weight)
      weights.set(weight.id, matrix)
      leases.push(this.#ledger.hold(options.owner, matrix.byteLength))
      doneBytes += weightBytes(weight)
      options.onProgress?.(doneBytes, totalBytes)
    }
    options.signal?.throwIfAborted()
    return weights
  }
}

async function loadStaticScales(program: Program): Promise<Map<InputQuantization, number>> {
  const scales = new Map<InputQuantization, number>()
  for (const operation of program.operations) {
    const quantization = operation.op === 'linear' ? (operation.inputQuantization ?? null) : null
    if (quantization === null || quantization.staticScale === null) continue
    scales.set(quantization, await readNumber(quantization.staticScale, quantization.staticDtype))
  }
  return scales
}

function writtenValues(program: Program): ReadonlySet<Value> {
  return new Set(
    program.operations.flatMap((operation) => {
      if (operation.op === 'gram' || operation.op === 'columnSums') return []
      return [operation.op === 'ropeAppend' ? operation.q : operation.out]
    }),
  )
}

function foreign(what: string): LatheError {
  return new LatheError('gpu.invalid-operation', `The ${what} belongs to another backend.`, 'This is a defect in Lathe. Report it.')
}
