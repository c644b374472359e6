/** The fit port over engine/capacity: weights exactly, KV cache exactly, activations of one default step, against the adapter's memory. */
import { reserveBytes } from '../../capacity/budget.ts'
import { fitOf } from '../../capacity/fit.ts'
import { latheKvBytes } from '../../capacity/kv-room.ts'
import { LatheError } from '../../contract/index.ts'
import { DEFAULT_CAPACITY } from '../../model/load.ts'
import { activationBytes } from '../../model/memory.ts'
import { describeModel } from '../../model/spec.ts'
import type { FitPort, FolderFacts, GpuPort } from '../ports.ts'

export function bindFit(gpu: GpuPort): FitPort {
  return {
    fit: async (facts, weightBytes, contextTokens) => {
      const { gpuBudgetBytes, adapters } = await gpu.state()
      const type = adapters.find((adapter) => adapter.selected)?.type
      const context = Math.min(contextTokens, facts.architecture.contextLength ?? contextTokens)
      return fitOf({
        weightBytes,
        kvBytes: latheKvBytes(facts.kvBytesPerToken ?? 0, context, 1),
        contextTokens: context,
        activationBytes: activationsOf(facts),
        reserveBytes: reserveBytes('lathe', { tensorParallel: 1, software: type === 'software' || type === 'reference' }),
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
