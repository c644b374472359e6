/** The compression port over engine/compress. */
import { openCheckpoint } from '../../checkpoint/open.ts'
import { predict } from '../../compress/plan.ts'
import { listPresets } from '../../compress/presets.ts'
import type { CompressPort } from '../ports.ts'
import { pendingCompressor } from './pending.ts'

export function bindCompressor(): CompressPort {
  return {
    ...pendingCompressor,
    listPresets,
    predict: async (folder, presetId) => {
      await using checkpoint = await openCheckpoint(folder)
      return predict(checkpoint, presetId)
    },
  }
}
