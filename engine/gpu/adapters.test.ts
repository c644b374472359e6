/** Names, types and memory of adapters, from strings as drivers print them; and the scan of this machine. */
import { describe, expect, it } from 'vitest'
import { parseNvidiaSmi } from './adapter-memory.ts'
import { adapterSlug, chooseAdapter, classify, listAdapters } from './adapters.ts'
import { parseAdapterList } from './webgpu/instance.ts'

describe('classify', () => {
  it.each([
    ['NVIDIA GeForce RTX 4090', 'nvidia', false, 'discrete'],
    ['NVIDIA H100 80GB HBM3', 'nvidia', false, 'discrete'],
    ['NVIDIA Tegra Orin (nvgpu)', 'nvidia', false, 'integrated'],
    ['AMD Radeon RX 7900 XTX (RADV NAVI31)', 'amd', false, 'discrete'],
    ['AMD Radeon Graphics (RADV REMBRANDT)', 'amd', false, 'integrated'],
    ['AMD Radeon 780M (RADV PHOENIX)', 'amd', false, 'integrated'],
    ['AMD Custom GPU 0405 (RADV VANGOGH)', 'amd', false, 'integrated'],
    ['Intel(R) Arc(TM) A770 Graphics (DG2)', 'intel', false, 'discrete'],
    ['Intel(R) Arc(tm) Graphics (MTL)', 'intel', false, 'integrated'],
    ['Intel(R) UHD Graphics 770 (ADL-S GT1)', 'intel', false, 'integrated'],
    ['Apple M3 Max', 'apple', false, 'integrated'],
    ['llvmpipe (LLVM 15.0.6, 256 bits)', 'mesa', true, 'software'],
    ['SwiftShader Device (Subzero)', 'google', true, 'software'],
    ['Microsoft Basic Render Driver', 'microsoft', true, 'software'],
    ['Something new', 'acme', false, 'unknown'],
  ] as const)('%s is %4$s', (name, vendor, fallback, type) => {
    expect(classify(name, vendor, fallback)).toBe(type)
  })
})

it('makes ids that survive a driver update', () => {
  expect(adapterSlug('llvmpipe (LLVM 15.0.6, 256 bits)')).toBe('llvmpipe')
  expect(adapterSlug('AMD Radeon RX 7900 XTX (RADV NAVI31)')).toBe('amd-radeon-rx-7900-xtx')
  expect(adapterSlug('(…)')).toBe('adapter')
})

it('reads the adapter list out of the rejection', () => {
  const message = [
    'no suitable backends found',
    'Available adapters:',
    " * backend: 'vulkan', name: 'llvmpipe (LLVM 15.0.6, 256 bits)'",
    " * backend: 'd3d12', name: 'Bob's GPU'",
  ].join('\n')
  expect(parseAdapterList(message)).toEqual([
    { backend: 'vulkan', name: 'llvmpipe (LLVM 15.0.6, 256 bits)' },
    { backend: 'd3d12', name: "Bob's GPU" },
  ])
  expect(parseAdapterList('no suitable backends found')).toEqual([])
})

it('takes the nvidia-smi row of the card asked for', () => {
  const text = 'NVIDIA GeForce RTX 4090, 24564, 23010\nNVIDIA H100 80GB HBM3, 81559, 81000\n'
  const source = 'nvidia-smi'
  expect(parseNvidiaSmi(text, 'NVIDIA H100 80GB HBM3')).toEqual({ totalBytes: 81559 * 2 ** 20, freeBytes: 81000 * 2 ** 20, source })
  expect(parseNvidiaSmi(text, 'NVIDIA T4')).toBeNull()
  expect(parseNvidiaSmi('No devices were found\n', 'NVIDIA T4')).toBeNull()
})

describe('this machine', () => {
  it('lists the reference backend last and marks exactly the chosen adapter', async () => {
    const adapters = await listAdapters('reference')
    expect(adapters.at(-1)).toMatchObject({ id: 'reference', type: 'reference', selected: true })
    expect(adapters.filter((adapter) => adapter.selected)).toHaveLength(1)
    expect(new Set(adapters.map((adapter) => adapter.id)).size).toBe(adapters.length)
  })

  it('refuses an adapter that is not there, naming those that are', async () => {
    await expect(chooseAdapter('voodoo-2')).rejects.toMatchObject({
      code: 'gpu.no-adapter',
      message: expect.stringMatching(/voodoo-2.*reference/) as string,
    })
  })
})
