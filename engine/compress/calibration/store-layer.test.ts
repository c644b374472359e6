/**
 * GPTQ through a device from folder to folder: what is written passes verification (which decodes the file again) and loses as little of the layer
 * as with the processor's f64.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testBackends } from '../../gpu/test/adapters.ts'
import { compress } from '../pipeline.ts'
import type { RecipeStep } from '../recipe.ts'
import type { Scheme } from '../scheme.ts'
import { writeRandomModel } from '../testing/random-model.ts'

const scratch = mkdtempSync(join(tmpdir(), 'lathe-store-layer-'))
const model = join(scratch, 'model')
const text = join(scratch, 'text.jsonl')
beforeAll(async () => {
  await writeRandomModel(model, { layers: 1, hidden: 128, intermediate: 160, heads: 2, kvHeads: 1, seed: 8 })
  const words = 'tide boat letter marble gull bell harbour lantern road island baker thursday'.split(' ')
  const documents = Array.from({ length: 12 }, (_, i) => words.map((word, j) => `${word} ${words[(i * 5 + j * 7) % 12]}`).join(', '))
  writeFileSync(text, documents.map((document) => JSON.stringify({ text: document })).join('\n'))
})
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

const SCHEMES: readonly (readonly [string, Scheme])[] = [
  ['asymmetric integers', { kind: 'packed-int', bits: 3, symmetric: false, strategy: 'group', groupSize: 32 }],
  ['NVFP4', { kind: 'nvfp4' }],
]

const [first] = await testBackends()

async function errorOf(scheme: Scheme, roundOn: 'device' | 'processor'): Promise<number> {
  const groups = [{ name: 'group_0', targets: ['Linear'], scheme, observer: { kind: 'minmax' } as const }]
  const step: RecipeStep = { kind: 'gptq', groups, ignore: ['lm_head'], blockSize: 128, dampening: 0.01, actorder: 'static' }
  let error = Number.NaN
  await compress(
    {
      sourceFolder: model,
      outFolder: join(scratch, 'out', String(performance.now())),
      recipe: { recipe: { steps: [step] } },
      seed: 1,
      resume: false,
      latheVersion: 'test',
      calibration: { path: text, samples: 12, sequenceLength: 32, seed: 0 },
      openBackend: () => first!.open(),
      onLayer: ({ outputError }) => {
        error = outputError ?? Number.NaN
      },
    },
    { threads: 2, roundOn },
  )
  return error
}

describe.skipIf(first === undefined)('through a device', { timeout: 300_000 }, () => {
  it.each(SCHEMES)('%s', async (_, scheme) => {
    const exact = await errorOf(scheme, 'processor')
    const device = await errorOf(scheme, 'device')
    // A weight near a boundary may fall on the other side, and what follows with it: the loss stays.
    expect(Math.abs(device / exact - 1)).toBeLessThan(0.03)
  })
})
