/** What every kernel that reads stored weights needs from a format: the constants of weight-decode.wgsl and its bindings. */
import type { WeightFormat } from '../../program.ts'
import type { BindingAccess, BufferSlice } from '../kernel.ts'
import type { ShaderConstants } from '../shader.ts'
import { positionBytesOf } from '../sparse-rows.ts'
import { bitsOf, type DeviceMatrix, groupsOf, rowUnitsOf, unitElementsOf, type WeightShard } from '../weights.ts'

/** Bindings of a linear before those of its format. */
const FIRST_BINDING = 4

export interface FormatFacts {
  /** What the stored bytes are, whatever the shape. */
  readonly storage: ShaderConstants
  /** Scale groups end inside four elements. */
  readonly straddles: boolean
  /** Storage and shape. */
  readonly constants: ShaderConstants
  /** Bindings after the kernel's own: scales, and zero points or row gains, where the format has them. */
  readonly bindings: readonly BindingAccess[]
  readonly unitElements: number
  readonly units: number
  /** Fewest weights that fill whole words and whole fours of inputs (linear-rows.wgsl). */
  readonly granuleElements: number
}

/** `sparse`: stored as two values of every four (sparse-rows.ts), in the same units. */
export function formatFacts(format: WeightFormat, cols: number, sparse = false): FormatFacts {
  const facts = denseFacts(format, cols)
  if (!sparse) return facts
  const positionWords = positionBytesOf(facts.units, facts.unitElements) / 4
  const constants = { SPARSE: true, POSITION_WORDS: positionWords, POSITIONS_BINDING: FIRST_BINDING + facts.bindings.length }
  const quads = facts.unitElements / 4
  return {
    ...facts,
    storage: { ...facts.storage, ...constants, UNIT_ELEMENTS: facts.unitElements, QUADS: quads },
    constants: { ...facts.constants, ...constants },
    bindings: [...facts.bindings, 'read'],
    granuleElements: facts.unitElements,
  }
}

function denseFacts(format: WeightFormat, cols: number): FormatFacts {
  const bits = bitsOf(format)
  const unitElements = unitElementsOf(format)
  const units = rowUnitsOf(format, cols)
  const quads = unitElements / 4
  const shape = { COLS: cols, UNITS: units, UNIT_ELEMENTS: unitElements, QUADS: quads }
  const base = { unitElements, units, granuleElements: bits === 4 ? 8 : 4 }
  if (format.kind === 'dense') {
    const storage = { [format.dtype.toUpperCase()]: true }
    return { ...base, storage, straddles: false, constants: { ...shape, ...storage }, bindings: [] }
  }
  const { groupSize } = format
  const storage = storageOf(format)
  const bindings: readonly BindingAccess[] = hasSecondArray(format) ? ['read', 'read'] : ['read']
  const grouping = groupingOf(groupSize, cols, unitElements)
  return {
    ...base,
    storage,
    straddles: 'GROUP_INSIDE' in grouping || 'GROUP_SINGLE' in grouping ? groupSize % 16 !== 0 : false,
    constants: { ...shape, ...storage, ...grouping, GROUP_SIZE: groupSize, GROUPS: groupsOf(format, cols) },
    bindings,
  }
}

/** A scale per unit where no unit straddles groups, else per span of whole fours within it, else per element. */
function groupingOf(groupSize: number, cols: number, unitElements: number): ShaderConstants {
  const quads = unitElements / 4
  if (groupSize >= cols || groupSize % unitElements === 0) return { SPANS: 1, SPAN_QUADS: quads }
  if (groupSize % 4 !== 0) return { GROUP_SINGLE: true }
  const spanElements = unitElements % groupSize === 0 ? groupSize : groupSize % 16 === 0 ? 16 : 4
  return { SPANS: unitElements / spanElements, SPAN_QUADS: spanElements / 4, GROUP_INSIDE: true }
}

function storageOf(format: Exclude<WeightFormat, { kind: 'dense' }>): ShaderConstants {
  const scale = { PACKED: true, [`SCALE_${format.scaleDtype.toUpperCase()}`]: true }
  if (format.kind === 'packed-float') {
    return { ...scale, FLOATS: true, [format.element.toUpperCase()]: true, ...(format.hasGlobalScale ? { ROW_GAIN: true } : {}) }
  }
  const { bits, hasZeroPoint } = format
  const codes = bits === 4 || bits === 8 ? { [`INT${bits}`]: true } : { INT_ANY: true }
  return { ...scale, CENTERED: true, ...codes, BITS: bits, ...(hasZeroPoint ? { ZERO: true } : {}) }
}

function hasSecondArray(format: Exclude<WeightFormat, { kind: 'dense' }>): boolean {
  return format.kind === 'packed-int' ? format.hasZeroPoint : format.hasGlobalScale
}

export function formatBuffers(matrix: DeviceMatrix, shard: WeightShard): readonly BufferSlice[] {
  return [matrix.scale, matrix.zeroPoint ?? matrix.rowGain, shard.positions]
    .filter((buffer) => buffer !== null)
    .map((buffer) => ({ buffer }))
}

/** Bytes that one reading of the whole weight moves. */
export function weightBytes(matrix: DeviceMatrix): number {
  return [...matrix.shards.flatMap((shard) => [shard.buffer, shard.positions]), matrix.scale, matrix.zeroPoint, matrix.rowGain].reduce(
    (sum, buffer) => sum + (buffer?.size ?? 0),
    0,
  )
}
