/**
 * Buffers that go round between reading, threads and writing. Fresh memory must be cleared and mapped page by page, which costs as much as
 * reading a file from the cache does. Knows nothing of contents.
 */

export interface BufferPool {
  /** At least `byteLength` bytes, with whatever was in them. */
  take(byteLength: number): Uint8Array<ArrayBuffer>
  /** Nobody else may use the buffer under `bytes` any more. */
  give(bytes: Uint8Array<ArrayBuffer>): void
}

export function createBufferPool(): BufferPool {
  const free: ArrayBuffer[] = []
  return {
    take(byteLength) {
      const index = free.findIndex((buffer) => buffer.byteLength >= byteLength)
      const [buffer] = index < 0 ? [] : free.splice(index, 1)
      if (buffer !== undefined) return new Uint8Array(buffer)
      // Too small ones would never be used again once the blocks have grown.
      free.pop()
      return new Uint8Array(byteLength)
    },
    give({ buffer }) {
      if (!buffer.detached) free.push(buffer)
    },
  }
}
