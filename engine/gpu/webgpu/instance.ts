/**
 * The door to dawn.node: loads the native module once, makes instances with a toggle profile, and lists what the drivers offer.
 * specs/dawn-node.md §0–2. Knows nothing of devices, memory or models.
 */
import { LatheError } from '../../contract/errors.ts'

/**
 * `safe` keeps Dawn's bounds clamps, workgroup zeroing and division guards; `production` drops them (1.7–2.3× on software adapters).
 * Kernels must give the same bits under both, which the numeric suite checks.
 */
export type ToggleProfile = 'safe' | 'production'

const TOGGLES: Record<ToggleProfile, { readonly enable: readonly string[]; readonly disable: readonly string[] }> = {
  safe: { enable: ['use_user_defined_labels_in_backend'], disable: ['timestamp_quantization'] },
  production: {
    enable: [
      'allow_unsafe_apis',
      'vulkan_enable_f16_on_nvidia',
      'use_vulkan_memory_model',
      'disable_robustness',
      'disable_polyfills_on_integer_div_and_mod',
      'disable_workgroup_init',
    ],
    disable: ['timestamp_quantization', 'enable_spirv_validation'],
  },
}

/** What `requestAdapter` can be told apart by: Dawn's backend name and the driver's own device name. */
export interface DriverDevice {
  readonly backend: string
  readonly name: string
}

interface Dawn {
  readonly create: (options: string[]) => GPU
}

/**
 * Every instance ever made, reachable from globalThis for the life of the process. V8 may collect a module binding that is never read
 * again, and an instance that goes before its device crashes the process (dawn-gpu/node-webgpu#18; delete when that is fixed).
 */
const PINS = Symbol.for('lathe.dawn.instances')

function pin(instance: GPU): GPU {
  const holder = globalThis as { [PINS]?: GPU[] }
  holder[PINS] ??= []
  holder[PINS].push(instance)
  return instance
}

let loading: Promise<Dawn> | null = null

/** Loads the native module and installs the WebGPU globals. Throws `gpu.unsupported` where there is no binary for this system. */
export function loadDawn(): Promise<Dawn> {
  loading ??= import('webgpu').then(
    (module) => {
      Object.assign(globalThis, module.globals)
      return module
    },
    (cause: unknown) => {
      throw new LatheError(
        'gpu.unsupported',
        `The WebGPU library has no working binary for ${process.platform}-${process.arch}: ${cause instanceof Error ? cause.message : String(cause)}`,
        'On Linux it needs glibc 2.34 or newer (Ubuntu 22.04, Debian 12, Fedora 35). The reference backend works everywhere: --adapter reference.',
        { cause },
      )
    },
  )
  return loading
}

/** One Dawn instance that offers exactly the named device. */
export async function createInstance(device: DriverDevice, profile: ToggleProfile): Promise<GPU> {
  const dawn = await loadDawn()
  const { enable, disable } = TOGGLES[profile]
  return pin(
    dawn.create([
      `backend=${device.backend}`,
      `adapter=${device.name}`,
      `enable-dawn-features=${enable.join(',')}`,
      `disable-dawn-features=${disable.join(',')}`,
    ]),
  )
}

/** A name that no driver has: asking for it makes Dawn list the names that exist, which is its only enumeration (dawn-node.md §1). */
const NO_SUCH_ADAPTER = 'lathe-lists-adapters'

/** Every device of every driver that Dawn can open here, in its order. Empty where there is no driver at all. */
export async function listDriverDevices(): Promise<readonly DriverDevice[]> {
  const dawn = await loadDawn()
  const instance = pin(dawn.create([`adapter=${NO_SUCH_ADAPTER}`]))
  try {
    await instance.requestAdapter()
  } catch (thrown) {
    return parseAdapterList(thrown instanceof Error ? thrown.message : String(thrown))
  }
  return []
}

/** Reads the list in Dawn's rejection: one ` * backend: 'vulkan', name: '…'` a line. */
export function parseAdapterList(message: string): readonly DriverDevice[] {
  return [...message.matchAll(/^\s*\* backend: '([^']*)', name: '(.*)'\s*$/gm)].map((match) => ({
    backend: match[1] ?? '',
    name: match[2] ?? '',
  }))
}
