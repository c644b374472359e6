/** The fit port over engine/capacity: weights exactly, KV cache exactly, activations of one default step, against the adapter's memory. */
import { fitOf } from '../../capacity/fit.ts'
import { LatheError } from '../../contract/index.ts'
import { DEFAULT_CAPACITY } from '../../model/load.ts'
import { activationBytes } from '../../model/memory.ts'
import { describeModel } from '../../model/spec.ts'
import type { FitPort, FolderFacts, GpuPort } from '../ports.ts'

export function bindFit(gpu: GpuPort): FitPort {
  return {
    fit: async (facts, weightBytes, contextTokens) => {
      const { gpuBudgetBytes } = await gpu.state()
      const context = Math.min(contextTokens, facts.architecture.contextLength ?? contextTokens)
      return fitOf({
        weightBytes,
        kvBytesPerToken: facts.kvBytesPerToken ?? 0,
        contextTokens: context,
        activationBytes: activationsOf(facts),
        budgetBytes: gpuBudgetBytes,
      })
    },
  }
}

function activationsOf(facts: FolderFacts): number {
  try {
    return activationBytes(describeModel(facts.config, null), DEFAULT_CAPACITY)
  } catch (error) {
    // a model that can't be run has no activations to count
    if (error instanceof LatheError) return 0
    throw error
  }
}
