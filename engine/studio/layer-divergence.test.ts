/** The divergence measure on the demo model and the f64 backend: fewer bits diverge more, and nothing stays behind. */
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { openCheckpoint } from '../checkpoint/open.ts'
import { schemeUnits } from '../compress/mixed-precision/scheme-map.ts'
import type { Scheme } from '../compress/scheme.ts'
import { createReferenceBackend } from '../gpu/reference/backend.ts'
import { openRuntime } from '../runtime/open-runtime.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import { divergenceLoss } from './layer-divergence.ts'

const DEMO = fileURLToPath(new URL('../../assets/demo-model', import.meta.url))
const TEXT = 'The river is long. Anna counts to nine and then walks home, because the day is over and the rain begins to fall.'

function integers(bits: 2 | 4 | 8): Scheme {
  return { kind: 'packed-int', bits, symmetric: true, strategy: 'channel', groupSize: null }
}

it('measures what one unit of linears loses', async () => {
  await using backend = createReferenceBackend()
  await using checkpoint = await openCheckpoint(DEMO)
  const tokenizer = await loadTokenizer(DEMO)
  await using baseline = await openRuntime({
    source: checkpoint,
    backend,
    modelId: 'original',
    contextTokens: 64,
    kvDtype: 'f32',
    tokenizer,
  })
  const [unit] = schemeUnits(checkpoint, [integers(2), integers(4), integers(8)])
  const before = new Map(backend.usage())
  const measure = divergenceLoss({
    checkpoint,
    backend,
    baseline,
    tokenizer,
    text: { name: 'test', text: TEXT },
    window: 32,
    maxWindows: 1,
    observer: { kind: 'minmax' },
  })
  const losses = [await measure(unit!, 0), await measure(unit!, 1), await measure(unit!, 2)]
  expect(losses[2]).toBeGreaterThan(0)
  expect(losses[1]).toBeGreaterThan(3 * losses[2]!)
  expect(losses[0]).toBeGreaterThan(3 * losses[1]!)
  expect(new Map(backend.usage())).toEqual(before)
})
