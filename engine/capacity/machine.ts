/**
 * From what is known of a device to both ends of what it reaches: published limits times the shares that engines have been measured to reach,
 * or a calibration made on the device itself, which replaces the table (specs/benchmark.md §7.4). A range is part of the answer.
 */
import type { HardwareBenchmark } from '../contract/hardware.ts'
import type { Device } from './devices.ts'
import type { MachineLimits } from './roofline.ts'
import { type StorageSchemeSpec, bytesPerWeight } from './storage-schemes.ts'

export interface LimitsRange {
  readonly low: MachineLimits
  readonly high: MachineLimits
}

export type ServingEngine = 'lathe' | 'vllm'

interface Shares {
  /** Of published bandwidth, while reading weights and cache. */
  readonly memory: number
  /** Of the published arithmetic of the units that are used. */
  readonly arithmetic: number
  readonly stepSeconds: number
  readonly layerSeconds: number
}

/**
 * vLLM: 0.81 of an L4's bandwidth fits its documentation's eight figures within 3 %; 0.8 on data-centre cards and 0.55 on consumer ones are
 * what planners found; MFU 0.18–0.45 by card; the fixed costs are the fitted 126 µs per step and 32 µs per layer, and next to nothing where
 * graphs are captured (specs/benchmark.md §7.4).
 */
const VLLM = {
  high: { memory: 0.85, arithmetic: 0.5, stepSeconds: 100e-6, layerSeconds: 0 },
  low: { memory: 0.62, arithmetic: 0.2, stepSeconds: 126e-6, layerSeconds: 32e-6 },
} as const satisfies Record<string, Shares>

/** Lathe's kernels on an H200 through Vulkan (docs/gpu-throughput.md, one matrix of 14336 × 4096): shares of published bandwidth per kernel, and of shader arithmetic. */
const LATHE_MEMORY: Readonly<Record<StorageSchemeSpec['kernel'], { readonly low: number; readonly high: number }>> = {
  bf16: { low: 0.4, high: 0.7 },
  int8: { low: 0.25, high: 0.55 },
  int4: { low: 0.2, high: 0.5 },
}
const LATHE = {
  high: { arithmetic: 0.25, stepSeconds: 400e-6, layerSeconds: 40e-6 },
  low: { arithmetic: 0.08, stepSeconds: 2e-3, layerSeconds: 120e-6 },
} as const

const TERA = 1e12
const GIGA = 1e9

/** Dense peak of the units that a scheme's products of many tokens run on; weight-only schemes compute in 16 bits. */
function peakOperations(device: Device, scheme: StorageSchemeSpec, engine: ServingEngine): number | null {
  if (engine === 'lathe') return device.shaderTeraflops === null ? null : device.shaderTeraflops * TERA
  const { bf16, fp8, int8, fp4 } = device.tensor
  const own = { bf16, fp8, int8, fp4 }[scheme.computes]
  const peak = own ?? bf16 ?? device.shaderTeraflops
  return peak === null ? null : peak * TERA
}

/** null where the device's arithmetic is unknown. */
export function limitsOfDevice(device: Device, scheme: StorageSchemeSpec, engine: ServingEngine): LimitsRange | null {
  const peak = peakOperations(device, scheme, engine)
  if (peak === null) return null
  const at = (end: 'low' | 'high'): MachineLimits => {
    const shares = engine === 'vllm' ? VLLM[end] : LATHE[end]
    const weights = engine === 'vllm' ? VLLM[end].memory : LATHE_MEMORY[scheme.kernel][end]
    const dense = engine === 'vllm' ? VLLM[end].memory : LATHE_MEMORY.bf16[end]
    const bandwidth = device.gigabytesPerSecond * GIGA
    return {
      weightBytesPerSecond: bandwidth * weights,
      headBytesPerSecond: bandwidth * dense,
      kvBytesPerSecond: bandwidth * dense,
      operationsPerSecond: peak * shares.arithmetic,
      stepSeconds: shares.stepSeconds,
      layerSeconds: shares.layerSeconds,
    }
  }
  return { low: at('low'), high: at('high') }
}

/**
 * Shares of what was calibrated at both ends of an estimate. Decoding is a sum of parts that were measured one by one; docs/decode-prediction.md holds it
 * against whole models. Prefill is one rate for all shapes, and schemes that only resemble a calibrated format have kernels of their own.
 */
const CALIBRATED = {
  parts: { low: 0.8, high: 1.25 },
  nearest: { low: 0.6, high: 1.35 },
  rates: { low: 0.65, high: 1.1 },
} as const
/** The schemes whose kernels were calibrated themselves. */
const CALIBRATED_SCHEMES: ReadonlySet<string> = new Set(['bf16', 'w8a16', 'w4a16-g128'])
/** Scheduling, sampling and streaming of one token, on the host, beside the step itself. */
export const HOST_SECONDS = 0.5e-3
/** Columns of the matrix that stands for all when a rate in weights becomes a rate in bytes. */
const USUAL_COLUMNS = 4096

/** null for a record of an earlier version, which has no rates per format. */
export function limitsOfCalibration(calibration: HardwareBenchmark, scheme: StorageSchemeSpec): LimitsRange | null {
  const rateOf = (format: StorageSchemeSpec['kernel']) => calibration.linear.find((rate) => rate.format === format)
  const dense = rateOf('bf16')
  const own = rateOf(scheme.kernel) ?? dense
  if (dense === undefined || own === undefined) return null
  const { stepCosts: costs } = calibration
  const partShares = CALIBRATED_SCHEMES.has(scheme.id) ? CALIBRATED.parts : CALIBRATED.nearest
  const at = (end: 'low' | 'high'): MachineLimits => {
    const share = CALIBRATED.rates[end]
    return {
      weightBytesPerSecond: own.readGigaweightsPerSecond * GIGA * bytesPerWeight(scheme, USUAL_COLUMNS) * share,
      headBytesPerSecond: dense.readGigaweightsPerSecond * GIGA * 2 * share,
      kvBytesPerSecond: calibration.readGigabytesPerSecond * GIGA * share,
      operationsPerSecond: own.multiplyGigaflops * GIGA * share,
      stepSeconds: (calibration.submitRoundTripMs / 1000 + HOST_SECONDS) / share,
      layerSeconds: (calibration.layerMicroseconds ?? 0) / 1e6 / share,
      ...(costs === null ? {} : { calibrated: { costs, format: scheme.kernel, share: partShares[end], hostSeconds: HOST_SECONDS } }),
    }
  }
  return { low: at('low'), high: at('high') }
}
