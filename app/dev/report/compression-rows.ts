/**
 * The rows of the compression table: scheme × algorithm as recipes, for a model of given sizes. Data only; compression-bench.ts measures
 * them. A group size that does not divide the model's widths is replaced by the largest one that does, and the row says so.
 */
import { GPTQ_DEFAULTS, RECOVERY_DAMPENING } from '../../../engine/compress/modifiers-yaml.ts'
import type { AwqStep, Observer, PruningStep, Recipe, RecipeStep } from '../../../engine/compress/recipe.ts'
import { PRESET_SCHEMES } from '../../../engine/compress/scheme.ts'
import type { IntegerBits, IntegerScheme, Scheme } from '../../../engine/compress/scheme.ts'

export interface TableRow {
  readonly group: string
  readonly name: string
  /** null: the model as it is, measured against itself. */
  readonly recipe: Recipe | null
  /** Whether it decides one of the comparisons that the document explains; those are measured first. */
  readonly essential: boolean
}

export const MINMAX: Observer = { kind: 'minmax' }
/** Ranges down to 0.3 of a group's own: two bits want far less than the whole. */
export const MSE: Observer = { kind: 'mse', maxShrink: 0.7, grid: 40, norm: 2 }
export const IMATRIX: Observer = { ...MSE, kind: 'imatrix' }

export const ORIGINAL: TableRow = { group: 'Original', name: '—', recipe: null, essential: true }

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

function pruning(method: PruningStep['method'], maskStructure = { prune: 2, of: 4 }): PruningStep {
  const sparsity = maskStructure.prune / maskStructure.of
  return { kind: 'pruning', method, sparsity, maskStructure, owl: null, targets: ['Linear'], ignore: IGNORE, ...GPTQ_DEFAULTS }
}

/** Unstructured, the same share of every layer or by each layer's outliers. */
function unstructured(method: PruningStep['method'], owl: PruningStep['owl']): PruningStep {
  return { ...pruning(method), maskStructure: null, owl }
}

type Build = (name: string, steps: readonly RecipeStep[], essential?: boolean) => TableRow

function rowsOf(group: string): Build {
  return (name, steps, essential = true) => ({ group, name, recipe: { steps }, essential })
}

/** RTN, MSE, imatrix, GPTQ, AWQ and their combinations, at one width. */
function weightOnly(bits: IntegerBits, groupSize: number): readonly TableRow[] {
  const scheme = integers(bits, groupSize)
  const row = rowsOf(`W${bits}A16 g${groupSize}`)
  return [
    row('RTN', [storing('quantization', scheme, MINMAX)]),
    row('MSE', [storing('quantization', scheme, MSE)]),
    row('imatrix', [storing('quantization', scheme, IMATRIX)]),
    row('AWQ', [AWQ, storing('quantization', scheme, MINMAX)]),
    row('AWQ, MSE', [AWQ, storing('quantization', scheme, MSE)], bits === 2),
    row('AWQ + clipping', [{ ...AWQ, clip: { nGrid: 20, maxShrink: 0.5 } }, storing('quantization', scheme, MINMAX)], false),
    row('GPTQ', [storing('gptq', scheme, MINMAX)]),
    row('GPTQ, MSE', [storing('gptq', scheme, MSE)], bits === 2),
    row('GPTQ, imatrix', [storing('gptq', scheme, IMATRIX)]),
    row('AWQ + GPTQ', [AWQ, storing('gptq', scheme, MINMAX)], false),
    row('AWQ + GPTQ, MSE', [AWQ, storing('gptq', scheme, MSE)], false),
    row(
      'rotations R1 and R2 + GPTQ',
      [{ kind: 'rotation', transform: 'random-hadamard', r1: true, r2: true }, storing('gptq', scheme, MINMAX)],
      false,
    ),
  ]
}

function sparse(groupSize: number, widths: readonly number[]): readonly TableRow[] {
  const recovery: RecipeStep = { kind: 'recovery', dampening: RECOVERY_DAMPENING }
  const row = rowsOf('2:4 sparse')
  const w4 = integers(4, groupSize)
  const w8 = integers(8, null)
  const fourOfEight = rowsOf('4:8 sparse')
  const half = rowsOf('50 % sparse')
  const owl = { m: 5, lambda: 0.08 }
  return [
    row('magnitude', [pruning('magnitude')]),
    row('Wanda', [pruning('wanda')]),
    row('SparseGPT', [pruning('sparsegpt')]),
    row('magnitude + recovery', [pruning('magnitude'), recovery]),
    row('Wanda + recovery', [pruning('wanda'), recovery]),
    row('SparseGPT + recovery', [pruning('sparsegpt'), recovery]),
    row('SparseGPT + recovery, W8A16', [pruning('sparsegpt'), recovery, storing('quantization', w8, MINMAX)]),
    row('SparseGPT + recovery, FP8_DYNAMIC', [
      pruning('sparsegpt'),
      recovery,
      storing('quantization', presetScheme('FP8_DYNAMIC'), MINMAX),
    ]),
    row('SparseGPT + recovery, W4A16 GPTQ', [pruning('sparsegpt'), recovery, storing('gptq', w4, MINMAX)], false),
    ...(widths.every((width) => width % 8 === 0) ? [fourOfEight('SparseGPT', [pruning('sparsegpt', { prune: 4, of: 8 })], false)] : []),
    half('magnitude', [unstructured('magnitude', null)], false),
    half('Wanda', [unstructured('wanda', null)], false),
    half('SparseGPT', [unstructured('sparsegpt', null)], false),
    half('SparseGPT, OWL', [unstructured('sparsegpt', owl)], false),
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

/** Rounded activations, where outliers among the inputs decide. */
function roundedInputs(): readonly TableRow[] {
  const w8a8 = presetScheme('W8A8')
  const row = rowsOf('W8A8')
  return [
    row('RTN', [storing('quantization', w8a8, MINMAX)]),
    row('SmoothQuant 0.5', [smooth(0.5), storing('quantization', w8a8, MINMAX)]),
    row('SmoothQuant 0.8', [smooth(0.8), storing('quantization', w8a8, MINMAX)]),
    row('GPTQ', [storing('gptq', w8a8, MINMAX)]),
    row('SmoothQuant 0.5 + GPTQ', [smooth(0.5), storing('gptq', w8a8, MINMAX)]),
    rowsOf('W8A8 static')('RTN', [storing('quantization', { ...w8a8, activations: { element: 'int8', scale: 'tensor' } }, MINMAX)], false),
    ...['FP8_DYNAMIC', 'FP8', 'FP8_BLOCK'].map((name) => rowsOf(name)('RTN', [storing('quantization', presetScheme(name), MINMAX)])),
  ]
}

/** `widths`: the distinct input widths of the linears. `planted`: the model has channels that dwarf the others. */
export function tableRows(widths: readonly number[], planted = false): readonly TableRow[] {
  if (planted) return [ORIGINAL, ...roundedInputs()]
  // A width that no group divides keeps its linears as they are; the others decide.
  const fits = (size: number): boolean => widths.filter((width) => width % 32 === 0).every((width) => width % size === 0)
  const groupOf = (wanted: number): number => [wanted, 64, 32].find((size) => size <= wanted && fits(size)) ?? 32
  const preset = (name: string, kind: 'quantization' | 'gptq' = 'quantization', essential = true): TableRow =>
    rowsOf(name)(kind === 'gptq' ? 'GPTQ' : 'RTN', [storing(kind, presetScheme(name), MINMAX)], essential)
  const rows = [
    ORIGINAL,
    rowsOf('W8A16 channel')('RTN', [storing('quantization', integers(8, null), MINMAX)]),
    ...weightOnly(4, groupOf(128)),
    ...weightOnly(3, groupOf(64)),
    ...weightOnly(2, groupOf(64)),
    ...weightOnly(2, 32),
    ...roundedInputs(),
    rowsOf('W4AFP8')('RTN', [storing('quantization', { ...presetScheme('W4AFP8'), ...sized(groupOf(128)) }, MINMAX)]),
    preset('NVFP4A16'),
    preset('NVFP4A16', 'gptq'),
    preset('NVFP4'),
    preset('MXFP4A16'),
    preset('MXFP4A16', 'gptq', false),
    preset('MXFP4'),
    preset('MXFP8A16', 'quantization', false),
    preset('MXFP8'),
    ...sparse(groupOf(128), widths),
  ]
  return [...new Map(rows.map((row) => [`${row.group} ${row.name}`, row])).values()]
}

function sized(groupSize: number): { readonly groupSize: number } {
  return { groupSize }
}

/** Automatic mixed precision against one scheme for all, at the uniform one's size. */
export interface MixedComparison {
  readonly group: string
  readonly uniform: IntegerScheme
}

/** Widths that automatic maps choose from; losses are measured once and serve every comparison. */
export function mixedCandidates(groupSize: number): readonly IntegerScheme[] {
  const widths: readonly IntegerBits[] = [2, 3, 4, 5, 6, 8]
  return widths.map((bits) => integers(bits, groupSize))
}

export function mixedComparisons(groupSize: number): readonly MixedComparison[] {
  return ([4, 3] as const).map((bits) => ({ group: `${bits} bits per weight, g${groupSize}`, uniform: integers(bits, groupSize) }))
}

/** The last steps that maps are compared with. */
export const MIXED_STEPS = [
  { kind: 'quantization', title: 'MSE' },
  { kind: 'gptq', title: 'GPTQ, MSE' },
] as const

/** How long a row's compression takes beside others, so that the cheapest come first. */
export function costOf({ recipe }: TableRow): number {
  const costs: Partial<Record<RecipeStep['kind'], number>> = { awq: 10, recovery: 4, pruning: 2, gptq: 2, rotation: 1, smoothquant: 1 }
  return (recipe?.steps ?? []).reduce((sum, step) => sum + (costs[step.kind] ?? 0), 0)
}
