/**
 * Getting bytes back from the GPU. A pending map makes dawn.node poll on the event loop and take a whole core from a software rasteriser, so
 * step results are mapped late: sleep for most of the expected time, then map (specs/dawn-node.md §5).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { GpuDevice } from './device.ts'
import type { LedgerAccount } from './ledger.ts'

/** Copies a range out through a temporary buffer. For tests, calibration and rare reads; steps use StepReadback. Sizes are whole words. */
export async function readBuffer(
  gpu: GpuDevice,
  account: LedgerAccount,
  source: GPUBuffer,
  offset: number,
  bytes: number,
): Promise<ArrayBuffer> {
  const staging = await account.allocateOne('readback', bytes, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST)
  try {
    const encoder = gpu.device.createCommandEncoder({ label: 'readback' })
    encoder.copyBufferToBuffer(source, offset, staging, 0, bytes)
    gpu.device.queue.submit([encoder.finish()])
    await gpu.guard(staging.mapAsync(GPUMapMode.READ))
    return staging.getMappedRange().slice(0)
  } finally {
    account.free(staging)
  }
}

/** Sleep this share of the expected time before mapping: late maps cost latency, early ones cost the rasteriser a core. */
const SLEEP_SHARE = 0.7
/** Below this, a timer's granularity (about 1 ms) would overshoot. */
const SHORTEST_SLEEP_MS = 1.5
/** Weight of the newest observation; older ones fade within a few steps, so a context that grows is followed. */
const NEWEST_SHARE = 0.3

/** Expected duration of steps of similar size: one estimate per power of two of tokens. */
export class StepClock {
  readonly #expectedMs = new Map<number, number>()

  async sleepMostOf(tokens: number): Promise<void> {
    const wait = (this.#expectedMs.get(Math.clz32(tokens)) ?? 0) * SLEEP_SHARE
    if (wait >= SHORTEST_SLEEP_MS) await sleep(wait)
  }

  observe(tokens: number, milliseconds: number): void {
    const key = Math.clz32(tokens)
    const before = this.#expectedMs.get(key)
    // A single slow step (a compile, a busy machine) must not make the next one oversleep: growth is capped.
    const bounded = before === undefined ? milliseconds : Math.min(milliseconds, before * 2)
    this.#expectedMs.set(key, before === undefined ? bounded : before + (bounded - before) * NEWEST_SHARE)
  }
}

/** Maps in turn, so that the GPU never writes the buffer being read. */
const RING_LENGTH = 3

/** A ring of small mappable buffers for step results. */
export class StepReadback {
  readonly #gpu: GpuDevice
  readonly #ring: readonly GPUBuffer[]
  readonly clock = new StepClock()
  #next = 0

  private constructor(gpu: GpuDevice, ring: readonly GPUBuffer[]) {
    this.#gpu = gpu
    this.#ring = ring
  }

  static async create(gpu: GpuDevice, account: LedgerAccount, bytes: number): Promise<StepReadback> {
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST
    return new StepReadback(
      gpu,
      await account.allocate(Array.from({ length: RING_LENGTH }, () => ({ name: 'step readback', bytes, usage }))),
    )
  }

  /** The buffer to copy this step's results into. */
  take(): GPUBuffer {
    const buffer = this.#ring[this.#next]
    if (buffer === undefined) throw new Error('empty ring')
    this.#next = (this.#next + 1) % this.#ring.length
    return buffer
  }

  /** Waits for the step submitted at `startedMs` (performance.now) and copies its first `bytes` out. */
  async finish(buffer: GPUBuffer, bytes: number, tokens: number, startedMs: number): Promise<ArrayBuffer> {
    await this.#gpu.guard(this.clock.sleepMostOf(tokens))
    await this.#gpu.guard(buffer.mapAsync(GPUMapMode.READ, 0, bytes))
    this.clock.observe(tokens, performance.now() - startedMs)
    const copy = buffer.getMappedRange(0, bytes).slice(0)
    buffer.unmap()
    return copy
  }
}
