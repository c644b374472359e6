/** "Fits on this GPU" in bytes: what the adapter has left beside a context, the runtime and its reserve, with the margin of a good fit. */
import { TIGHT_SHARE } from '../capacity/fit.ts'
import type { MixedTarget } from '../compress/mixed-precision/scheme-map.ts'
import { LatheError } from '../contract/index.ts'
import type { MixedTarget as ContractTarget } from '../contract/index.ts'
import type { CheckpointPort, FitPort } from './ports.ts'

/** The target in terms of the compressor. Throws `compress.invalid-recipe` and `compress.nothing-to-do` where nothing can fit. */
export async function targetInBytes(
  ports: { readonly checkpoint: CheckpointPort; readonly fit: FitPort },
  folder: string,
  target: ContractTarget,
): Promise<MixedTarget> {
  if (target.kind !== 'fits') return target
  const facts = await ports.checkpoint.inspect(folder)
  const { kvBytes, activationBytes, overheadBytes = 0, reserveBytes = 0, budgetBytes } = await ports.fit.fit(facts, 0, target.contextTokens)
  if (budgetBytes === null) {
    throw new LatheError('compress.invalid-recipe', 'This adapter does not say how much memory it has.', 'Give a size instead.')
  }
  const bytes = TIGHT_SHARE * budgetBytes - kvBytes - activationBytes - overheadBytes - reserveBytes
  if (bytes > 0) return { kind: 'bytes', bytes }
  throw new LatheError(
    'compress.nothing-to-do',
    `A context of ${target.contextTokens} tokens alone fills the ${(budgetBytes / 1e9).toFixed(1)} GB of this adapter.`,
    'Choose a shorter context.',
  )
}
