/**
 * Matrix units (tensor cores) for steps of many tokens: what an adapter has of them, the tiles that fit, and where the mode begins. A mode of its own,
 * never on unless asked for: f16 inputs with f32 sums, and results that depend on how many tokens a step has (DESIGN §3). Knows nothing of formats
 * and plans: kernels/linear-matrix.ts.
 */
import type { GpuDevice } from './device.ts'
import type { BufferSlice } from './kernel.ts'

/** One supported product of fragments, f16 × f16 into f32. */
export interface MatrixUnits {
  /** Columns of inputs, rows of weights and elements of one fragment. */
  readonly m: number
  readonly n: number
  readonly k: number
  /** Invocations of every subgroup. */
  readonly lanes: number
  /** Multiplied by ordinary arithmetic, lane by lane: the kernel around the units, for tests. */
  readonly emulated: boolean
}

export interface MatrixTile {
  /** Columns of inputs, and rows of weights, per workgroup. */
  readonly columns: number
  readonly rows: number
  /** Subgroups along the columns and along the rows. */
  readonly gridColumns: number
  readonly gridRows: number
  /** Stages in workgroup memory: with two, one is filled while the other is multiplied. */
  readonly buffers: 1 | 2
  /** Fragments of inputs come straight from memory. */
  readonly direct: boolean
}

export interface MatrixMode {
  readonly units: MatrixUnits
  /** Steps of fewer columns keep the kernels whose bits do not depend on the batch. */
  readonly leastColumns: number
  /** Elements of a row per stage; a multiple of the fragments' k and of 32, the longest unit of packed weights. */
  readonly stage: number
  /** Ascending in size: the last that gives the device enough workgroups, else the first. */
  readonly tiles: readonly MatrixTile[]
}

/** What planning needs of the mode besides: memory that all linears share, and the scales of each weight's rows. */
export interface MatrixPlan extends MatrixMode {
  readonly inputs: BufferSlice
  readonly inputScales: BufferSlice
  rowScales(weightId: number): BufferSlice
}

/** Shorter steps keep the default kernels: at 32 columns a tile is a quarter full, and decoding is never this wide by default. */
const LEAST_COLUMNS = 32
/**
 * Of thirteen shapes on an H200 (bench/matrix-bench.ts): 128 × 128 by eight subgroups is the fastest or within 15 % of it wherever there are tiles
 * enough, 64 × 64 by four where there are not: 1.16 to 1.9 times as fast for 4096 rows at 64 and 128 columns, 0.70 to 0.75 times at 512.
 */
const STAGE = 64
const TILES: readonly MatrixTile[] = [
  { columns: 64, rows: 64, gridColumns: 2, gridRows: 2, buffers: 1, direct: false },
  { columns: 128, rows: 128, gridColumns: 2, gridRows: 4, buffers: 1, direct: false },
]
/** Half of an H200's multiprocessors. With 32 large tiles the small ones were faster, with 112 the large ones. */
const LEAST_WORKGROUPS = 64

/** Index of the tile for this many columns and rows. */
export function tileFor({ tiles }: Pick<MatrixMode, 'tiles'>, columns: number, rows: number): number {
  const fills = (tile: MatrixTile): boolean => Math.ceil(columns / tile.columns) * Math.ceil(rows / tile.rows) >= LEAST_WORKGROUPS
  return Math.max(0, tiles.findLastIndex(fills))
}

/** The mode on this device, or why there is none. Whether its results are right is not known yet: matrix-check.ts. */
export function matrixModeOf(gpu: Pick<GpuDevice, 'features' | 'matrixConfigs' | 'subgroupSize' | 'limits'>): MatrixMode | string {
  if (!gpu.features.has('chromium-experimental-subgroup-matrix')) return 'The adapter or its driver offers no matrix units through WebGPU.'
  if (!gpu.features.has('shader-f16')) return 'The driver offers matrix units but no 16-bit floats.'
  if (gpu.subgroupSize === null) return 'The driver chooses the size of subgroups from kernel to kernel.'
  const lanes = gpu.subgroupSize
  const products = gpu.matrixConfigs.filter(
    ({ componentType, resultComponentType }) => componentType === 'f16' && resultComponentType === 'f32',
  )
  const [config] = products.toSorted((a, b) => b.M * b.N * b.K - a.M * a.N * a.K)
  if (config === undefined) return 'The matrix units of this adapter have no product of 16-bit floats that is summed in 32 bits.'
  const units = { m: config.M, n: config.N, k: config.K, lanes, emulated: false }
  const mode = { units, leastColumns: LEAST_COLUMNS, stage: STAGE, tiles: TILES.filter((tile) => fits(gpu, units, tile)) }
  return mode.tiles.length > 0 ? mode : `No tile of ${config.M} × ${config.N} × ${config.K} products fits into this adapter's workgroups.`
}

function fits({ limits }: Pick<GpuDevice, 'limits'>, units: MatrixUnits, tile: MatrixTile): boolean {
  const whole = tile.columns % (tile.gridColumns * units.m) === 0 && tile.rows % (tile.gridRows * units.n) === 0 && STAGE % units.k === 0
  const workgroup = workgroupOf(units, tile)
  const most = Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX)
  return whole && workgroup <= most && tileBytes({ units, stage: STAGE }, tile) <= limits.maxComputeWorkgroupStorageSize
}

/** Halves in a place of workgroup memory. */
export const PLACE_HALVES = 8
const PLACE_BYTES = 16

export function workgroupOf({ lanes }: MatrixUnits, tile: MatrixTile): number {
  return lanes * tile.gridColumns * tile.gridRows
}

/** Elements of a row of inputs with the zeros after them. */
export function paddedElements({ stage }: MatrixMode, cols: number): number {
  return Math.ceil(cols / stage) * stage
}

/** Columns that direct loads touch: whole tiles. */
export function paddedColumns({ tiles }: MatrixMode, columns: number): number {
  const most = Math.max(...tiles.map((tile) => tile.columns))
  return Math.ceil(columns / most) * most
}

/** Workgroup memory of a tile, as linear-matrix.wgsl lays it out. */
export function tileBytes({ units, stage }: Pick<MatrixMode, 'units' | 'stage'>, tile: MatrixTile): number {
  const pitch = stage / PLACE_HALVES + 1
  const staged = tile.buffers * ((tile.direct ? 0 : tile.columns) + tile.rows) * pitch
  const strips = tile.gridColumns * tile.gridRows * units.m * (tile.rows / tile.gridRows / 4 + 1)
  return PLACE_BYTES * Math.max(staged, strips)
}
