/** Recovery after pruning as a step of a recipe: every linear that an earlier step pruned, against the weights it had before. */
import { RECOVERY_DEFAULTS, recoverPruned } from '../algorithms/recovery.ts'
import type { LayerTransform } from '../calibration/layer-context.ts'
import type { RecoveryStep } from '../recipe.ts'

export const recoveryTransform: LayerTransform<RecoveryStep> = {
  kind: 'recovery',
  // Any model that could be pruned can be repaired.
  check() {},
  rewrites() {
    return []
  },
  async apply(step, context) {
    for (const { module, role, input, rows, cols, weight } of context.linears) {
      const mask = context.mask(module)
      if (mask === null) continue
      const { gram } = await context.statistics(input)
      const dense = { rows, cols, values: context.original(module) }
      const { values } = recoverPruned(dense, weight, mask, gram, { ...RECOVERY_DEFAULTS, dampening: step.dampening }, (done) => {
        context.note(`Recovery of ${role}: ${done} of ${rows} rows`)
        context.throwIfCancelled()
      })
      context.replace({ weights: new Map([[module, values]]) })
    }
  },
}
