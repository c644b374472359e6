import fc from 'fast-check'
import { expect, test } from 'vitest'
import { CapacityRequestSchema } from '../../../engine/contract/index.ts'
import { PARAMETERS, requestOf } from './request.ts'

function ask(text: string, contextLimit: number | null = null) {
  return requestOf(new URLSearchParams(text), contextLimit)
}

test('nothing is asked until a model is chosen', () => {
  expect(ask('gpu=l4')).toBeNull()
})

test('a GPU by name means a vLLM server unless said otherwise', () => {
  expect(ask('published=qwen3-4b')).toMatchObject({ engine: 'lathe', deviceId: null })
  expect(ask('published=qwen3-4b&gpu=l4')).toMatchObject({ engine: 'vllm', deviceId: 'l4' })
  expect(ask('published=qwen3-4b&gpu=l4&engine=lathe')).toMatchObject({ engine: 'lathe' })
})

test('the usual request never outgrows the context', () => {
  expect(ask('model=m', 1024)).toMatchObject({ contextTokens: 1024, promptTokens: 768, outputTokens: 256 })
  expect(ask('model=m&context=100&prompt=5000&output=9000')).toMatchObject({ promptTokens: 50, outputTokens: 50 })
})

test('whatever stands in the address, the engine is asked something it accepts', () => {
  const values = fc.oneof(
    fc.string(),
    fc.double().map(String),
    fc.integer().map(String),
    fc.constantFrom('vllm', 'f16', '', '0', '-3', '1e99'),
  )
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom(...PARAMETERS), values), { maxLength: 20 }), (pairs) => {
      const request = requestOf(new URLSearchParams(pairs.map(([name, value]) => [name, value])), 4096)
      const parsed = request === null || CapacityRequestSchema.safeParse(request).success
      expect(parsed).toBe(true)
    }),
    { seed: 1812 },
  )
})
