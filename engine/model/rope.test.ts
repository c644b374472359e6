import { describe, expect, test } from 'vitest'
import { ropeFrequencies, ropeTable } from './rope.ts'

const llama31 = {
  type: 'llama3',
  theta: 500_000,
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalMaxPositionEmbeddings: 8192,
} as const

describe('ropeFrequencies', () => {
  test('default: θ to the power −2i/d', () => {
    const frequencies = ropeFrequencies({ rotaryDim: 8, parameters: { type: 'default', theta: 10_000 } })
    expect(Array.from(frequencies)).toEqual([1, expect.closeTo(0.1, 15), expect.closeTo(0.01, 16), expect.closeTo(0.001, 17)])
  })

  test('linear divides all', () => {
    const frequencies = ropeFrequencies({ rotaryDim: 4, parameters: { type: 'linear', theta: 10_000, factor: 4 } })
    expect(Array.from(frequencies)).toEqual([0.25, expect.closeTo(0.0025, 17)])
  })

  // Llama 3.1 8B, computed in Python from the wavelength form of the rule (bands at 8192/4 and 8192/1), which ours rewrites in turns.
  test.each([
    [0, 1],
    [1, 0.8146172338565447],
    [28, 0.0032114459947525913],
    [29, 0.002166570763503359],
    [34, 0.00017850781276799638],
    [35, 9.556212353964683e-5],
    [63, 3.068925988914511e-7],
  ])('llama3: pair %i turns %f radians per position', (pair, expected) => {
    const frequency = ropeFrequencies({ rotaryDim: 128, parameters: llama31 })[pair]!
    expect(Math.abs(frequency / expected - 1)).toBeLessThan(1e-13)
  })
})

test('ropeTable holds cos and sin of position times frequency', () => {
  const table = ropeTable({ rotaryDim: 2, parameters: { type: 'default', theta: 10_000 } }, 4, 7)
  const positions = [0, 1, 2, 3]
  expect(table).toEqual({
    id: 7,
    positions: 4,
    rotaryDim: 2,
    cos: Float64Array.from(positions, Math.cos),
    sin: Float64Array.from(positions, Math.sin),
  })
})
