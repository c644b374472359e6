/** `lathe doctor`: what this machine offers, what is missing, and the command that brings it. */
import { readHardware } from '../../../engine/studio/hardware.ts'
import type { Command } from '../command.ts'
import { formatBytes, formatTable } from '../format.ts'

export const doctor: Command = {
  usage: 'lathe doctor',
  summary: 'adapters, limits, memory, what is missing and how to get it',
  options: {},
  async run(args, context) {
    if (args.positionals.length > 0) throw args.invalid(`"${args.positionals[0]}" is not expected here.`)
    const { gpu, models } = await context.engine()
    const hardware = await readHardware(gpu, models)
    const rows = hardware.adapters.map((adapter) => [
      adapter.selected ? '*' : ' ',
      adapter.id,
      adapter.name,
      adapter.type,
      adapter.backend,
      adapter.limits === null ? '-' : formatBytes(adapter.limits.maxBufferBytes),
      adapter.features.f16 ? 'yes' : 'no',
      adapter.features.subgroups ? 'yes' : 'no',
      adapter.memory.totalBytes === null ? 'not known' : formatBytes(adapter.memory.totalBytes),
      adapter.usable ? adapter.driver : `unusable: ${adapter.reason ?? 'no reason given'}`,
    ])
    const { host } = hardware
    const advice = hardware.advice.map((entry) => `${entry.what}. ${entry.why}\n  ${entry.fix}`)
    const software = hardware.adapters.some((adapter) => adapter.selected && adapter.type === 'software')
    return {
      json: {
        adapters: hardware.adapters.map((adapter) => ({
          id: adapter.id,
          name: adapter.name,
          type: adapter.type,
          backend: adapter.backend,
          driver: adapter.driver,
          selected: adapter.selected,
          usable: adapter.usable,
          reason: adapter.reason,
          features: {
            f16: adapter.features.f16,
            subgroups: adapter.features.subgroups,
            subgroup_size: adapter.features.subgroupSize,
            timestamps: adapter.features.timestamps,
            packed_dot: adapter.features.packedDot,
            subgroup_matrix: adapter.features.subgroupMatrix,
          },
          limits:
            adapter.limits === null
              ? null
              : {
                  max_buffer_bytes: adapter.limits.maxBufferBytes,
                  max_binding_bytes: adapter.limits.maxBindingBytes,
                  workgroup_storage_bytes: adapter.limits.workgroupStorageBytes,
                  max_invocations: adapter.limits.maxInvocations,
                },
          memory: {
            total_bytes: adapter.memory.totalBytes,
            free_bytes: adapter.memory.freeBytes,
            source: adapter.memory.source,
          },
        })),
        advice: hardware.advice,
        host: {
          platform: host.platform,
          cpu: host.cpu,
          cores: host.cores,
          total_memory_bytes: host.totalMemoryBytes,
          free_memory_bytes: host.freeMemoryBytes,
          node_version: host.nodeVersion,
        },
      },
      text: [
        formatTable([['', 'Adapter', 'Name', 'Type', 'Backend', 'Largest buffer', 'f16', 'Subgroups', 'Memory', 'Driver'], ...rows]),
        '',
        `${host.cpu} × ${host.cores}, ${formatBytes(host.freeMemoryBytes)} of ${formatBytes(host.totalMemoryBytes)} free, Node ${host.nodeVersion}, ${host.platform}`,
        ...(software ? ['', 'The chosen adapter (*) is software: it computes on the CPU, and its speeds say nothing about a GPU.'] : []),
        ...(advice.length > 0 ? ['', ...advice] : []),
      ].join('\n'),
    }
  },
}
