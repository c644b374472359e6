/**
 * The device that a plan is made for: this machine with what its loaded models leave, or one of the table. Everyone who estimates asks here, so that
 * the page, the command line and the server's own route plan for the same machine.
 */
import { DEVICES, findDevice } from '../capacity/devices.ts'
import type { MeasuredOverhead } from '../capacity/overhead.ts'
import type { PlanMachine } from '../capacity/planner.ts'
import { LatheError } from '../contract/index.ts'
import type { HardwareBenchmark } from '../contract/index.ts'
import type { CurrentAdapter, GpuPort, ModelsPort } from './ports.ts'

export interface MachineHere {
  readonly gpu: Pick<GpuPort, 'state'>
  readonly models: Pick<ModelsPort, 'loaded'>
  readonly calibrationOf: (adapter: CurrentAdapter) => HardwareBenchmark | null
  readonly overheadOf: (adapter: CurrentAdapter) => MeasuredOverhead | null
}

/** `modelId`: the model that is planned for, whose own load a new one replaces. Throws `gpu.no-adapter`. */
export async function machineHere({ gpu, models, calibrationOf, overheadOf }: MachineHere, modelId: string | null): Promise<PlanMachine> {
  const { adapters } = await gpu.state()
  const adapter = adapters.find((candidate) => candidate.selected)
  if (adapter === undefined)
    throw new LatheError('gpu.no-adapter', 'This machine has no usable adapter to plan for.', 'Choose a GPU by name.')
  const software = adapter.type === 'software' || adapter.type === 'reference'
  const residents = models.loaded().filter((model) => model.busy && model.modelId !== modelId)
  return {
    title: adapter.name,
    device: software ? null : findDevice(adapter.name),
    calibration: calibrationOf(adapter),
    memoryBytes: adapter.memory.totalBytes,
    memorySource: adapter.memory.source,
    freeBytes: adapter.memory.freeBytes,
    residentBytes: residents.reduce((sum, { weightBytes, kvBytes, otherBytes }) => sum + weightBytes + kvBytes + otherBytes, 0),
    overhead: overheadOf(adapter),
    software,
  }
}

/** Throws `request.invalid` where the table has no such device. */
export function machineOfDevice(name: string): PlanMachine {
  const device = DEVICES.find((candidate) => candidate.id === name) ?? findDevice(name)
  if (device === null) {
    throw new LatheError(
      'request.invalid',
      `The table of GPUs has no "${name}".`,
      `It has ${DEVICES.map((candidate) => candidate.name).join(', ')}.`,
      { data: { param: 'device' } },
    )
  }
  return {
    title: device.name,
    device,
    calibration: null,
    memoryBytes: device.memoryBytes,
    memorySource: `the table of GPUs (${device.source})`,
    software: false,
  }
}
