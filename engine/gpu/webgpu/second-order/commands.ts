/** Dispatches of one-off kernels in order, submitted a batch at a time, waiting for each so that a cancelled job stops within a batch. */
import type { GpuDevice } from '../device.ts'
import type { Kernel, KernelCache } from '../kernel.ts'

export class CommandStream {
  readonly #gpu: GpuDevice
  readonly #kernels: KernelCache
  readonly #label: string
  #encoder: GPUCommandEncoder | null = null
  #pass: GPUComputePassEncoder | null = null

  constructor(gpu: GpuDevice, kernels: KernelCache, label: string) {
    this.#gpu = gpu
    this.#kernels = kernels
    this.#label = label
  }

  /** A dispatch of no workgroups is left out. */
  dispatch(kernel: Kernel, buffers: readonly GPUBuffer[], immediates: readonly number[], x: number, y = 1): void {
    if (x === 0 || y === 0) return
    this.#encoder ??= this.#gpu.device.createCommandEncoder({ label: this.#label })
    this.#pass ??= this.#encoder.beginComputePass()
    this.#pass.setPipeline(kernel.pipeline)
    this.#pass.setBindGroup(
      0,
      this.#kernels.bind(
        kernel,
        buffers.map((buffer) => ({ buffer })),
      ),
    )
    this.#pass.setImmediates(0, Uint32Array.from(immediates))
    this.#pass.dispatchWorkgroups(x, y)
  }

  /** Submits what has gathered and waits until the device has done it. Throws the signal's reason, and what the device has to complain about. */
  async flush(signal: AbortSignal | undefined): Promise<void> {
    this.#pass?.end()
    const commands = this.#encoder?.finish()
    this.#encoder = null
    this.#pass = null
    if (commands !== undefined) {
      this.#gpu.device.queue.submit([commands])
      await this.#gpu.guard(this.#gpu.device.queue.onSubmittedWorkDone())
      this.#gpu.check()
    }
    signal?.throwIfAborted()
  }
}
