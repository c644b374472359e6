/**
 * Which processors this machine offers for numeric work, named the way their drivers name them, and what is missing.
 * Selection is by type, discrete before integrated before software, never by reported memory: an integrated GPU reports the whole of
 * shared RAM (specs/runtime.md §18). Opening a device is `webgpu/backend.ts`'s business.
 */
import { LatheError } from '../contract/errors.ts'
import { INPUT_ELEMENTS } from '../contract/hardware.ts'
import type { Adapter } from '../contract/hardware.ts'
import { memoryOf } from './adapter-memory.ts'
import { emulatedElements } from './scheme-support.ts'
import { createInstance, type DriverDevice, listDriverDevices } from './webgpu/instance.ts'

export const REFERENCE_ADAPTER_ID = 'reference'

export type AdapterType = Adapter['type']

/** An adapter with the driver device behind it; null for the reference backend. */
export interface FoundAdapter {
  readonly adapter: Adapter
  readonly device: DriverDevice | null
}

/** Dawn backends that run our kernels; its OpenGL and D3D11 paths lack what they need. */
const USABLE_BACKENDS = ['metal', 'vulkan', 'd3d12']

const REFERENCE: Adapter = {
  id: REFERENCE_ADAPTER_ID,
  name: 'Reference (f64 on the CPU)',
  vendor: 'Lathe',
  backend: 'typescript',
  driver: 'none',
  type: 'reference',
  selected: false,
  usable: true,
  reason: 'Obviously right and very slow: for checking numbers, not for work.',
  features: { f16: false, subgroups: false, subgroupSize: null, timestamps: false, packedDot: false, subgroupMatrix: false },
  emulates: [...INPUT_ELEMENTS],
  limits: null,
  memory: { totalBytes: null, freeBytes: null, source: 'host' },
}

/**
 * Type from what the driver says. WebGPU has no such field beyond isFallbackAdapter, so names decide; the patterns list the integrated
 * lines of vendors that make both kinds, and `unknown` is an honest answer.
 */
export function classify(name: string, vendor: string, isFallbackAdapter: boolean): AdapterType {
  if (isFallbackAdapter || /llvmpipe|lavapipe|swiftshader|basic render|warp/i.test(name)) return 'software'
  const text = `${vendor} ${name}`.toLowerCase()
  if (/nvidia|geforce|quadro|tesla/.test(text)) return /tegra|orin|xavier|thor|gb10\b/.test(text) ? 'integrated' : 'discrete'
  if (/apple/.test(text)) return 'integrated'
  if (/amd|radeon|\bati\b/.test(text)) {
    if (/\b(rx|pro w|pro v|instinct|firepro|vii|r9 (fury|nano))\b/.test(text)) return 'discrete'
    return /radeon(\(tm\))? (graphics|vega|\d{3}[ms]\b|r\d graphics)|custom gpu|van gogh/.test(text) ? 'integrated' : 'unknown'
  }
  if (/intel/.test(text)) return /arc(\(tm\))? (pro )?[ab]\d{2,3}\b|flex|data center|\bdg1\b/.test(text) ? 'discrete' : 'integrated'
  if (/qualcomm|adreno|mali|arm\b|powervr|img/.test(text)) return 'integrated'
  return 'unknown'
}

/** `NVIDIA GeForce RTX 4090` → `nvidia-geforce-rtx-4090`. Parentheses hold driver versions, which would make the id change with an update. */
export function adapterSlug(name: string): string {
  const slug = name
    .replace(/\([^)]*\)/g, ' ')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
  return slug === '' ? 'adapter' : slug
}

const TYPE_ORDER: readonly AdapterType[] = ['discrete', 'integrated', 'unknown', 'software', 'reference']

/** Within software, lavapipe before SwiftShader: it compiles with LLVM and runs the same kernels about five times faster. */
function rank(adapter: Adapter): number {
  return TYPE_ORDER.indexOf(adapter.type) + (/swiftshader/i.test(adapter.name) ? 0.5 : 0)
}

async function describe(device: DriverDevice, id: string): Promise<FoundAdapter> {
  const instance = await createInstance(device, 'production')
  const gpu = await instance.requestAdapter()
  if (gpu === null) {
    const type = classify(device.name, '', false)
    return {
      device,
      adapter: {
        ...REFERENCE,
        id,
        name: device.name,
        vendor: 'unknown',
        backend: device.backend,
        driver: 'unknown',
        type,
        usable: false,
        reason: 'The driver lists this device but WebGPU refuses it: it lacks a required feature. A newer driver may help.',
        memory: await memoryOf(device.name, type),
      },
    }
  }
  const { info, limits, features } = gpu
  const type = classify(device.name, info.vendor, info.isFallbackAdapter)
  const minimum = info.subgroupMinSize ?? 0
  return {
    device,
    adapter: {
      id,
      name: device.name,
      vendor: info.vendor === '' ? 'unknown' : info.vendor,
      backend: device.backend,
      driver: info.description === '' ? 'unknown' : info.description,
      type,
      selected: false,
      usable: true,
      reason: null,
      features: {
        f16: features.has('shader-f16'),
        subgroups: features.has('subgroups'),
        subgroupSize: features.has('subgroups') && minimum > 0 ? [minimum, info.subgroupMaxSize ?? minimum] : null,
        timestamps: features.has('timestamp-query'),
        packedDot: instance.wgslLanguageFeatures.has('packed_4x8_integer_dot_product'),
        subgroupMatrix: (features as ReadonlySet<string>).has('chromium-experimental-subgroup-matrix'),
      },
      emulates: emulatedElements({ packedDotProduct: instance.wgslLanguageFeatures.has('packed_4x8_integer_dot_product') }),
      limits: {
        maxBufferBytes: limits.maxBufferSize,
        maxBindingBytes: limits.maxStorageBufferBindingSize,
        workgroupStorageBytes: limits.maxComputeWorkgroupStorageSize,
        maxInvocations: limits.maxComputeInvocationsPerWorkgroup,
      },
      memory: await memoryOf(device.name, type),
    },
  }
}

let scan: Promise<readonly FoundAdapter[]> | null = null

/** Adapters best first, the reference backend last. Drivers do not come and go within a process, so the scan runs once. */
export function findAdapters(): Promise<readonly FoundAdapter[]> {
  scan ??= findAdaptersOnce()
  return scan
}

async function findAdaptersOnce(): Promise<readonly FoundAdapter[]> {
  const devices = (await listDriverDevices()).filter((device) => USABLE_BACKENDS.includes(device.backend))
  const found: FoundAdapter[] = []
  const taken = new Set<string>()
  for (const device of devices) {
    // The second of two cards with one name cannot be asked for: Dawn opens the first match (dawn-node.md §1).
    if (devices.find((other) => other.backend === device.backend && other.name === device.name) !== device) continue
    const slug = adapterSlug(device.name)
    let id = taken.has(slug) ? `${slug}-${device.backend}` : slug
    for (let n = 2; taken.has(id); n++) id = `${slug}-${n}`
    taken.add(id)
    found.push(await describe(device, id))
  }
  found.sort((a, b) => rank(a.adapter) - rank(b.adapter))
  return [...found, { adapter: REFERENCE, device: null }]
}

/** The adapters as the contract shows them, with the one that `chooseAdapter(wanted)` takes marked. */
export async function listAdapters(wanted: string | null = null): Promise<readonly Adapter[]> {
  const found = await findAdapters()
  const chosen = matchAdapter(found, wanted)
  return found.map(({ adapter }) => ({ ...adapter, selected: adapter.id === chosen?.adapter.id }))
}

/** Exact id, else unique-enough substring of id or name in list order; null wanted = LATHE_ADAPTER, else the best usable one. */
function matchAdapter(found: readonly FoundAdapter[], wanted: string | null): FoundAdapter | undefined {
  const text = (wanted ?? process.env['LATHE_ADAPTER'] ?? '').toLowerCase()
  const usable = found.filter(({ adapter }) => adapter.usable)
  // The reference backend is only ever taken by name: silently computing in f64 on the CPU would look like a hang.
  if (text === '') return usable.find(({ adapter }) => adapter.type !== 'reference')
  return (
    usable.find(({ adapter }) => adapter.id === text) ??
    usable.find(({ adapter }) => adapter.id.includes(text) || adapter.name.toLowerCase().includes(text))
  )
}

/**
 * Picks an adapter: by id or a part of its id or name, else by LATHE_ADAPTER, else the best by type. Throws `gpu.no-adapter` with the list
 * of what exists.
 */
export async function chooseAdapter(wanted: string | null): Promise<FoundAdapter> {
  const found = await findAdapters()
  const chosen = matchAdapter(found, wanted)
  if (chosen !== undefined) return chosen
  const named = wanted ?? process.env['LATHE_ADAPTER'] ?? ''
  const ids = found.map(({ adapter }) => adapter.id).join(', ')
  throw new LatheError(
    'gpu.no-adapter',
    named === '' ? 'No GPU driver that WebGPU can use was found.' : `No usable adapter matches "${named}". Available: ${ids}.`,
    named === ''
      ? 'Run `lathe doctor`: it names what is missing and the command that installs it.'
      : 'Pass one of these ids, or leave the choice to Lathe.',
  )
}
