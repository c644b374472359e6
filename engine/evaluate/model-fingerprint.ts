/**
 * What tells one model folder from another for a cache of answers: names and sizes of its weight and tokenizer files, and pieces of their bytes.
 * Reading all of a large model would take minutes; any re-compression changes bytes everywhere, so pieces do.
 */
import { createHash } from 'node:crypto'
import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** Pieces per file, evenly spread, and bytes of each: under 2 MB read of a shard. */
const PIECES = 24
const PIECE_BYTES = 64 * 1024
const FILES = /\.safetensors$|^config\.json$|^tokenizer.*\.json$|^chat_template\.jinja$|^special_tokens_map\.json$/

export async function modelFingerprint(folder: string): Promise<string> {
  const hash = createHash('sha256')
  const names = (await readdir(folder)).filter((name) => FILES.test(name)).toSorted()
  const buffer = Buffer.alloc(PIECE_BYTES)
  for (const name of names) {
    const path = join(folder, name)
    const { size } = await stat(path)
    hash.update(`${name}:${size};`)
    const file = await open(path)
    try {
      for (let piece = 0; piece < PIECES; piece++) {
        const at = Math.floor((Math.max(0, size - PIECE_BYTES) * piece) / (PIECES - 1))
        const { bytesRead } = await file.read(buffer, 0, PIECE_BYTES, at)
        hash.update(buffer.subarray(0, bytesRead))
        // A small file is whole in its first piece.
        if (size <= PIECE_BYTES) break
      }
    } finally {
      await file.close()
    }
  }
  return hash.digest('hex').slice(0, 32)
}
