/**
 * Matrix units for adapters that have none: fragments multiplied lane by lane, all around them as on a GPU. One fragment a subgroup, since LLVM takes
 * a minute for the code of larger tiles.
 */
import type { MatrixMode, MatrixTile } from '../webgpu/matrix-units.ts'

const units = { m: 16, n: 16, k: 16, lanes: 32, emulated: true }
const LEAST_COLUMNS = 5
const plain: MatrixTile = { columns: 32, rows: 32, gridColumns: 2, gridRows: 2, buffers: 1, direct: false }

export const EMULATED_MATRIX_UNITS: MatrixMode = { units, leastColumns: LEAST_COLUMNS, stage: 32, tiles: [plain] }

/** Two stages at a time, inputs straight from memory. */
export const EMULATED_DIRECT: MatrixMode = {
  ...EMULATED_MATRIX_UNITS,
  tiles: [{ columns: 32, rows: 16, gridColumns: 2, gridRows: 1, buffers: 2, direct: true }],
}
