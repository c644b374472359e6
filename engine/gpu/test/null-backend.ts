/**
 * Dawn's null backend as a device: validates WGSL, pipelines and dispatches, and computes nothing. For what no software adapter has, as matrix units,
 * of which it lists no products although it takes any.
 */
import { createInstance } from '../webgpu/instance.ts'
import { type GpuDevice, type MatrixConfig, wrapDevice } from '../webgpu/device.ts'

/** What an NVIDIA card lists first. */
export const NVIDIA_CONFIG: MatrixConfig = { componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 }

export async function openNullDevice(matrixConfigs: readonly MatrixConfig[] = [NVIDIA_CONFIG]): Promise<GpuDevice> {
  const instance = await createInstance({ backend: 'null', name: '' }, 'production')
  const adapter = await instance.requestAdapter()
  if (adapter === null) throw new Error('no null adapter')
  const wanted = ['shader-f16', 'subgroups', 'subgroup-size-control', 'timestamp-query', 'chromium-experimental-subgroup-matrix']
  const requiredLimits: Record<string, number> = {}
  for (const name in adapter.limits) {
    const value = adapter.limits[name as keyof GPUSupportedLimits]
    if (typeof value === 'number') requiredLimits[name] = value
  }
  const device = await adapter.requestDevice({
    requiredFeatures: wanted.filter((name) => (adapter.features as ReadonlySet<string>).has(name)) as GPUFeatureName[],
    requiredLimits,
  })
  return wrapDevice(device, { adapterId: 'null', software: false, profile: 'production', packedDot: true, subgroupSize: 32, matrixConfigs })
}
