/**
 * What keeps this machine's GPU from being used, and the command that helps. Facts are gathered from the system (`systemFacts`), conclusions are
 * drawn by a pure function (`advise`). Knows drivers and packages; nothing of models.
 */
import { constants } from 'node:fs'
import { access, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Adapter, Hardware } from '../contract/hardware.ts'

export type Advice = Hardware['advice'][number]
type PackageManager = 'apt' | 'dnf' | 'pacman' | 'zypper' | 'apk'

export interface SystemFacts {
  readonly platform: NodeJS.Platform
  /** libvulkan.so.1 lies where the system's linker looks. Linux only, like all below. */
  readonly hasVulkanLoader: boolean
  /** File names of Vulkan driver manifests in the standard folders or named by the environment. */
  readonly manifests: readonly string[]
  /** The environment names the drivers, so the standard folders do not count. */
  readonly manifestsFromEnvironment: boolean
  /** The NVIDIA kernel module is loaded. */
  readonly hasNvidiaKernelDriver: boolean
  readonly renderNodes: number
  readonly openableRenderNodes: number
  readonly packageManager: PackageManager | null
}

const LIBRARY_FOLDERS = [
  '/usr/lib',
  '/usr/lib64',
  '/lib',
  '/lib64',
  '/usr/local/lib',
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/run/opengl-driver/lib',
]
const MANIFEST_FOLDERS = [
  '/usr/share/vulkan/icd.d',
  '/etc/vulkan/icd.d',
  '/usr/local/share/vulkan/icd.d',
  '/run/opengl-driver/share/vulkan/icd.d',
]

async function entries(folder: string): Promise<readonly string[]> {
  return readdir(folder).catch(() => []) // an absent or closed folder holds nothing for us
}

async function opens(path: string, mode = constants.R_OK): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  )
}

export async function systemFacts(): Promise<SystemFacts> {
  const named = process.env['VK_DRIVER_FILES'] ?? process.env['VK_ICD_FILENAMES']
  const libraries = [...(process.env['LD_LIBRARY_PATH'] ?? '').split(':').filter((folder) => folder !== ''), ...LIBRARY_FOLDERS]
  const found = await Promise.all(libraries.map((folder) => opens(join(folder, 'libvulkan.so.1'))))
  const folders = await Promise.all(MANIFEST_FOLDERS.map((folder) => entries(folder)))
  const nodes = (await entries('/dev/dri')).filter((name) => name.startsWith('renderD'))
  const openable = await Promise.all(nodes.map((name) => opens(join('/dev/dri', name), constants.R_OK | constants.W_OK)))
  return {
    platform: process.platform,
    hasVulkanLoader: found.includes(true),
    manifests:
      named === undefined ? folders.flat().filter((name) => name.endsWith('.json')) : named.split(':').filter((path) => path !== ''),
    manifestsFromEnvironment: named !== undefined,
    hasNvidiaKernelDriver: await opens('/proc/driver/nvidia/version'),
    renderNodes: nodes.length,
    openableRenderNodes: openable.filter(Boolean).length,
    packageManager: packageManagerOf(await readFile('/etc/os-release', 'utf8').catch(() => '')),
  }
}

/** From /etc/os-release: ID, else the families in ID_LIKE. */
export function packageManagerOf(osRelease: string): PackageManager | null {
  const field = (name: string): string => new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(osRelease)?.[1] ?? ''
  const names = [field('ID'), ...field('ID_LIKE').split(' ')]
  const has = (...wanted: readonly string[]): boolean => names.some((name) => wanted.includes(name))
  if (has('debian', 'ubuntu')) return 'apt'
  if (has('fedora', 'rhel', 'centos')) return 'dnf'
  if (has('arch')) return 'pacman'
  if (has('suse', 'opensuse', 'opensuse-leap', 'opensuse-tumbleweed', 'sles')) return 'zypper'
  return has('alpine') ? 'apk' : null
}

const PACKAGES: Readonly<Record<'loader' | 'mesa' | 'nvidia', Readonly<Record<PackageManager, string>>>> = {
  loader: { apt: 'libvulkan1', dnf: 'vulkan-loader', pacman: 'vulkan-icd-loader', zypper: 'libvulkan1', apk: 'vulkan-loader' },
  mesa: {
    apt: 'mesa-vulkan-drivers',
    dnf: 'mesa-vulkan-drivers',
    pacman: 'vulkan-radeon vulkan-intel vulkan-swrast',
    zypper: 'libvulkan_radeon libvulkan_intel libvulkan_lvp',
    apk: 'mesa-vulkan-ati mesa-vulkan-intel mesa-vulkan-swrast',
  },
  // The part of the NVIDIA driver that speaks Vulkan; servers often have only the compute part.
  nvidia: {
    apt: 'libnvidia-gl-<version of your driver>',
    dnf: 'nvidia-driver-libs',
    pacman: 'nvidia-utils',
    zypper: 'nvidia-gl-G06',
    apk: 'nvidia-driver-libs',
  },
}
const INSTALL: Readonly<Record<PackageManager, string>> = {
  apt: 'sudo apt install',
  dnf: 'sudo dnf install',
  pacman: 'sudo pacman -S',
  zypper: 'sudo zypper install',
  apk: 'sudo apk add',
}

function install(what: keyof typeof PACKAGES, manager: PackageManager | null): string {
  if (manager !== null) return `${INSTALL[manager]} ${PACKAGES[what][manager]}`
  return `Install ${PACKAGES[what].apt} or what your distribution calls it.`
}

/** What is wrong and worth doing, most important first; empty when a GPU is in use. Pure. */
export function advise(facts: SystemFacts, adapters: readonly Adapter[]): readonly Advice[] {
  const devices = adapters.filter((adapter) => adapter.type !== 'reference')
  const usable = devices.filter((adapter) => adapter.usable)
  const hardware = usable.filter((adapter) => adapter.type !== 'software')
  const advice: Advice[] = []
  for (const adapter of devices.filter((device) => !device.usable)) {
    advice.push({
      what: `${adapter.name} cannot be used`,
      why: adapter.reason ?? 'WebGPU refuses it.',
      fix: 'Update its driver; Mesa drivers need version 23 or newer.',
    })
  }
  if (hardware.length === 0) advice.push(...(facts.platform === 'linux' ? adviseLinux(facts, devices.length) : adviseOther(facts)))
  if (usable.length > 0 && hardware.length === 0) {
    advice.push({
      what: 'Only a software adapter is in use',
      why: 'Models run on the CPU: the numbers are right, but slow, and speeds say nothing about a GPU.',
      fix: 'Nothing to do if this machine has no GPU.',
    })
  }
  for (const adapter of hardware.filter((device) => !device.features.f16)) {
    advice.push({
      what: `${adapter.name} has no 16-bit float shaders`,
      why: 'Its driver does not offer them to WebGPU. Everything runs; faster kernels that need them will not be chosen.',
      fix: 'Update the GPU driver.',
    })
  }
  return advice
}

function adviseLinux(facts: SystemFacts, devices: number): readonly Advice[] {
  const { packageManager, manifests } = facts
  if (!facts.hasVulkanLoader) {
    return [
      {
        what: 'The Vulkan loader is missing',
        why: 'GPUs are reached through libvulkan.so.1, and it is not where the system looks for libraries.',
        fix: install('loader', packageManager),
      },
    ]
  }
  const advice: Advice[] = []
  if (facts.hasNvidiaKernelDriver && !manifests.some((name) => /nvidia/i.test(name))) {
    advice.push({
      what: 'The NVIDIA driver is installed without Vulkan',
      why: facts.manifestsFromEnvironment
        ? 'VK_DRIVER_FILES or VK_ICD_FILENAMES names other drivers.'
        : 'Its kernel module is loaded, but no nvidia_icd.json tells the Vulkan loader about it.',
      fix: facts.manifestsFromEnvironment ? 'Unset that variable.' : install('nvidia', packageManager),
    })
  }
  if (facts.renderNodes > facts.openableRenderNodes) {
    advice.push({
      what: 'A GPU is there, but this account may not open it',
      why: `${facts.renderNodes - facts.openableRenderNodes} of ${facts.renderNodes} files /dev/dri/renderD* refuse access.`,
      fix: 'sudo usermod -aG render "$USER", then log in again',
    })
  }
  if (manifests.length === 0) {
    advice.push({
      what: 'No Vulkan driver is installed',
      why: facts.manifestsFromEnvironment
        ? 'VK_DRIVER_FILES or VK_ICD_FILENAMES is set and names none.'
        : 'The loader is there, but no driver has registered with it.',
      fix: facts.manifestsFromEnvironment ? 'Unset that variable.' : install('mesa', packageManager),
    })
  } else if (devices === 0 && advice.length === 0) {
    advice.push({
      what: 'The installed Vulkan drivers offer no device that WebGPU accepts',
      why: `Registered: ${manifests.join(', ')}. Mesa before version 23 lacks features that WebGPU needs.`,
      fix: install('mesa', packageManager),
    })
  }
  return advice
}

function adviseOther({ platform }: SystemFacts): readonly Advice[] {
  const fix = platform === 'darwin' ? 'Update macOS.' : 'Install the current driver from the maker of your GPU, then restart.'
  return [{ what: 'No GPU was found', why: 'Neither Direct3D 12, Vulkan nor Metal offers a hardware device to WebGPU.', fix }]
}
