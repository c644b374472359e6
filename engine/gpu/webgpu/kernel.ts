/**
 * What a kernel is to the rest of the GPU layer: a WGSL file with constants, its bindings in order, and how many bytes of immediates it
 * takes. `KernelCache` compiles each distinct kernel once per device, asynchronously, and many at a time.
 */
import { LatheError } from '../../contract/errors.ts'
import type { GpuDevice } from './device.ts'
import { type ShaderConstants, shaderSource } from './shader.ts'

export type BindingAccess = 'read' | 'write'

export interface KernelSpec {
  /** File under kernels/, and the name in profiles. */
  readonly name: string
  readonly constants: ShaderConstants
  readonly bindings: readonly BindingAccess[]
  /** Words of `var<immediate>`; at most 16 (64 bytes). */
  readonly immediateWords: number
}

export interface Kernel {
  readonly spec: KernelSpec
  readonly pipeline: GPUComputePipeline
  readonly layout: GPUBindGroupLayout
}

/** A buffer, or a part of one, as a binding. */
export interface BufferSlice {
  readonly buffer: GPUBuffer
  readonly offset?: number
  readonly size?: number
}

export class KernelCache {
  readonly #gpu: GpuDevice
  readonly #kernels = new Map<string, Promise<Kernel>>()
  readonly #layouts = new Map<string, { group: GPUBindGroupLayout; pipeline: GPUPipelineLayout }>()

  /** Wall time during which anything was being compiled; many kernels compile at a time, so their own times would add up to more. */
  #compileMs = 0
  #compiling = 0
  #compilingSince = 0

  constructor(gpu: GpuDevice) {
    this.#gpu = gpu
  }

  get compileMs(): number {
    return this.#compileMs + (this.#compiling > 0 ? performance.now() - this.#compilingSince : 0)
  }

  /** Compiles the kernel, or returns it compiled. Throws `gpu.unsupported` with the compiler's message. */
  get(spec: KernelSpec): Promise<Kernel> {
    const key = JSON.stringify([spec.name, Object.entries(spec.constants).sort(([a], [b]) => (a < b ? -1 : 1))])
    let kernel = this.#kernels.get(key)
    if (kernel === undefined) {
      kernel = this.#timed(() => this.#compile(spec))
      this.#kernels.set(key, kernel)
      kernel.catch(() => this.#kernels.delete(key)) // a failure is reported to the caller, and tried again by the next
    }
    return kernel
  }

  async #timed<T>(work: () => Promise<T>): Promise<T> {
    if (this.#compiling++ === 0) this.#compilingSince = performance.now()
    try {
      return await work()
    } finally {
      if (--this.#compiling === 0) this.#compileMs += performance.now() - this.#compilingSince
    }
  }

  async #compile(spec: KernelSpec): Promise<Kernel> {
    const { device } = this.#gpu
    const layout = this.#layout(spec)
    const module = device.createShaderModule({ label: spec.name, code: shaderSource(spec.name, spec.constants) })
    try {
      const pipeline = await this.#gpu.guard(
        device.createComputePipelineAsync({ label: spec.name, layout: layout.pipeline, compute: { module, entryPoint: 'main' } }),
      )
      return { spec, pipeline, layout: layout.group }
    } catch (thrown) {
      if (thrown instanceof LatheError) throw thrown
      const info = await this.#gpu.guard(module.getCompilationInfo())
      const messages = info.messages.map((message) => `${message.lineNum}:${message.linePos} ${message.message}`)
      const detail = messages.length > 0 ? messages.join('; ') : thrown instanceof Error ? thrown.message : String(thrown)
      throw new LatheError(
        'gpu.unsupported',
        `Kernel ${spec.name} does not compile on ${this.#gpu.adapterId}: ${detail}`,
        'Update the GPU driver, or choose another adapter.',
        { cause: thrown },
      )
    }
  }

  #layout(spec: KernelSpec): { group: GPUBindGroupLayout; pipeline: GPUPipelineLayout } {
    const key = `${spec.bindings.join(',')}/${spec.immediateWords}`
    let layout = this.#layouts.get(key)
    if (layout === undefined) {
      const group = this.#gpu.device.createBindGroupLayout({
        label: key,
        entries: spec.bindings.map((access, binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: access === 'read' ? 'read-only-storage' : 'storage' },
        })),
      })
      const pipeline = this.#gpu.device.createPipelineLayout({
        label: key,
        bindGroupLayouts: [group],
        immediateSize: spec.immediateWords * Uint32Array.BYTES_PER_ELEMENT,
      })
      layout = { group, pipeline }
      this.#layouts.set(key, layout)
    }
    return layout
  }

  bind(kernel: Kernel, buffers: readonly BufferSlice[]): GPUBindGroup {
    if (buffers.length !== kernel.spec.bindings.length) throw new Error(`${kernel.spec.name}: ${buffers.length} buffers bound`)
    return this.#gpu.device.createBindGroup({
      label: kernel.spec.name,
      layout: kernel.layout,
      entries: buffers.map((slice, binding) => ({
        binding,
        resource: {
          buffer: slice.buffer,
          ...(slice.offset === undefined ? {} : { offset: slice.offset }),
          ...(slice.size === undefined ? {} : { size: slice.size }),
        },
      })),
    })
  }
}
