/**
 * One opened WebGPU device: its limits, its failures and its loss. Everything that awaits the GPU goes through `guard`, so that a lost
 * device fails what is in flight with a reason instead of hanging, and errors that no scope caught are reported by the next call instead of
 * being printed and forgotten (specs/dawn-node.md §5, runtime.md §18). Knows nothing of what is computed.
 */
import { LatheError } from '../../contract/errors.ts'
import type { FoundAdapter } from '../adapters.ts'
import { createInstance, type ToggleProfile } from './instance.ts'

/** Experimental feature names are Dawn's own and absent from the standard's type. */
const WANTED_FEATURES: readonly string[] = [
  'shader-f16',
  'subgroups',
  'subgroup-size-control',
  'timestamp-query',
  'chromium-experimental-subgroup-matrix',
]

/** One product that matrix units make, as Dawn's `adapter.info` lists them; absent from the standard's types. */
export interface MatrixConfig {
  readonly componentType: string
  readonly resultComponentType: string
  readonly M: number
  readonly N: number
  readonly K: number
}

export interface GpuDevice {
  readonly device: GPUDevice
  readonly adapterId: string
  readonly software: boolean
  readonly profile: ToggleProfile
  readonly limits: GPUSupportedLimits
  readonly features: ReadonlySet<string>
  /** `dot4I8Packed` is there. */
  readonly packedDot: boolean
  /** Invocations of every subgroup; null where there are none or their size is the driver's choice. */
  readonly subgroupSize: number | null
  /** What matrix units multiply; empty where there are none. */
  readonly matrixConfigs: readonly MatrixConfig[]
  /** Resolves with the reason once, if the device goes. */
  readonly lost: Promise<string>
  /** Throws `gpu.device-lost` if the device has gone, `gpu.invalid-operation` if a validation error was raised outside any scope. */
  check(): void
  /** Awaits GPU work; rejects with `gpu.device-lost` as soon as the device goes. */
  guard<T>(work: Promise<T>): Promise<T>
  /** Runs `body` under validation and out-of-memory scopes and rejects with a typed error if either caught something. */
  scoped<T>(what: string, body: () => T): Promise<T>
  destroy(): void
}

/** Opens a device on the adapter with all its limits and the features we use. */
export async function openDevice(found: FoundAdapter, profile: ToggleProfile): Promise<GpuDevice> {
  if (found.device === null) throw new Error(`adapter ${found.adapter.id} has no WebGPU device`)
  const instance = await createInstance(found.device, profile)
  const adapter = await instance.requestAdapter()
  if (adapter === null) {
    throw new LatheError(
      'gpu.no-adapter',
      `The driver of ${found.adapter.name} no longer offers it.`,
      'Restart Lathe; if it persists, run `lathe doctor`.',
    )
  }
  const requiredLimits: Record<string, number> = {}
  // Default limits are the specification's minimum (128 MiB bindings, 16 KiB workgroup memory), so every limit is raised to the adapter's.
  for (const name in adapter.limits) {
    const value = adapter.limits[name as keyof GPUSupportedLimits]
    if (typeof value === 'number') requiredLimits[name] = value
  }
  const device = await adapter.requestDevice({
    label: 'lathe',
    requiredFeatures: WANTED_FEATURES.filter((name) => (adapter.features as ReadonlySet<string>).has(name)) as GPUFeatureName[],
    requiredLimits,
  })
  const packedDot = instance.wgslLanguageFeatures.has('packed_4x8_integer_dot_product')
  const { subgroupMinSize = 0, subgroupMaxSize } = adapter.info
  const subgroupSize = device.features.has('subgroups') && subgroupMinSize === subgroupMaxSize ? subgroupMinSize : null
  return wrapDevice(device, {
    adapterId: found.adapter.id,
    software: found.adapter.type === 'software',
    profile,
    packedDot,
    subgroupSize,
    matrixConfigs: matrixConfigsOf(adapter.info),
  })
}

function matrixConfigsOf(info: GPUAdapterInfo): readonly MatrixConfig[] {
  const { subgroupMatrixConfigs = [] } = info as { readonly subgroupMatrixConfigs?: Iterable<MatrixConfig> }
  return [...subgroupMatrixConfigs].map(({ componentType, resultComponentType, M, N, K }) => ({
    componentType,
    resultComponentType,
    M,
    N,
    K,
  }))
}

/** What is known of the device, around it. */
export function wrapDevice(
  device: GPUDevice,
  facts: Pick<GpuDevice, 'adapterId' | 'software' | 'profile' | 'packedDot' | 'subgroupSize' | 'matrixConfigs'>,
): GpuDevice {
  const { adapterId } = facts
  let lostReason: string | null = null
  let uncaught: string | null = null
  const lost = device.lost.then((info) => {
    lostReason ??= info.reason === 'destroyed' ? 'the device was closed' : info.message || 'the driver gave no reason'
    return lostReason
  })
  device.addEventListener('uncapturederror', (event) => {
    uncaught ??= event.error.message
  })

  const lostError = (reason: string): LatheError =>
    new LatheError(
      'gpu.device-lost',
      `The GPU device ${adapterId} was lost: ${reason}.`,
      'Lathe reopens it with the next request. If this repeats, update the GPU driver or choose a smaller context.',
      { data: { adapter: adapterId, reason } },
    )

  function check(): void {
    if (lostReason !== null) throw lostError(lostReason)
    if (uncaught !== null) {
      const message = uncaught
      uncaught = null
      throw new LatheError('gpu.invalid-operation', `The GPU refused an operation: ${message}`, 'This is a defect in Lathe; report it.')
    }
  }

  // One reaction on `lost` for all waiters: a promise that never settles keeps every reaction ever added, about half a kilobyte per step.
  const waiters = new Set<(error: LatheError) => void>()
  void lost.then((reason) => {
    for (const reject of waiters) reject(lostError(reason))
  })

  async function guard<T>(work: Promise<T>): Promise<T> {
    check()
    const loss = Promise.withResolvers<never>()
    waiters.add(loss.reject)
    try {
      return await Promise.race([work, loss.promise])
    } catch (thrown) {
      // Dawn rejects pending work when the device goes; the loss is the reason worth telling.
      if (lostReason !== null && !(thrown instanceof LatheError)) throw lostError(lostReason)
      throw thrown
    } finally {
      waiters.delete(loss.reject)
    }
  }

  async function scoped<T>(what: string, body: () => T): Promise<T> {
    check()
    // Scopes form one stack per device, so nothing may be awaited between push and pop: another caller's scope would land in between.
    device.pushErrorScope('out-of-memory')
    device.pushErrorScope('validation')
    let result: T | undefined
    let thrown: unknown = null
    try {
      result = body()
    } catch (error) {
      thrown = error
    }
    const scopes = [device.popErrorScope(), device.popErrorScope()] as const
    const [validation, memory] = await guard(Promise.all(scopes))
    if (memory !== null) {
      throw new LatheError(
        'gpu.out-of-memory',
        `Out of GPU memory: ${what}.`,
        'Unload another model, shorten the context, or choose a smaller format.',
        { cause: memory.message },
      )
    }
    if (validation !== null) {
      throw new LatheError(
        'gpu.invalid-operation',
        `The GPU refused ${what}: ${validation.message}`,
        'This is a defect in Lathe; report it.',
      )
    }
    if (thrown !== null) throw thrown
    return result as T
  }

  return {
    ...facts,
    device,
    limits: device.limits,
    features: device.features as ReadonlySet<string>,
    lost,
    check,
    guard,
    scoped,
    destroy: () => device.destroy(),
  }
}
