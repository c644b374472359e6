/**
 * Which model of the library a compressed folder came from, decided by the bytes that its run record names, never by a path or a name.
 */
import type { CheckpointPort } from './ports.ts'
import type { RunRecord } from './run-record.ts'
import type { ModelRecord } from './store/model-store.ts'

/** The candidate with the very bytes that the run started from, or null; one mid-sized tensor's hash decides. `isThere` looks for its folder. */
export async function findSource(
  run: RunRecord,
  candidates: readonly ModelRecord[],
  checkpoint: Pick<CheckpointPort, 'inspect' | 'hashTensor'>,
  isThere: (candidate: ModelRecord) => Promise<boolean>,
): Promise<ModelRecord | null> {
  for (const candidate of candidates) {
    if (!(await isThere(candidate))) continue
    const { tensors } = await checkpoint.inspect(candidate.path)
    const known = tensors.filter((tensor) => run.sourceHashes.has(tensor.name))
    if (known.length !== tensors.length || known.length !== run.sourceHashes.size) continue
    // vectors are often all ones; the smallest matrix is as telling as the largest and quick to read
    const [probe] = known.filter((tensor) => tensor.shape.length > 1).toSorted((a, b) => a.bytes - b.bytes)
    if (probe === undefined) continue
    if ((await checkpoint.hashTensor(candidate.path, probe.name)) === run.sourceHashes.get(probe.name)) return candidate
  }
  return null
}
