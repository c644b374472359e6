/** Memory that is told from widths alone, against the layout of a real program. */
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { layoutArena, layoutSteps } from '../gpu/webgpu/arena.ts'
import { joinGates } from '../gpu/webgpu/gated.ts'
import { openCheckpoint } from '../checkpoint/open.ts'
import { decoderSteps } from './memory.ts'
import { buildProgram } from './program-builder.ts'
import { describeModel } from './spec.ts'

const DEMO = join(import.meta.dirname, '../../assets/demo-model')

test('the lives of values that the planner counts by are those of the program', async () => {
  await using checkpoint = await openCheckpoint(DEMO)
  const spec = describeModel(checkpoint.config, checkpoint.generationConfig)
  const program = buildProgram(spec, checkpoint, 64)
  const capacity = { tokens: 100, rows: 30, sequences: 8, blocksPerSequence: 2 }
  for (const joined of [true, false]) {
    const operations = joined ? joinGates(program.operations, () => true) : program.operations
    const real = layoutArena({ operations, logits: program.logits }, capacity, false)
    const { steps, logits } = decoderSteps(spec, spec.layers, joined)
    expect(layoutSteps(steps, logits, capacity, false).slotBytes).toEqual(real.slotBytes)
  }
})
