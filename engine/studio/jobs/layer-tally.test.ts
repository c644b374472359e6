import { expect, it } from 'vitest'
import type { CompressProgress } from '../../compress/types.ts'
import type { JobLayers, TensorError } from '../../contract/index.ts'
import { LayerTally } from './layer-tally.ts'

function tally(calibrated: boolean, before: JobLayers | null = null) {
  const shown: JobLayers[] = []
  const said: string[] = []
  const context = {
    job: { layers: before },
    setLayers: (layers: JobLayers) => shown.push(layers),
    working: (text: string) => said.push(text),
  }
  return { tally: new LayerTally(context as never, calibrated), shown, said }
}

function at(layer: number, note: string): CompressProgress {
  return { layer: { layer, layers: 3, note, secondsLeft: null } } as CompressProgress
}

const tensor = (layer: number | null, relativeError: number): TensorError => ({ layer, relativeError }) as TensorError

it('a calibrated run tells its layer, says that it lives, and keeps what an earlier run had finished', () => {
  const finished = [{ layer: 0, error: 0.1, seconds: 2 }]
  const {
    tally: layers,
    shown,
    said,
  } = tally(true, { total: 3, current: null, note: null, metric: 'output', finished, deviceBytes: 5, secondsLeft: null, takenOver: null })
  layers.at(at(1, 'GPTQ q_proj'))
  layers.at(at(1, 'GPTQ q_proj'))
  layers.device(4)
  layers.device(9)
  layers.tensor(tensor(1, 0.5))
  layers.finish(1, 3, 0.2, 3)
  layers.at({ layer: null } as CompressProgress)
  expect(said).toEqual(['Layer 1 (2 of 3): GPTQ q_proj'])
  expect(shown).toHaveLength(4)
  expect(shown.at(-1)).toEqual({
    total: 3,
    current: null,
    note: null,
    metric: 'output',
    finished: [...finished, { layer: 1, error: 0.2, seconds: 3 }],
    deviceBytes: 9,
    secondsLeft: null,
    takenOver: null,
  })
})

it('a data-free run keeps the worst matrix of each layer, in the order of layers', () => {
  const { tally: layers, shown, said } = tally(false)
  layers.at(at(0, 'nothing'))
  for (const [layer, error] of [
    [1, 0.2],
    [0, 0.1],
    [0, 0.3],
    [0, 0.2],
    [null, 0.9],
  ] as const)
    layers.tensor(tensor(layer, error))
  expect(said).toEqual([])
  expect(shown.at(-1)).toMatchObject({
    total: 2,
    metric: 'weights',
    finished: [
      { layer: 0, error: 0.3, seconds: null },
      { layer: 1, error: 0.2, seconds: null },
    ],
    deviceBytes: null,
    secondsLeft: null,
    takenOver: null,
  })
})
