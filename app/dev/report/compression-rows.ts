/**
 * The rows of the compression table: scheme × algorithm as recipes, for a model of given sizes. Data only; compression-table.ts runs and
 * measures them. A group size that does not divide the model's widths is replaced by the largest one that does, and the row says so.
 */
import { GPTQ_DEFAULTS, RECOVERY_DAMPENING } from '../../../engine/compress/modifiers-yaml.ts'
import type { AwqStep, Observer, PruningStep, Recipe, RecipeStep } from '../../../engine/compress/recipe.ts'
import { PRESET_SCHEMES } from '../../../engine/compress/scheme.ts'
import type { IntegerBits, IntegerScheme, Scheme } from '../../../engine/compress/scheme.ts'

export interface TableRow {
  readonly group: string
  readonly name: string
  readonly recipe: Recipe
}

export const MINMAX: Observer = { kind: 'minmax' }
/** Ranges down to 0.3 of a group's own: two bits want far less than the whole. */
export const MSE: Observer = { kind: 'mse', maxShrink: 0.7, grid: 40, norm: 2 }
export const IMATRIX: Observer = { ...MSE, kind: 'imatrix' }

const AWQ: AwqStep = { kind: 'awq', mappings: null, duoScaling: true, nGrid: 20, clip: null }
const IGNORE = ['lm_head']

export function integers(bits: IntegerBits, groupSize: number | null): IntegerScheme {
  const common = { kind: 'packed-int', bits, symmetric: true } as const
  return groupSize === null ? { ...common, strategy: 'channel', groupSize } : { ...common, strategy: 'group', groupSize }
}

/** The last step of a recipe: scales by `observer`, codes by rounding or by GPTQ. */
export function storing(kind: 'quantization' | 'gptq', scheme: Scheme, observer: Observer): RecipeStep {
  const groups = [{ name: 'group_0', targets: ['Linear'], scheme, observer }]
  return kind === 'quantization' ? { kind, groups, ignore: IGNORE } : { kind, groups, ignore: IGNORE, ...GPTQ_DEFAULTS, actorder: 'static' }
}

function pruning(method: PruningStep['method']): PruningStep {
  const maskStructure = { prune: 2, of: 4 }
  return { kind: 'pruning', method, sparsity: 0.5, maskStructure, owl: null, targets: ['Linear'], ignore: IGNORE, ...GPTQ_DEFAULTS }
}

/** RTN, MSE, imatrix, GPTQ, AWQ and their combinations, at one width. */
function weightOnly(bits: IntegerBits, groupSize: number): readonly TableRow[] {
  const scheme = integers(bits, groupSize)
  const group = `W${bits}A16 g${groupSize}`
  const row = (name: string, steps: readonly RecipeStep[]): TableRow => ({ group, name, recipe: { steps } })
  return [
    row('RTN', [storing('quantization', scheme, MINMAX)]),
    row('MSE', [storing('quantization', scheme, MSE)]),
    row('imatrix', [storing('quantization', scheme, IMATRIX)]),
    row('AWQ', [AWQ, storing('quantization', scheme, MINMAX)]),
    row('AWQ + clipping', [{ ...AWQ, clip: { nGrid: 20, maxShrink: 0.5 } }, storing('quantization', scheme, MINMAX)]),
    row('GPTQ', [storing('gptq', scheme, MINMAX)]),
    row('GPTQ + imatrix', [storing('gptq', scheme, IMATRIX)]),
    row('AWQ + GPTQ', [AWQ, storing('gptq', scheme, MINMAX)]),
  ]
}

function sparse(widest: number): readonly TableRow[] {
  const group = '2:4 sparse'
  const recovery: RecipeStep = { kind: 'recovery', dampening: RECOVERY_DAMPENING }
  const row = (name: string, steps: readonly RecipeStep[]): TableRow => ({ group, name, recipe: { steps } })
  const w4 = integers(4, widest)
  const w8 = integers(8, null)
  return [
    row('magnitude', [pruning('magnitude')]),
    row('Wanda', [pruning('wanda')]),
    row('SparseGPT', [pruning('sparsegpt')]),
    row('magnitude + recovery', [pruning('magnitude'), recovery]),
    row('Wanda + recovery', [pruning('wanda'), recovery]),
    row('SparseGPT + recovery', [pruning('sparsegpt'), recovery]),
    row('SparseGPT + recovery, W8A16', [pruning('sparsegpt'), recovery, storing('quantization', w8, MINMAX)]),
    row('SparseGPT + recovery, W4A16 GPTQ', [pruning('sparsegpt'), recovery, storing('gptq', w4, MINMAX)]),
  ]
}

function presetScheme(name: string): Scheme {
  const scheme = PRESET_SCHEMES[name]
  if (scheme === undefined) throw new Error(`no scheme ${name}`)
  return scheme
}

function smooth(strength: number): RecipeStep {
  return { kind: 'smoothquant', smoothingStrength: strength, algorithm: 'smoothquant', mappings: null }
}

/** `widths`: the distinct input widths of the linears. */
export function tableRows(widths: readonly number[]): readonly TableRow[] {
  // A width that no group divides keeps its linears as they are; the others decide.
  const fits = (size: number): boolean => widths.filter((width) => width % 32 === 0).every((width) => width % size === 0)
  const groupOf = (wanted: number): number => [wanted, 64, 32].find((size) => size <= wanted && fits(size)) ?? 32
  const plain = (name: string, kind: 'quantization' | 'gptq' = 'quantization'): TableRow => ({
    group: name,
    name: kind === 'gptq' ? 'GPTQ' : 'RTN',
    recipe: { steps: [storing(kind, presetScheme(name), MINMAX)] },
  })
  const w8a8 = presetScheme('W8A8')
  const unique = new Map<string, TableRow>()
  const rows = [
    { group: 'W8A16 channel', name: 'RTN', recipe: { steps: [storing('quantization', integers(8, null), MINMAX)] } },
    ...weightOnly(4, groupOf(128)),
    {
      group: `W4A16 g${groupOf(128)}`,
      name: 'rotations R1 and R2 + GPTQ',
      recipe: {
        steps: [
          { kind: 'rotation' as const, transform: 'random-hadamard' as const, r1: true, r2: true },
          storing('gptq', integers(4, groupOf(128)), MINMAX),
        ],
      },
    },
    ...weightOnly(3, groupOf(64)),
    ...weightOnly(2, groupOf(64)),
    ...weightOnly(2, 32),
    plain('W8A8'),
    { group: 'W8A8', name: 'SmoothQuant 0.5', recipe: { steps: [smooth(0.5), storing('quantization', w8a8, MINMAX)] } },
    { group: 'W8A8', name: 'SmoothQuant 0.8', recipe: { steps: [smooth(0.8), storing('quantization', w8a8, MINMAX)] } },
    { group: 'W8A8', name: 'SmoothQuant 0.8 + GPTQ', recipe: { steps: [smooth(0.8), storing('gptq', w8a8, MINMAX)] } },
    plain('FP8_DYNAMIC'),
    plain('NVFP4A16'),
    plain('NVFP4A16', 'gptq'),
    plain('NVFP4'),
    plain('MXFP4'),
    ...sparse(groupOf(128)),
  ]
  for (const row of rows) unique.set(`${row.group} ${row.name}`, row)
  return [...unique.values()]
}

/** Automatic mixed precision against one scheme for all, at the uniform one's size. */
export interface MixedComparison {
  readonly group: string
  readonly uniform: IntegerScheme
  readonly candidates: readonly IntegerScheme[]
}

export function mixedComparisons(groupSize: number): readonly MixedComparison[] {
  const widths = (list: readonly IntegerBits[]): readonly IntegerScheme[] => list.map((bits) => integers(bits, groupSize))
  return [
    { group: `4 bits per weight, g${groupSize}`, uniform: integers(4, groupSize), candidates: widths([2, 3, 4, 5, 6, 8]) },
    { group: `3 bits per weight, g${groupSize}`, uniform: integers(3, groupSize), candidates: widths([2, 3, 4, 5, 6]) },
  ]
}
