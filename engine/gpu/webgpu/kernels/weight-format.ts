/** What every kernel that reads stored weights needs from a format: the constants of weight-decode.wgsl and its bindings. */
import { LatheError } from '../../../contract/errors.ts'
import type { WeightFormat } from '../../program.ts'
import type { BindingAccess, BufferSlice } from '../kernel.ts'
import type { ShaderConstants } from '../shader.ts'
import { bitsOf, type DeviceMatrix, groupsOf, rowUnitsOf } from '../weights.ts'

const UNIT_BITS = 128

export interface FormatFacts {
  /** What the stored bytes are, whatever the shape. */
  readonly storage: ShaderConstants
  /** Scale groups end inside a unit. */
  readonly straddles: boolean
  /** Storage and shape. */
  readonly constants: ShaderConstants
  /** Bindings after the kernel's own: scales and zero points, where the format has them. */
  readonly bindings: readonly BindingAccess[]
  readonly unitElements: number
  readonly units: number
}

export function formatFacts(format: WeightFormat, cols: number): FormatFacts {
  const bits = bitsOf(format)
  const unitElements = UNIT_BITS / bits
  const units = rowUnitsOf(format, cols)
  const shape = { COLS: cols, UNITS: units, UNIT_ELEMENTS: unitElements, QUADS: unitElements / 4 }
  if (format.kind === 'dense') {
    const storage = { [format.dtype.toUpperCase()]: true }
    return { storage, straddles: false, constants: { ...shape, ...storage }, bindings: [], unitElements, units }
  }
  if (format.kind === 'packed-float' || (bits !== 4 && bits !== 8)) {
    throw new LatheError('gpu.unsupported', `No kernel reads weights of ${bits} bits yet.`, 'Use the reference adapter.')
  }
  const { groupSize } = format
  // Scale per unit where no unit straddles groups, else per four elements, else per element.
  const grouping = groupSize >= cols || groupSize % unitElements === 0 ? 'GROUP_UNIT' : groupSize % 4 === 0 ? 'GROUP_QUAD' : 'GROUP_SINGLE'
  const storage = {
    PACKED: true,
    [`INT${bits}`]: true,
    BITS: bits,
    [`SCALE_${format.scaleDtype.toUpperCase()}`]: true,
    ...(format.hasZeroPoint ? { ZERO: true } : {}),
  }
  return {
    storage,
    straddles: grouping !== 'GROUP_UNIT',
    constants: { ...shape, ...storage, [grouping]: true, GROUP_SIZE: groupSize, GROUPS: groupsOf(format, cols) },
    bindings: format.hasZeroPoint ? ['read', 'read'] : ['read'],
    unitElements,
    units,
  }
}

export function formatBuffers(matrix: DeviceMatrix): readonly BufferSlice[] {
  return [matrix.scale, matrix.zeroPoint].filter((buffer) => buffer !== null).map((buffer) => ({ buffer }))
}

/** Bytes that one reading of the whole weight moves. */
export function weightBytes(matrix: DeviceMatrix): number {
  return [...matrix.shards.map((shard) => shard.buffer), matrix.scale, matrix.zeroPoint].reduce(
    (sum, buffer) => sum + (buffer?.size ?? 0),
    0,
  )
}
