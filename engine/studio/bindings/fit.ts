/** The fit port over engine/capacity: weights exactly, KV cache exactly, activations of one default step, against the adapter's memory. */
import { DEFAULT_SEQUENCES, reserveBytes } from '../../capacity/budget.ts'
import { fitOf } from '../../capacity/fit.ts'
import { latheKvBytes } from '../../capacity/kv-room.ts'
import { withOverhead } from '../../capacity/overhead.ts'
import { DEFAULT_KV_DTYPE } from '../../gpu/kv-format.ts'
import type { FitPort, GpuPort, OverheadPort } from '../ports.ts'
import { activationsOf } from './load-estimate.ts'

export function bindFit(gpu: GpuPort, overheads?: Pick<OverheadPort, 'get'>): FitPort {
  return {
    fit: async (facts, weightBytes, contextTokens) => {
      const { gpuBudgetBytes, adapters } = await gpu.state()
      const adapter = adapters.find((candidate) => candidate.selected)
      const overhead = adapter === undefined ? null : (overheads?.get(adapter) ?? null)
      const software = adapter?.type === 'software' || adapter?.type === 'reference'
      const context = Math.min(contextTokens, facts.architecture.contextLength ?? contextTokens)
      const load = { contextTokens: context, sequences: DEFAULT_SEQUENCES.lathe, keyDtype: DEFAULT_KV_DTYPE, software, inputs: [] } as const
      return fitOf({
        weightBytes,
        kvBytes: latheKvBytes(facts.kvBytesPerToken ?? 0, context, 1),
        contextTokens: context,
        activationBytes: withOverhead(activationsOf(facts, load), overhead).activationBytes,
        overhead,
        reserveBytes: reserveBytes('lathe', { tensorParallel: 1, software }),
        budgetBytes: gpuBudgetBytes,
      })
    },
  }
}
