/**
 * A digest of what keys and values depend on besides tokens: configuration, and the weights by name, shape, format and a sample of their bytes.
 * Two loads of equal digest compute the same cache on the same kind of device.
 */
import { createHash } from 'node:crypto'
import type { Checkpoint } from '../../checkpoint/types.ts'
import type { Program } from '../../gpu/program.ts'

/** Of each stored matrix. Another training step changes nearly every value; reading all of a large model again would double its load time. */
const SAMPLE_BYTES = 4096

export async function buildDigest(checkpoint: Checkpoint, program: Program): Promise<string> {
  const digest = createHash('sha256').update(JSON.stringify(checkpoint.config))
  for (const { parts } of program.weights) {
    for (const { name, rows, cols, format, values } of parts) {
      digest.update(JSON.stringify([name, rows, cols, format]))
      digest.update(await values.read(0, Math.min(SAMPLE_BYTES, values.byteLength)))
    }
  }
  for (const [name, { byteLength }] of checkpoint.tensors) {
    // Scales of an FP8 cache change what it holds, and are no weight.
    if (/\.[kv]_scale$/.test(name)) digest.update(name).update(await checkpoint.open(name).read(0, byteLength))
  }
  return digest.digest('hex')
}
