/** The WebGPU side of ../../second-order.ts: a factored Hessian held in device memory, and rounding and pruning through it. */
import type { GridCodes, GridWeights, HessianFactorRequest, PruneWeights, SecondOrderSolver } from '../../second-order.ts'
import type { WebGpuBackend } from '../backend.ts'
import { type Factor, factorHessian } from './factor.ts'
import { pruneWithFeedback } from './prune.ts'
import { roundWithFeedback } from './round.ts'

class WebGpuSolver implements SecondOrderSolver {
  readonly #backend: WebGpuBackend
  readonly #factor: Factor

  constructor(backend: WebGpuBackend, factor: Factor) {
    this.#backend = backend
    this.#factor = factor
  }

  get columns(): number {
    return this.#factor.columns
  }

  get order(): Uint32Array {
    return this.#factor.order
  }

  get dead(): readonly number[] {
    return this.#factor.dead
  }

  get dampeningUsed(): number {
    return this.#factor.dampeningUsed
  }

  round(weights: GridWeights, signal?: AbortSignal): Promise<GridCodes> {
    return roundWithFeedback(this.#backend, this.#factor, weights, signal)
  }

  prune(weights: PruneWeights, signal?: AbortSignal): Promise<Float32Array> {
    return pruneWithFeedback(this.#backend, this.#factor, weights, signal)
  }

  [Symbol.dispose](): void {
    this.#factor.account.release()
  }
}

/** Throws `gpu.out-of-memory`, `gpu.unsupported`, `gpu.device-lost`, the signal's reason; all memory is released then. */
export async function openSolver(backend: WebGpuBackend, request: HessianFactorRequest): Promise<SecondOrderSolver | null> {
  const account = backend.ledger.open('second-order')
  try {
    const factor = await factorHessian(backend, account, request)
    if (factor !== null) return new WebGpuSolver(backend, factor)
  } catch (thrown) {
    account.release()
    throw thrown
  }
  account.release()
  return null
}
