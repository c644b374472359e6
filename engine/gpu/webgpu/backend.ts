/** The WebGPU implementation of the numeric seam, and the one way to open a backend of either kind. */
import { LatheError } from '../../contract/errors.ts'
import { chooseAdapter, REFERENCE_ADAPTER_ID } from '../adapters.ts'
import type { Backend, CompileOptions, DriftRows, Executable, KvCache, KvLayout, MatrixUnitsState, Program } from '../program.ts'
import type {
  HessianFactorRequest,
  HessianSource,
  QuadraticForms,
  RecoverySolver,
  SecondOrderBackend,
  SecondOrderSolver,
} from '../second-order.ts'
import { type GpuDevice, openDevice } from './device.ts'
import { runDrift } from './drift.ts'
import { WebGpuExecutable } from './executable.ts'
import type { ToggleProfile } from './instance.ts'
import { KernelCache } from './kernel.ts'
import { WebGpuKvCache } from './kv-cache.ts'
import { Ledger, type LedgerUsage } from './ledger.ts'
import { checkMatrixUnits } from './matrix-check.ts'
import { type MatrixMode, matrixModeOf } from './matrix-units.ts'
import { openQuadraticForms } from './second-order/quadratic.ts'
import { openRecovery } from './second-order/recover.ts'
import { openSolver } from './second-order/solver.ts'
import { type Tuning, tuningFor } from './tuning.ts'

export interface OpenBackendOptions {
  /** Default `production`. */
  readonly profile?: ToggleProfile
  /** Refuse allocations beyond this many bytes; default none but the driver's. */
  readonly budgetBytes?: number
  /** Kernel shapes other than the adapter's own, for tests and tuning. */
  readonly tuning?: Tuning
}

/**
 * Opens the adapter with this id (or part of its id or name), null = LATHE_ADAPTER, else the best by type; "reference" is the f64 backend.
 * Throws `gpu.no-adapter`, `gpu.unsupported`.
 */
export async function openBackend(adapterId: string | null, options: OpenBackendOptions = {}): Promise<Backend> {
  const found = await chooseAdapter(adapterId)
  if (found.adapter.id === REFERENCE_ADAPTER_ID) {
    const { createReferenceBackend } = await import('../reference/backend.ts')
    return createReferenceBackend()
  }
  const gpu = await openDevice(found, options.profile ?? 'production')
  return new WebGpuBackend(gpu, options.tuning ?? tuningFor(gpu), options.budgetBytes ?? null)
}

export class WebGpuBackend implements Backend, SecondOrderBackend {
  readonly id: string
  readonly kind = 'webgpu'
  readonly software: boolean
  readonly lost: Promise<string>
  readonly gpu: GpuDevice
  readonly ledger: Ledger
  readonly kernels: KernelCache
  readonly tuning: Tuning
  #matrixMode: Promise<MatrixMode | string> | null

  constructor(gpu: GpuDevice, tuning: Tuning, budgetBytes: number | null, matrixUnits: MatrixMode | null = null) {
    this.#matrixMode = matrixUnits === null ? null : Promise.resolve(matrixUnits)
    this.gpu = gpu
    this.id = gpu.adapterId
    this.software = gpu.software
    this.lost = gpu.lost
    this.ledger = new Ledger(gpu, budgetBytes)
    this.kernels = new KernelCache(gpu)
    this.tuning = tuning
  }

  async createKvCache(layout: KvLayout, owner: string): Promise<KvCache> {
    return WebGpuKvCache.create(this.gpu, this.ledger.open(owner), layout)
  }

  async compile(program: Program, options: CompileOptions): Promise<Executable> {
    const matrixUnits = options.matrixUnits === true ? await this.#requireMatrixUnits() : null
    const account = this.ledger.open(options.owner)
    return WebGpuExecutable.compile({ gpu: this.gpu, kernels: this.kernels, tuning: this.tuning, account, matrixUnits }, program, options)
  }

  async drift(baseline: Executable, candidate: Executable, rows: number, targets: Uint32Array): Promise<DriftRows> {
    if (!(baseline instanceof WebGpuExecutable) || !(candidate instanceof WebGpuExecutable)) {
      throw new LatheError('gpu.invalid-operation', 'Both models must be on this device to be compared.', 'Load both on one adapter.')
    }
    return runDrift(this.gpu, this.kernels, this.ledger.open('drift'), baseline, candidate, rows, targets)
  }

  async matrixUnits(): Promise<MatrixUnitsState> {
    const mode = await this.#findMatrixMode()
    return { reason: typeof mode === 'string' ? mode : null }
  }

  async #requireMatrixUnits(): Promise<MatrixMode> {
    const mode = await this.#findMatrixMode()
    if (typeof mode !== 'string') return mode
    throw new LatheError(
      'gpu.unsupported',
      `Matrix units cannot be used on ${this.id}. ${mode}`,
      'Leave matrix units off: in Settings, or on the command line.',
    )
  }

  #findMatrixMode(): Promise<MatrixMode | string> {
    this.#matrixMode ??= this.#checkedMatrixMode()
    return this.#matrixMode
  }

  async #checkedMatrixMode(): Promise<MatrixMode | string> {
    const mode = matrixModeOf(this.gpu)
    if (typeof mode === 'string') return mode
    try {
      return (await checkMatrixUnits(this, this.ledger, mode)) ?? mode
    } catch (thrown) {
      if (thrown instanceof LatheError && thrown.code === 'gpu.unsupported') return thrown.message
      this.#matrixMode = null // no verdict on the units: asked again next time
      throw thrown
    }
  }

  factorHessian(request: HessianFactorRequest): Promise<SecondOrderSolver | null> {
    return openSolver(this, request)
  }

  quadraticForms(columns: number, source: HessianSource): Promise<QuadraticForms> {
    return openQuadraticForms(this, columns, source)
  }

  recovery(columns: number, gram: Float32Array): Promise<RecoverySolver> {
    return openRecovery(this, columns, gram)
  }

  readonly compileMs = (): number => this.kernels.compileMs

  usage(): ReadonlyMap<string, LedgerUsage> {
    return this.ledger.usage()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.ledger.releaseAll()
    this.gpu.destroy()
    await this.lost
  }
}
