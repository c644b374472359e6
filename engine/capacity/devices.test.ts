import { describe, expect, test } from 'vitest'
import { DEVICES, findDevice } from './devices.ts'

describe('device table', () => {
  test('ids are unique and every figure is positive or unknown', () => {
    expect(new Set(DEVICES.map((device) => device.id)).size).toBe(DEVICES.length)
    const figures = DEVICES.flatMap((device) => [
      device.memoryBytes,
      device.gigabytesPerSecond,
      device.shaderTeraflops,
      device.watts,
      ...Object.values(device.tensor),
    ])
    expect(figures.filter((figure) => figure !== null && !(figure > 0))).toEqual([])
  })

  test('dense figures only: 8-bit is twice 16-bit where both are known, 4-bit at most four times 8-bit', () => {
    const odd = DEVICES.filter(({ tensor: { bf16, fp8, fp4 } }) => {
      const eightBit = bf16 === null || fp8 === null ? 2 : fp8 / bf16
      const fourBit = fp8 === null || fp4 === null ? 2 : fp4 / fp8
      return Math.abs(eightBit - 2) > 0.05 || fourBit > 4
    })
    expect(odd.map((device) => device.id)).toEqual([])
  })

  test.each([
    ['NVIDIA GeForce RTX 4090', 'rtx-4090'],
    ['NVIDIA H200', 'h200'],
    ['NVIDIA H100 80GB HBM3', 'h100'],
    ['h100-pcie', 'h100-pcie'],
    ['NVIDIA GeForce RTX 5070 Ti', 'rtx-5070-ti'],
    ['Apple M4 Max', 'm4-max'],
    ['Apple M4', 'm4'],
    ['AMD Radeon RX 7900 XTX', 'rx-7900-xtx'],
  ])('%s is %s', (text, id) => {
    expect(findDevice(text)?.id).toBe(id)
  })

  test.each([
    'llvmpipe (LLVM 15.0.6, 256 bits)',
    'SwiftShader Device',
    '',
    'Quadro P400',
    'NVIDIA GeForce GT 430',
    'NVIDIA GeForce RTX 2060',
  ])('%s is not guessed', (text) => {
    expect(findDevice(text)).toBeNull()
  })
})
