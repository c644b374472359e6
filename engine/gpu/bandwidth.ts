/**
 * What this adapter can do at best, measured with plain WGSL on the device itself instead of taken from a data sheet: copying, streaming reads,
 * f32 multiply-add, and the round trip of an empty submit. Shares of these are what kernels are judged by (specs/webgpu-kernels.md §a).
 */
import type { WebGpuBackend } from './webgpu/backend.ts'
import type { Kernel } from './webgpu/kernel.ts'

interface Sizes {
  /** Of each of two buffers: far beyond any cache (the largest GPUs have 256 MiB), or what a software adapter moves in a moment. */
  readonly bytes: number
  readonly invocations: number
  readonly rounds: number
}

const HARDWARE: Sizes = { bytes: 2 ** 30, invocations: 2 ** 18, rounds: 512 }
const SOFTWARE: Sizes = { bytes: 2 ** 25, invocations: 2 ** 12, rounds: 32 }
const WORKGROUP = 256
/** The best of this many: interference only ever slows a run down. */
const RUNS = 5
/** Dispatches per submit, so that the submit's own cost does not count. */
const DISPATCHES = 3
/** MULTIPLY in bandwidth.wgsl: 8 repeats of 4 vectors of 4, a multiplication and an addition each. */
const OPERATIONS_PER_ROUND = 8 * 4 * 4 * 2

export interface AdapterLimits {
  readonly copyGigabytesPerSecond: number
  readonly readGigabytesPerSecond: number
  readonly multiplyAddGigaflops: number
  readonly submitRoundTripMs: number
}

/** Takes about a second. Rejects with the signal's reason when aborted. */
export async function measureLimits(backend: WebGpuBackend, signal?: AbortSignal): Promise<AdapterLimits> {
  const { gpu, kernels } = backend
  const wanted = gpu.software ? SOFTWARE : HARDWARE
  const bytes = Math.min(wanted.bytes, gpu.limits.maxStorageBufferBindingSize, gpu.limits.maxBufferSize) & ~0xffff
  const account = backend.ledger.open('benchmark')
  try {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC
    const [source, target] = await account.allocate([
      { name: 'benchmark source', bytes, usage },
      { name: 'benchmark target', bytes, usage },
    ])
    if (source === undefined || target === undefined) throw new Error('no buffers')
    const kernel = (mode: 'COPY' | 'READ' | 'MULTIPLY'): Promise<Kernel> => {
      return kernels.get({ name: 'bandwidth', constants: { WORKGROUP, [mode]: true }, bindings: ['read', 'write'], immediateWords: 3 })
    }
    const quads = bytes / 16
    const seconds = async (compiled: Kernel | null, dispatches: number): Promise<number> => {
      const group = compiled === null ? null : kernels.bind(compiled, [{ buffer: source }, { buffer: target }])
      let best = Infinity
      for (let run = 0; run < RUNS; run++) {
        signal?.throwIfAborted()
        const started = performance.now()
        const encoder = gpu.device.createCommandEncoder({ label: 'benchmark' })
        const pass = encoder.beginComputePass()
        if (compiled !== null) {
          pass.setPipeline(compiled.pipeline)
          pass.setBindGroup(0, group)
          pass.setImmediates(0, Uint32Array.of(quads, wanted.invocations, wanted.rounds))
          for (let n = 0; n < dispatches; n++) pass.dispatchWorkgroups(wanted.invocations / WORKGROUP)
        }
        pass.end()
        gpu.device.queue.submit([encoder.finish()])
        await gpu.guard(gpu.device.queue.onSubmittedWorkDone())
        best = Math.min(best, (performance.now() - started) / 1000)
      }
      return best
    }
    const roundTrip = await seconds(null, 0)
    // Of two numbers of dispatches, the difference: the round trip cancels out.
    const perDispatch = async (mode: 'COPY' | 'READ' | 'MULTIPLY'): Promise<number> => {
      const compiled = await kernel(mode)
      const one = await seconds(compiled, 1)
      return Math.max((await seconds(compiled, 1 + DISPATCHES)) - one, Number.EPSILON) / DISPATCHES
    }
    const copy = await perDispatch('COPY')
    const read = await perDispatch('READ')
    const multiply = await perDispatch('MULTIPLY')
    gpu.check()
    return {
      copyGigabytesPerSecond: (2 * bytes) / copy / 1e9,
      readGigabytesPerSecond: bytes / read / 1e9,
      multiplyAddGigaflops: (wanted.invocations * wanted.rounds * OPERATIONS_PER_ROUND) / multiply / 1e9,
      submitRoundTripMs: roundTrip * 1000,
    }
  } finally {
    account.release()
  }
}
