import { describe, expect, test } from 'vitest'
import { findDevice } from './devices.ts'
import { modelShapeOf } from './model-shape.ts'
import { findPublishedModel } from './published-models.ts'
import { STORAGE_SCHEMES, bytesPerWeight, cautionOn, findScheme, totalBytes, weightPartsOf } from './storage-schemes.ts'

const scheme = (id: string) => findScheme(id)!

function cautions(gpu: string): string[] {
  return STORAGE_SCHEMES.filter((each) => cautionOn(findDevice(gpu)!, each) !== null).map((each) => each.id)
}

describe('storage schemes (specs/benchmark.md §7.1)', () => {
  test.each([
    ['bf16', 2],
    ['fp8', 1 + 2 / 4096],
    ['w8a8', 1 + 2 / 4096],
    ['fp8-block', 1 + 4 / 16_384],
    ['mxfp8', 1 + 1 / 32],
    ['w4a16-g128', 0.515625],
    ['w4a16-g64', 0.53125],
    ['w4a16-g32', 0.5625],
    ['w4a16-g32-asym', 0.5625 + 0.5 / 32],
    ['nvfp4', 0.5625],
    ['mxfp4', 0.53125],
    ['w3a16-g128', 3 / 8 + 2 / 128],
  ])('%s takes %f bytes per weight', (id, bytes) => {
    expect(bytesPerWeight(scheme(id), 4096)).toBeCloseTo(bytes, 12)
  })

  test.each([
    ['bf16', 16.06],
    ['fp8', 9.08],
    ['w4a16-g128', 5.7],
    ['nvfp4', 6.03],
  ])('Llama-3.1-8B as %s is %f GB', (id, gigabytes) => {
    const shape = modelShapeOf(findPublishedModel('llama-3.1-8b')!.config)
    expect(totalBytes(weightPartsOf(shape, scheme(id))) / 1e9).toBeCloseTo(gigabytes, 2)
  })

  test('gpt-oss-120b in MXFP4 is about the 60.8 GiB that its publisher ships', () => {
    const shape = modelShapeOf(findPublishedModel('gpt-oss-120b')!.config)
    // the shipped files keep attention at 16 bits; here it is 4 bits as well, 1 % of the model
    expect(totalBytes(weightPartsOf(shape, scheme('mxfp4'))) / 2 ** 30).toBeCloseTo(60.8, -0.6)
  })

  test('are listed from most bits to least', () => {
    const sizes = STORAGE_SCHEMES.map((each) => bytesPerWeight(each, 4096))
    expect(sizes).toEqual(sizes.toSorted((one, other) => other - one))
  })

  test('what a device is not made for is said', () => {
    expect(cautions('a100')).toEqual(['mxfp8', 'fp8', 'fp8-block', 'nvfp4', 'mxfp4', 'w3a16-g128', 'w2a16-g64'])
    expect(cautions('b300')).toEqual(['w8a8', 'w3a16-g128', 'w2a16-g64'])
    expect(cautions('mi300x')).toContain('w4a16-g128')
    expect(cautions('b200')).toEqual(['w3a16-g128', 'w2a16-g64'])
  })
})
