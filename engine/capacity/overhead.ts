/**
 * Fixed overhead of a device, measured: what loads took there beyond what was predicted of everything but weights and cache (specs/runtime.md
 * §18). The middle one of the newest few counts, so that one odd load changes nothing.
 */
import type { InputElement } from '../contract/index.ts'
import { kvDtypesOf, type KvSetting } from '../gpu/kv-format.ts'
import { latheStepMemory } from './budget.ts'
import type { ModelShape } from './model-shape.ts'

/** What a load took beyond the prediction; less than nothing where it took less. */
export interface LoadError {
  readonly bytes: number
  /** ISO 8601. */
  readonly measuredAt: string
}

export interface MeasuredOverhead {
  readonly bytes: number
  /** Loads that it is from. */
  readonly loads: number
  /** Of the newest of them, ISO 8601. */
  readonly newestAt: string
}

/** Older loads say less of the engine and the models of now. */
export const REMEMBERED_LOADS = 7

/** `errors` from old to new; null without any. Of an even number the lower of the middle two: an overhead must have been seen by most. */
export function measuredOverhead(errors: readonly LoadError[]): MeasuredOverhead | null {
  const recent = errors.slice(-REMEMBERED_LOADS)
  const newest = recent.at(-1)
  const middle = recent.map(({ bytes }) => bytes).toSorted((one, other) => one - other)[Math.floor((recent.length - 1) / 2)]
  return newest === undefined || middle === undefined ? null : { bytes: middle, loads: recent.length, newestAt: newest.measuredAt }
}

/** Bytes that a load held besides weights and cache, less those predicted for one like it. */
export function loadErrorBytes(
  shape: ModelShape,
  load: {
    readonly contextTokens: number
    readonly sequences: number
    readonly kvDtype: KvSetting
    readonly software: boolean
    readonly inputs: readonly InputElement[]
    readonly otherBytes: number
  },
): number {
  const { activationBytes, logitBytes } = latheStepMemory(shape, { ...load, keyDtype: kvDtypesOf(load.kvDtype).key })
  return load.otherBytes - activationBytes - logitBytes
}

/** A prediction corrected by it: an overhead of its own where loads took more, smaller activations, never less than none, where they took less. */
export function withOverhead(
  activationBytes: number,
  overhead: MeasuredOverhead | null,
): { readonly activationBytes: number; readonly overheadBytes: number } {
  const bytes = overhead?.bytes ?? 0
  return { activationBytes: Math.max(0, activationBytes + Math.min(0, bytes)), overheadBytes: Math.max(0, bytes) }
}
