/**
 * Keys and values of a prompt's whole blocks, taken out of one runtime's cache and put into another's (specs/runtime.md §11). What arrives is
 * published in the receiver's prefix cache, so the request that follows finds it as if it had been computed there: whatever goes wrong is a
 * cache miss, and the receiver computes. The tail of less than a block, and the first token, are always the receiver's.
 */
import { LatheError } from '../../contract/errors.ts'
import type { LocalRuntime } from '../local-runtime.ts'

/** What two caches must have in common. */
export interface KvDescriptor {
  readonly build: string
  readonly blockFormat: string
  readonly blockSize: number
  readonly blockBytes: number
  readonly dtypes: string
}

export interface KvHandover {
  readonly descriptor: KvDescriptor
  /** From the beginning of the sequence, whole blocks. */
  readonly tokens: Uint32Array
  readonly salt: string
  /** First block whose bytes are here; the receiver said that it has those before. */
  readonly firstBlock: number
  readonly bytes: Uint8Array
}

/** Throws `gpu.unsupported` for a runtime that was not opened for it, or has no prefix cache. */
export function descriptorOf({ info, kv, core }: LocalRuntime): KvDescriptor {
  if (kv === null || kv === undefined || core.hasher === null) {
    throw new LatheError('gpu.unsupported', `${info.modelId} cannot hand over its cache.`, 'Open it with handover and a prefix cache.')
  }
  const { layout, blockFormat, blockBytes } = kv.cache
  return {
    build: kv.build,
    blockFormat,
    blockSize: layout.blockSize,
    blockBytes,
    dtypes: `${layout.dtype}/${layout.valueDtype ?? layout.dtype}`,
  }
}

/** Leading whole blocks of the tokens that the runtime's cache holds now. */
export function cachedBlocks(runtime: LocalRuntime, tokens: Uint32Array, salt: string): readonly number[] {
  const { hasher, pool } = runtime.core
  if (hasher === null) return []
  const hashes: string[] = []
  hasher.extend(hashes, salt, tokens, Math.floor(tokens.length / pool.blockSize))
  const blocks: number[] = []
  for (const hash of hashes) {
    const block = pool.lookup(hash)
    if (block === 0) break
    blocks.push(block)
  }
  return blocks
}

/** Copies out what the cache holds of the tokens' blocks, from `firstBlock` on; null where that is nothing. */
export async function exportPrefix(
  runtime: LocalRuntime,
  tokens: Uint32Array,
  salt: string,
  firstBlock: number,
): Promise<KvHandover | null> {
  const descriptor = descriptorOf(runtime)
  return runtime.core.exclusive(async () => {
    const held = cachedBlocks(runtime, tokens, salt)
    if (held.length <= firstBlock) return null
    const bytes = await runtime.kv?.cache.readBlocks(held.slice(firstBlock))
    if (bytes === undefined) return null
    return { descriptor, tokens: tokens.slice(0, held.length * descriptor.blockSize), salt, firstBlock, bytes }
  })
}

/**
 * Puts a handover into the runtime's cache; how many leading tokens it holds then. 0 where the caches do not match or the blocks before it have
 * gone; less than offered where memory is short. Throws `runtime.invalid-request` for bytes that do not fit their description.
 */
export async function importPrefix(runtime: LocalRuntime, handover: KvHandover): Promise<number> {
  const own = descriptorOf(runtime)
  const { descriptor, tokens, salt, firstBlock, bytes } = handover
  if (JSON.stringify(own) !== JSON.stringify(descriptor)) return 0
  const { blockSize, blockBytes } = own
  const blocks = tokens.length / blockSize
  if (!Number.isInteger(blocks) || firstBlock > blocks || bytes.length !== (blocks - firstBlock) * blockBytes) {
    throw new LatheError(
      'runtime.invalid-request',
      `A handover of ${tokens.length} tokens from block ${firstBlock} has ${bytes.length} bytes.`,
      'It was damaged on the way: send it again.',
    )
  }
  const { core, kv } = runtime
  return core.exclusive(async () => {
    const { hasher, pool } = core
    if (hasher === null || kv === null || kv === undefined) return 0
    const present = cachedBlocks(runtime, tokens, salt).length
    if (present < firstBlock) return 0
    const hashes: string[] = []
    hasher.extend(hashes, salt, tokens, blocks)
    // A block per running request stays free, as at admission.
    const room = Math.max(0, pool.free - core.scheduler.running.length)
    const count = Math.min(blocks - present, room)
    // What is here already must not be evicted to make room for what continues it.
    const kept = cachedBlocks(runtime, tokens, salt)
    pool.touch(kept)
    const table: number[] = []
    try {
      if (count <= 0 || !pool.allocate(Math.min(count, pool.free), table)) return present * blockSize
      const start = (present - firstBlock) * blockBytes
      await kv.cache.writeBlocks(table, bytes.subarray(start, start + table.length * blockBytes))
      // Only now that the bytes are there.
      for (const [i, block] of table.entries()) pool.publish(block, hashes[present + i] ?? '')
      return (present + table.length) * blockSize
    } finally {
      pool.release(table)
      pool.release(kept)
    }
  })
}

const MAGIC = 0x564b_544c // "LTKV"

/** One buffer: magic, length of a JSON header, header, tokens, bytes; little-endian. */
export function encodeHandover({ descriptor, tokens, salt, firstBlock, bytes }: KvHandover): Uint8Array {
  const header = new TextEncoder().encode(JSON.stringify({ descriptor, salt, firstBlock, tokens: tokens.length, bytes: bytes.length }))
  const out = new Uint8Array(8 + header.length + 4 * tokens.length + bytes.length)
  const view = new DataView(out.buffer)
  view.setUint32(0, MAGIC, true)
  view.setUint32(4, header.length, true)
  out.set(header, 8)
  for (const [i, token] of tokens.entries()) view.setUint32(8 + header.length + 4 * i, token, true)
  out.set(bytes, 8 + header.length + 4 * tokens.length)
  return out
}

/** A header beyond this is no header. */
const MOST_HEADER_BYTES = 1 << 16

/** Throws `runtime.invalid-request` for anything that encodeHandover did not write. */
export function decodeHandover(data: Uint8Array): KvHandover {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  if (data.length < 8 || view.getUint32(0, true) !== MAGIC) throw damaged('it does not begin like one')
  const length = view.getUint32(4, true)
  if (length > MOST_HEADER_BYTES || 8 + length > data.length) throw damaged(`its header would have ${length} bytes`)
  const header = parseHeader(new TextDecoder().decode(data.subarray(8, 8 + length)))
  const tokensAt = 8 + length
  const bytesAt = tokensAt + 4 * header.tokens
  if (bytesAt + header.bytes !== data.length) throw damaged(`it has ${data.length} bytes instead of ${bytesAt + header.bytes}`)
  const tokens = Uint32Array.from({ length: header.tokens }, (_, i) => view.getUint32(tokensAt + 4 * i, true))
  return { descriptor: header.descriptor, salt: header.salt, firstBlock: header.firstBlock, tokens, bytes: data.slice(bytesAt) }
}

interface Header {
  readonly descriptor: KvDescriptor
  readonly salt: string
  readonly firstBlock: number
  readonly tokens: number
  readonly bytes: number
}

function isCount(count: unknown): count is number {
  return typeof count === 'number' && Number.isSafeInteger(count) && count >= 0
}

function isRecord(thing: unknown): thing is Record<string, unknown> {
  return typeof thing === 'object' && thing !== null
}

function parseHeader(text: string): Header {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw damaged('its header is no JSON')
  }
  if (!isRecord(value) || !isRecord(value['descriptor'])) throw damaged('its header has no descriptor')
  const { descriptor, salt, firstBlock, tokens, bytes } = value
  const { build, blockFormat, blockSize, blockBytes, dtypes } = descriptor as Record<string, unknown>
  const texts = [salt, build, blockFormat, dtypes].every((part) => typeof part === 'string')
  if (!texts || ![firstBlock, tokens, bytes, blockSize, blockBytes].every(isCount)) throw damaged('its header lacks a field')
  return value as unknown as Header
}

function damaged(how: string): LatheError {
  return new LatheError('runtime.invalid-request', `This is no cache handover: ${how}.`, 'Send it again.')
}
