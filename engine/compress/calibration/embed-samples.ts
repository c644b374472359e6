/** Token ids to the hidden states before the first layer: rows of the embedding, read one by one from a table that may be larger than memory. */
import { isDenseDtype, widenToF32 } from '../../checkpoint/dtypes.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'
import { LatheError } from '../../contract/errors.ts'

/** The embedding's tensor, which tied models may store as the head only. */
export function embeddingTensor(source: Checkpoint): string {
  return source.tensors.has('model.embed_tokens.weight') ? 'model.embed_tokens.weight' : 'lm_head.weight'
}

/** [ids.length, hidden]. Throws `compress.invalid-calibration` for a token that the model does not have. */
export async function embedTokens(source: Checkpoint, ids: Uint32Array, hidden: number): Promise<Float32Array> {
  const name = embeddingTensor(source)
  const entry = source.tensors.get(name)
  if (entry === undefined || !isDenseDtype(entry.dtype)) throw new Error(`${name} is not a dense embedding`)
  const [vocabulary = 0] = entry.shape
  const rowBytes = entry.byteLength / vocabulary
  const bytes = source.open(name)
  const rows = new Map<number, Float32Array>()
  for (const id of [...new Set(ids)].sort((a, b) => a - b)) {
    if (id >= vocabulary) {
      throw new LatheError(
        'compress.invalid-calibration',
        `The calibration text has the token ${id}, but the model's vocabulary has ${vocabulary}.`,
        'The tokenizer belongs to another model. Get config.json, weights and tokenizer from the same place.',
      )
    }
    rows.set(id, widenToF32(await bytes.read(id * rowBytes, rowBytes), entry.dtype))
  }
  const values = new Float32Array(ids.length * hidden)
  for (const [i, id] of ids.entries()) {
    const row = rows.get(id)
    if (row !== undefined) values.set(row, i * hidden)
  }
  return values
}
