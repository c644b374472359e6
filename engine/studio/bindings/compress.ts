/** The compression port over engine/compress. */
import { openCheckpoint } from '../../checkpoint/open.ts'
import { updateModelCard } from '../../compress/model-card.ts'
import { compress } from '../../compress/pipeline.ts'
import { predict } from '../../compress/plan.ts'
import { listPresets } from '../../compress/presets.ts'
import { discardPartial } from '../../compress/resume.ts'
import type { CompressPort } from '../ports.ts'

export const compressBinding: CompressPort = {
  listPresets,
  compress: (options) => compress(options),
  discardPartial,
  updateModelCard,
  predict: async (folder, presetId) => {
    await using checkpoint = await openCheckpoint(folder)
    return predict(checkpoint, presetId)
  },
}
