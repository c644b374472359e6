/**
 * Hidden states of all calibration tokens between two layers, group by group: in memory up to a budget, in one file beyond it. Groups have
 * fixed places, so that writing one over is all that a layer does. Knows nothing of layers.
 */
import { mkdir, open, rm } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { diskError } from '../../checkpoint/files.ts'

export interface ActivationStore extends AsyncDisposable {
  readonly width: number
  /** Rows of each group. */
  readonly rows: readonly number[]
  readonly memoryBytes: number
  readonly spilledBytes: number
  /** [rows, width]; the caller may not change what it gets. */
  get(group: number): Promise<Float32Array>
  /** Takes ownership of `values`. */
  set(group: number, values: Float32Array): Promise<void>
}

/** `folder` is made when the first group goes to the disk, and removed at the end. */
export function createActivationStore(
  rows: readonly number[],
  width: number,
  options: { readonly memoryBytes: number; readonly folder: string },
): ActivationStore {
  const bytesOf = (group: number): number => (rows[group] ?? 0) * width * Float32Array.BYTES_PER_ELEMENT
  const offsets: number[] = []
  let inMemory = 0
  let spilled = 0
  for (let group = 0; group < rows.length; group++) {
    // Once one is on the disk all later ones are: their order is that in which every layer reads them.
    if (spilled === 0 && inMemory + bytesOf(group) <= options.memoryBytes) {
      inMemory += bytesOf(group)
      offsets.push(-1)
    } else {
      offsets.push(spilled)
      spilled += bytesOf(group)
    }
  }
  const held = new Map<number, Float32Array>()
  let file: Promise<FileHandle> | null = null
  const opened = (): Promise<FileHandle> => {
    file ??= mkdir(options.folder, { recursive: true }).then(() => open(join(options.folder, 'activations.f32'), 'w+'))
    return file
  }
  const transfer = async (group: number, direction: 'read' | 'write', values: Float32Array): Promise<void> => {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    const start = offsets[group] ?? 0
    try {
      const handle = await opened()
      for (let done = 0; done < bytes.byteLength;) {
        const left = bytes.byteLength - done
        const moved =
          direction === 'read'
            ? (await handle.read(bytes, done, left, start + done)).bytesRead
            : (await handle.write(bytes, done, left, start + done)).bytesWritten
        if (moved === 0) throw new Error(`the activations of group ${group} are cut off`)
        done += moved
      }
    } catch (error) {
      throw diskError(error, 'keeping calibration activations')
    }
  }
  return {
    width,
    rows,
    memoryBytes: inMemory,
    spilledBytes: spilled,
    async get(group) {
      if ((offsets[group] ?? 0) < 0) {
        const values = held.get(group)
        if (values === undefined) throw new Error(`group ${group} has no activations yet`)
        return values
      }
      const values = new Float32Array((rows[group] ?? 0) * width)
      await transfer(group, 'read', values)
      return values
    },
    async set(group, values) {
      if (values.length !== (rows[group] ?? 0) * width) throw new RangeError(`${values.length} values for ${rows[group]} rows of ${width}`)
      if ((offsets[group] ?? 0) < 0) held.set(group, values)
      else await transfer(group, 'write', values)
    },
    async [Symbol.asyncDispose]() {
      held.clear()
      if (file === null) return
      await (await file).close()
      await rm(options.folder, { recursive: true, force: true })
    },
  }
}
