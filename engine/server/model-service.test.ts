import { expect, test } from 'vitest'
import { LiveRequests } from './live-requests.ts'
import { ModelService } from './model-service.ts'

function serviceOf(...names: string[]): ModelService {
  const cards = () => names.map((name) => ({ name, aliases: [], created: 0, contextLimit: null }))
  return new ModelService({ cards, acquire: async () => null }, new LiveRequests(), () => {})
}

test('a body without a model gets the one that is served; of several none is meant, and none is served at all', () => {
  const one = serviceOf('a')
  expect([one.withModel({ prompt: 'x' }), one.withModel({ model: null }), one.withModel({ model: 'b' }), one.withModel([1])]).toEqual([
    { prompt: 'x', model: 'a' },
    { model: 'a' },
    { model: 'b' },
    [1],
  ])
  expect(() => serviceOf('a', 'b').withModel({})).toThrow('Name a "model": this server has a, b.')
  expect(() => serviceOf().withModel({})).toThrow('No model is being served.')
})
