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
/** Bounds the harm of a wrong estimate, and keeps a lost device noticed within a moment. */
const LONGEST_SLEEP_MS = 500
/** The expectation is the fastest of this many last steps: a first step that compiles, or a busy moment, must not make later ones oversleep. */
const REMEMBERED = 4
/** A map that returns within this had nothing to wait for: the sleep was too long, and says only that the step was shorter. */
const IMMEDIATE_MS = 0.5

/** Expected duration of steps of similar size: one estimate per power of two of tokens. Starts with no sleep at all. */
export class StepClock {
  readonly #recent = new Map<number, number[]>()

  /** How long to sleep before mapping the result of a step of this many tokens. */
  sleepMs(tokens: number): number {
    const recent = this.#recent.get(Math.clz32(tokens)) ?? []
    if (recent.length < 2) return 0
    const wait = Math.min(LONGEST_SLEEP_MS, Math.min(...recent) * SLEEP_SHARE)
    return wait >= SHORTEST_SLEEP_MS ? wait : 0
  }

  /** `totalMs` from submit to mapped, of which `waitedMs` in the map after the sleep. */
  observe(tokens: number, totalMs: number, waitedMs: number): void {
    const recent = this.#recent.get(Math.clz32(tokens)) ?? []
    const overslept = waitedMs < IMMEDIATE_MS
    recent.push(overslept ? (totalMs * SLEEP_SHARE) / 2 : totalMs)
    if (recent.length > REMEMBERED) recent.shift()
    this.#recent.set(Math.clz32(tokens), recent)
  }
}

/** Maps in turn, so that the GPU never writes the buffer being read. */
export const RING_LENGTH = 3

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
    const wait = this.clock.sleepMs(tokens)
    if (wait > 0) await this.#gpu.guard(sleep(wait))
    const mapping = performance.now()
    await this.#gpu.guard(buffer.mapAsync(GPUMapMode.READ, 0, bytes))
    const now = performance.now()
    this.clock.observe(tokens, now - startedMs, now - mapping)
    const copy = buffer.getMappedRange(0, bytes).slice(0)
    buffer.unmap()
    return copy
  }
}
