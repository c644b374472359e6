import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openCheckpoint } from '../checkpoint/open.ts'
import { stepPartsOf, stepSeconds } from '../gpu/step-costs.ts'
import { buildProgram } from '../model/program-builder.ts'
import { describeModel } from '../model/spec.ts'
import { modelShapeOf } from './model-shape.ts'
import { stepPartsOfShape } from './step-parts.ts'

const ROOT = join(import.meta.dirname, '../..')
const DATA = join(ROOT, '../shared/data/models')

const bySize = <T extends { readonly weights: number }>(products: readonly T[]): T[] => products.toSorted((a, b) => a.weights - b.weights)

describe('the parts of a step that the planner assumes are those of the program that runs', () => {
  test.skipIf(!existsSync(DATA)).each([
    ['the sample model', join(ROOT, 'assets/demo-model'), 'bf16'],
    ['Qwen3', join(DATA, 'random-qwen3'), 'bf16'],
    ['Mistral', join(DATA, 'random-mistral'), 'bf16'],
    ['4 bits by LLM Compressor', join(DATA, 'llmcompressor-gptq-w4a16-g128'), 'int4'],
    ['FP8 by LLM Compressor', join(DATA, 'llmcompressor-fp8-dynamic'), 'int8'],
  ] as const)('%s', async (_name, folder, format) => {
    await using checkpoint = await openCheckpoint(folder)
    const program = stepPartsOf(buildProgram(describeModel(checkpoint.config, checkpoint.generationConfig), checkpoint, 16))
    const shape = stepPartsOfShape(modelShapeOf(checkpoint.config), format)
    expect({ ...shape, products: bySize(merged(shape.products)) }).toEqual({ ...program, products: bySize(merged(program.products)) })
  })
})

/** Products of one size count together. */
function merged(products: ReturnType<typeof stepPartsOf>['products']) {
  const sums = new Map<string, (typeof products)[number]>()
  for (const product of products) {
    const key = `${product.format} ${product.weights}`
    sums.set(key, { ...product, count: product.count + (sums.get(key)?.count ?? 0) })
  }
  return [...sums.values()]
}

test('a step is the sum of its parts: between measured sizes in proportion, beyond them as it went on', () => {
  const costs = {
    stepMicroseconds: 100,
    logitNanoseconds: 10,
    linear: [
      {
        format: 'bf16' as const,
        points: [
          { weights: 1000, microseconds: 10 },
          { weights: 3000, microseconds: 20 },
        ],
      },
      { format: 'int4' as const, points: [{ weights: 1000, microseconds: 4 }] },
    ],
    layers: [
      { elements: 100, headElements: 10, microseconds: 30, contextNanoseconds: 100 },
      { elements: 200, headElements: 20, microseconds: 50, contextNanoseconds: 300 },
    ],
  }
  const parts = {
    products: [
      { format: 'bf16' as const, weights: 500, count: 1 }, // 10: no smaller was measured
      { format: 'bf16' as const, weights: 2000, count: 2 }, // 15 each
      { format: 'bf16' as const, weights: 5000, count: 1 }, // 30
      { format: 'int4' as const, weights: 9000, count: 1 }, // 4: the only one
    ],
    layers: 3,
    elements: 150, // 40
    headElements: 15, // 0.2 per token
    vocabulary: 1000, // 10
  }
  const microseconds = 10 + 30 + 30 + 4 + 3 * (40 + 0.2 * 50) + 100 + 10
  expect(stepSeconds(costs, parts, 50) * 1e6).toBeCloseTo(microseconds, 9)
})
