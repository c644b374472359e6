/**
 * Every GPU allocation of the process, named and owned. Buffers are created under error scopes, counted against a budget and released by
 * owner, so that "how much memory does this model take" has one answer and a failed load leaves nothing behind (runtime.md §18).
 * JavaScript's garbage collector does not see GPU memory: nothing here relies on it.
 */
import { LatheError } from '../../contract/errors.ts'
import type { GpuDevice } from './device.ts'

export interface Allocation {
  readonly name: string
  readonly bytes: number
  readonly usage: GPUBufferUsageFlags
}

export interface LedgerUsage {
  readonly bytes: number
  readonly buffers: number
}

/** WebGPU wants buffer sizes in whole words. */
const WORD_BYTES = 4

export class Ledger {
  readonly #gpu: GpuDevice
  readonly #budgetBytes: number | null
  readonly #accounts = new Set<LedgerAccount>()

  constructor(gpu: GpuDevice, budgetBytes: number | null) {
    this.#gpu = gpu
    this.#budgetBytes = budgetBytes
  }

  get bytesInUse(): number {
    return this.#accounts.values().reduce((sum, account) => sum + account.bytes, 0)
  }

  /** Bytes and buffers per owner; owners without buffers are absent. */
  usage(): ReadonlyMap<string, LedgerUsage> {
    const usage = new Map<string, LedgerUsage>()
    for (const account of this.#accounts) {
      const before = usage.get(account.owner) ?? { bytes: 0, buffers: 0 }
      usage.set(account.owner, { bytes: before.bytes + account.bytes, buffers: before.buffers + account.buffers })
    }
    return usage
  }

  /** One holder's buffers, counted under `owner`. Several accounts may share an owner (a model's weights and its cache). */
  open(owner: string): LedgerAccount {
    return new LedgerAccount(owner, this.#gpu, this, this.#budgetBytes)
  }

  /** Called by accounts as they gain their first and lose their last buffer. */
  note(account: LedgerAccount): void {
    if (account.buffers > 0) this.#accounts.add(account)
    else this.#accounts.delete(account)
  }

  releaseAll(): void {
    for (const account of this.#accounts) account.release()
  }
}

export class LedgerAccount {
  readonly owner: string
  readonly #gpu: GpuDevice
  readonly #ledger: Ledger
  readonly #budgetBytes: number | null
  readonly #buffers = new Set<GPUBuffer>()
  #bytes = 0

  constructor(owner: string, gpu: GpuDevice, ledger: Ledger, budgetBytes: number | null) {
    this.owner = owner
    this.#gpu = gpu
    this.#ledger = ledger
    this.#budgetBytes = budgetBytes
  }

  get bytes(): number {
    return this.#bytes
  }

  get buffers(): number {
    return this.#buffers.size
  }

  /** Creates all of the buffers or none. Throws `gpu.out-of-memory` with the numbers when the budget or the driver refuses. */
  async allocate(requests: readonly Allocation[]): Promise<GPUBuffer[]> {
    const sizes = requests.map((request) => Math.max(WORD_BYTES, Math.ceil(request.bytes / WORD_BYTES) * WORD_BYTES))
    const total = sizes.reduce((sum, size) => sum + size, 0)
    const used = this.#ledger.bytesInUse
    const data = { needBytes: total, usedBytes: used, budgetBytes: this.#budgetBytes }
    const what = requests.length === 1 ? (requests[0]?.name ?? '') : `${requests.length} buffers for ${this.owner}`
    const hint = 'Unload another model, shorten the context, or choose a smaller format.'
    if (this.#budgetBytes !== null && used + total > this.#budgetBytes) {
      throw new LatheError(
        'gpu.out-of-memory',
        `${what} needs ${mebibytes(total)}, but ${mebibytes(used)} of the ${mebibytes(this.#budgetBytes)} budget are in use.`,
        hint,
        { data },
      )
    }
    const limit = this.#gpu.limits.maxBufferSize
    const tooLarge = sizes.findIndex((size) => size > limit)
    if (tooLarge >= 0) {
      throw new LatheError(
        'gpu.out-of-memory',
        `${requests[tooLarge]?.name ?? ''} needs ${mebibytes(sizes[tooLarge] ?? 0)}, more than one buffer of this adapter holds (${mebibytes(limit)}).`,
        hint,
        { data: { ...data, limitBytes: limit } },
      )
    }
    const created: GPUBuffer[] = []
    try {
      await this.#gpu.scoped(`${what} needs ${mebibytes(total)}, ${mebibytes(used)} are in use`, () => {
        for (const [index, request] of requests.entries()) {
          created.push(this.#gpu.device.createBuffer({ label: request.name, size: sizes[index] ?? 0, usage: request.usage }))
        }
      })
    } catch (thrown) {
      for (const buffer of created) buffer.destroy()
      if (thrown instanceof LatheError) throw new LatheError(thrown.code, thrown.message, thrown.hint, { data, cause: thrown })
      // createBuffer itself throws where the size cannot even be expressed to the driver.
      throw new LatheError('gpu.out-of-memory', `Out of GPU memory: ${what} needs ${mebibytes(total)}.`, hint, { data, cause: thrown })
    }
    for (const buffer of created) this.#buffers.add(buffer)
    this.#bytes += total
    this.#ledger.note(this)
    return created
  }

  async allocateOne(name: string, bytes: number, usage: GPUBufferUsageFlags): Promise<GPUBuffer> {
    const [buffer] = await this.allocate([{ name, bytes, usage }])
    if (buffer === undefined) throw new Error('allocate returned nothing')
    return buffer
  }

  /** Destroys one buffer. */
  free(buffer: GPUBuffer): void {
    if (!this.#buffers.delete(buffer)) throw new Error(`buffer ${buffer.label} does not belong to ${this.owner}`)
    this.#bytes -= buffer.size
    buffer.destroy()
    this.#ledger.note(this)
  }

  /** Destroys everything in the account; an empty one is fine. */
  release(): void {
    for (const buffer of this.#buffers) buffer.destroy()
    this.#buffers.clear()
    this.#bytes = 0
    this.#ledger.note(this)
  }
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toLocaleString('en-US', { maximumFractionDigits: 1 })} MiB`
}
