/** Conclusions from facts: one machine per row of advice. */
import { describe, expect, it } from 'vitest'
import type { Adapter } from '../contract/hardware.ts'
import { advise, packageManagerOf, type SystemFacts, systemFacts } from './diagnosis.ts'

const healthy: SystemFacts = {
  platform: 'linux',
  hasVulkanLoader: true,
  manifests: ['radeon_icd.json'],
  manifestsFromEnvironment: false,
  hasNvidiaKernelDriver: false,
  renderNodes: 1,
  openableRenderNodes: 1,
  packageManager: 'apt',
}

function adapter(change: Partial<Adapter>): Adapter {
  return {
    id: 'x',
    name: 'X',
    vendor: 'v',
    backend: 'vulkan',
    driver: 'd',
    type: 'discrete',
    selected: true,
    usable: true,
    reason: null,
    features: { f16: true, subgroups: true, subgroupSize: [32, 32], timestamps: true, packedDot: true, subgroupMatrix: false },
    emulates: ['e4m3', 'e2m1'],
    limits: null,
    memory: { totalBytes: null, freeBytes: null, source: 'none' },
    ...change,
  }
}

const reference = adapter({ id: 'reference', type: 'reference' })
const software = adapter({ type: 'software' })

describe('advise', () => {
  it('is silent when a GPU works', () => {
    expect(advise(healthy, [adapter({}), software, reference])).toEqual([])
  })

  it.each([
    ['no loader', { hasVulkanLoader: false }, [], 'sudo apt install libvulkan1'],
    ['no loader on Fedora', { hasVulkanLoader: false, packageManager: 'dnf' }, [], 'sudo dnf install vulkan-loader'],
    ['no driver', { manifests: [] }, [], 'sudo apt install mesa-vulkan-drivers'],
    [
      'no driver, unknown system',
      { manifests: [], packageManager: null },
      [],
      'Install mesa-vulkan-drivers or what your distribution calls it.',
    ],
    ['drivers hidden by the environment', { manifests: [], manifestsFromEnvironment: true }, [], 'Unset that variable.'],
    ['only old Mesa', {}, [], 'sudo apt install mesa-vulkan-drivers'],
    ['NVIDIA without Vulkan', { hasNvidiaKernelDriver: true }, [software], 'sudo apt install libnvidia-gl-<version of your driver>'],
    ['no permission', { openableRenderNodes: 0 }, [software], 'sudo usermod -aG render "$USER", then log in again'],
  ] satisfies readonly [string, Partial<SystemFacts>, readonly Adapter[], string][])('%s', (_, change, adapters, fix) => {
    const [first] = advise({ ...healthy, ...change }, [...adapters, reference])
    expect(first?.fix).toBe(fix)
  })

  it('says that software is in use, and nothing more on a machine without a GPU', () => {
    const facts = { ...healthy, manifests: ['lvp_icd.json'], renderNodes: 0, openableRenderNodes: 0 }
    expect(advise(facts, [software, reference]).map(({ what }) => what)).toEqual(['Only a software adapter is in use'])
  })

  it('names a device that WebGPU refuses, and one without f16', () => {
    const refused = adapter({ name: 'Old card', usable: false, reason: 'It lacks a feature.' })
    const half = adapter({ name: 'No halves', features: { ...reference.features, f16: false } })
    expect(advise(healthy, [refused, half, reference]).map(({ what }) => what)).toEqual([
      'Old card cannot be used',
      'No halves has no 16-bit float shaders',
    ])
  })

  it('knows other systems', () => {
    expect(advise({ ...healthy, platform: 'win32' }, [reference])[0]?.fix).toMatch(/driver from the maker/)
    expect(advise({ ...healthy, platform: 'darwin' }, [reference])[0]?.fix).toBe('Update macOS.')
  })
})

it.each([
  ['ID=ubuntu\nID_LIKE=debian\n', 'apt'],
  ['ID=linuxmint\nID_LIKE="ubuntu debian"\n', 'apt'],
  ['NAME=x\nID="rocky"\nID_LIKE="rhel centos fedora"\n', 'dnf'],
  ['ID=manjaro\nID_LIKE=arch', 'pacman'],
  ['ID="opensuse-leap"', 'zypper'],
  ['ID=alpine', 'apk'],
  ['ID=nixos', null],
  ['', null],
] as const)('finds the package manager of %j', (text, manager) => {
  expect(packageManagerOf(text)).toBe(manager)
})

it('gathers facts of this machine', async () => {
  expect((await systemFacts()).platform).toBe(process.platform)
})
