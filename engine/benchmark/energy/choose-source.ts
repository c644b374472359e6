/**
 * Which counter belongs to an adapter (specs/benchmark.md §6). Software adapters and the reference compute on the CPU, so theirs is the CPU's,
 * whatever GPU is in the machine. Where it is unknown which counter is the adapter's, there is none: another's figure would be worse than no figure.
 */
import type { Adapter } from '../../contract/index.ts'
import type { EnergyChoice } from './energy-source.ts'
import { nvidiaSource } from './nvidia-energy.ts'
import type { NvidiaSmi } from './nvidia-energy.ts'
import { hwmonSource, raplSource } from './sysfs-energy.ts'

export interface EnergySystem {
  readonly platform: NodeJS.Platform
  /** Where sysfs is. */
  readonly sysfs: string
  readonly nvidiaSmi: NvidiaSmi
}

const HERE: EnergySystem = { platform: process.platform, sysfs: '/sys', nvidiaSmi: { command: 'nvidia-smi', leading: [] } }

export async function chooseEnergySource(
  { name, type }: Pick<Adapter, 'name' | 'type'>,
  system: EnergySystem = HERE,
): Promise<EnergyChoice> {
  const isOnCpu = type === 'software' || type === 'reference'
  if (!isOnCpu && /nvidia|geforce|quadro|tesla/i.test(name)) return nvidiaSource(name, system.nvidiaSmi)
  if (system.platform === 'darwin') return { reason: 'macOS shows energy to administrators only (powermetrics).' }
  if (system.platform === 'win32') return { reason: 'Windows shows the energy of NVIDIA GPUs only (nvidia-smi).' }
  if (system.platform !== 'linux') return { reason: `Lathe knows no energy counter on ${system.platform}.` }
  // A GPU within the processor is in the processor's counter.
  if (isOnCpu || (type === 'integrated' && /intel/i.test(name))) return raplSource(system.sysfs)
  if (/intel/i.test(name)) return hwmonSource(system.sysfs, 'intel', 'gpu-package')
  if (/amd|radeon|\bati\b/i.test(name)) return hwmonSource(system.sysfs, 'amd', type === 'integrated' ? 'cpu-package' : 'gpu-package')
  return { reason: `Lathe knows no energy counter of ${name}.` }
}
