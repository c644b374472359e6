/**
 * The backends that numeric suites run on, opened by name. On Linux both software adapters are made visible to the Vulkan loader by setting its
 * variable in this process, before the first instance: the loader reads it when an instance is made. What the machine lacks is skipped, and
 * said. Device-reading suites must run in a process of their own (vitest forks), as dawn.node does not share one.
 */
import { existsSync } from 'node:fs'
import { findAdapters } from '../adapters.ts'
import type { Backend } from '../program.ts'
import { openBackend, type OpenBackendOptions } from '../webgpu/backend.ts'
import { gpuTuning, type Tuning } from '../webgpu/tuning.ts'

/** Where distributions and Chromium put the manifests of the two software Vulkan drivers. */
const MANIFESTS = [
  '/usr/share/vulkan/icd.d/lvp_icd.json',
  '/usr/share/vulkan/icd.d/lvp_icd.x86_64.json',
  '/usr/share/vulkan/icd.d/lvp_icd.aarch64.json',
  '/usr/lib/chromium/vk_swiftshader_icd.json',
  '/usr/lib/chromium-browser/vk_swiftshader_icd.json',
]

export interface TestBackend {
  /** Adapter and profile, for test titles. */
  readonly name: string
  readonly adapter: string
  readonly open: (options?: OpenBackendOptions) => Promise<Backend>
}

/** Makes software drivers visible unless the environment names drivers itself. Call before anything touches the GPU. */
export function showSoftwareDrivers(): void {
  if (process.platform !== 'linux' || process.env['VK_DRIVER_FILES'] !== undefined || process.env['VK_ICD_FILENAMES'] !== undefined) return
  const manifests = MANIFESTS.filter((path) => existsSync(path))
  if (manifests.length > 0) process.env['VK_DRIVER_FILES'] = manifests.join(':')
}

/** Which software adapters the suites want; CI machines have both. */
const WANTED = ['llvmpipe', 'swiftshader'] as const

/** One entry per wanted adapter that this machine has; prints the ones it lacks. */
export async function testBackends(): Promise<readonly TestBackend[]> {
  showSoftwareDrivers()
  const found = await findAdapters()
  return WANTED.flatMap((adapter) => {
    if (!found.some((entry) => entry.adapter.id.includes(adapter))) {
      process.stderr.write(`skipped: no ${adapter} on this machine, its numeric tests do not run\n`)
      return []
    }
    return [{ name: adapter, adapter, open: (options: OpenBackendOptions = {}) => openBackend(adapter, options) }]
  })
}

export interface TestConfiguration {
  readonly name: string
  readonly open: () => Promise<Backend>
  /** Whether to run every case, or a sample of them. */
  readonly thorough: boolean
}

/**
 * Each adapter once under either toggle profile, each time with other kernel shapes: the GPU's shapes must be right on a software adapter too,
 * and between them the four cover every pair. Two run all cases; the others a sample, since a software driver takes seconds to compile the
 * GPU's shapes.
 */
export async function testConfigurations(): Promise<readonly TestConfiguration[]> {
  const backends = await testBackends()
  return backends.flatMap(({ adapter, open }): readonly TestConfiguration[] => {
    const other = adapter === 'swiftshader'
    const gpu = { tuning: other ? gpuTuning() : narrowGpuTuning() }
    return [
      {
        name: `${adapter}, production, ${other ? 'GPU' : 'CPU'} shapes`,
        open: () => open({ profile: 'production', ...(other ? gpu : {}) }),
        thorough: true,
      },
      {
        name: `${adapter}, safe, ${other ? 'CPU' : 'GPU'} shapes`,
        open: () => open({ profile: 'safe', ...(other ? {} : gpu) }),
        thorough: false,
      },
    ]
  })
}

/** The GPU's kernels with smaller tiles: the same text, an eighth of the code for LLVM to compile. */
export function narrowGpuTuning(): Tuning {
  const { linear, attention } = gpuTuning()
  return {
    ...gpuTuning(),
    linear: { ...linear, rows: 1, columns: [1, 2], lanes: 16, stageElements: 256, wide: { workgroup: 64, rows: 2, stageElements: 128 } },
    attention: { ...attention, team: 2 },
  }
}

/** One case in this many in a configuration that is not thorough. */
const SAMPLE = 4

export function casesOf<T>({ thorough }: TestConfiguration, cases: readonly T[]): readonly T[] {
  return cases.filter((_, index) => thorough || index % SAMPLE === 0)
}
