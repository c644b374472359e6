import { describe, expect, it } from 'vitest'
import { orthogonal, paley } from './orthogonal.ts'

/** Park–Miller; only has to be the same everywhere. */
function generator(): () => number {
  let state = 20261127
  return () => (state = (state * 48271) % 2147483647) / 2147483647
}

/** R as a matrix: its rows are the images of the unit vectors. */
function matrixOf(size: number, signs: boolean): { rows: number[][]; description: string } {
  const rotation = orthogonal(size, signs, generator())
  const rows = Array.from({ length: size }, (_, i) => {
    const unit = new Float64Array(size)
    unit[i] = 1
    rotation.apply(unit, 1)
    return [...unit]
  })
  return { rows, description: rotation.description }
}

describe('orthogonal matrices', () => {
  it.each([
    [1, 'Hadamard'],
    [2, 'Hadamard'],
    [64, 'Hadamard'],
    [12, 'Hadamard 12 × 1'],
    [48, 'Hadamard 12 × 4'],
    [80, 'Hadamard 20 × 4'],
    [28, 'Hadamard 28 × 1'],
    [72, 'Hadamard 36 × 2'],
    [192, 'Hadamard 12 × 16'],
    [172, 'random 43 × Hadamard 4'],
    [6, 'random 3 × Hadamard 2'],
    [7, 'random 7 × Hadamard 1'],
  ])('of size %i are %s and orthogonal', (size, description) => {
    for (const signs of [false, true]) {
      const { rows, description: found } = matrixOf(size, signs)
      expect(found).toBe(description)
      let worst = 0
      rows.forEach((a, i) =>
        rows.forEach((b, j) => {
          const dot = a.reduce((sum, value, k) => sum + value * b[k]!, 0)
          worst = Math.max(worst, Math.abs(dot - (i === j ? 1 : 0)))
        }),
      )
      expect(worst).toBeLessThan(1e-12)
      // A Hadamard matrix spreads one channel evenly over all.
      const even = rows.flat().every((value) => Math.abs(Math.abs(value) * Math.sqrt(size) - 1) < 1e-12)
      expect(even).toBe(!description.startsWith('random'))
    }
  })

  it('are known for the hidden and head sizes of published models', () => {
    const sizes = [
      576, 768, 896, 960, 1536, 2048, 2304, 2560, 2880, 3072, 3584, 4096, 5120, 5376, 6144, 6656, 7168, 8192, 12288, 96, 80, 128, 256,
    ]
    const random = sizes.filter((size) => orthogonal(size, false, generator()).description.startsWith('random'))
    expect(random).toEqual([])
  })

  it('apply to several vectors at once as to each', () => {
    const rotation = orthogonal(24, true, generator())
    const one = Float64Array.from({ length: 72 }, (_, i) => Math.sin(i))
    const each = one.slice()
    rotation.apply(one, 3)
    for (let i = 0; i < 3; i++) rotation.apply(each.subarray(24 * i, 24 * (i + 1)), 1)
    expect(one).toEqual(each)
  })

  it('has no Paley matrix where there is none over a prime field', () => {
    expect([1, 3, 6, 7, 52].map(paley)).toEqual([null, null, null, null, null])
  })
})
