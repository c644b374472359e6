/**
 * The parts of a step of one token as Lathe's programs have them, from a model's shape alone: q, k and v are one product, gate and up another
 * (engine/model). What a program with stored weights has is engine/gpu/step-costs.ts's to read.
 */
import type { ProductFormat, StepParts } from '../gpu/step-costs.ts'
import type { Matrix, ModelShape } from './model-shape.ts'

/** Matrices that a program stacks into one product, by the end of their names. */
const STACKED = [
  ['q_proj', 'k_proj', 'v_proj'],
  ['gate_proj', 'up_proj'],
] as const

/** `format`: what the decoder's linears are stored as; head and routers stay at 16 bits. */
export function stepPartsOfShape(shape: ModelShape, format: ProductFormat): StepParts {
  const { layers, hiddenSize, intermediateSize, attentionHeads, kvHeads, headDim, vocabulary } = shape
  const products = new Map<string, { format: ProductFormat; weights: number; count: number }>()
  for (const { rows, matrix } of stacked(shape.matrices)) {
    const own = matrix.kept ? 'bf16' : format
    const weights = rows * matrix.columns
    const same = products.get(`${own} ${weights}`)
    products.set(`${own} ${weights}`, { format: own, weights, count: (same?.count ?? 0) + matrix.active })
  }
  return {
    products: [...products.values(), { format: 'bf16', weights: vocabulary * hiddenSize, count: 1 }],
    layers,
    elements: 2 * hiddenSize + (attentionHeads + 2 * kvHeads) * headDim + 3 * intermediateSize,
    headElements: attentionHeads * headDim,
    vocabulary,
  }
}

/** Every product once, with the rows of all matrices that are stacked in it. */
function stacked(matrices: readonly Matrix[]): { readonly rows: number; readonly matrix: Matrix }[] {
  return matrices.flatMap((matrix) => {
    const names = namesStackedWith(matrix.name)
    const group = matrices.filter((other) => other.columns === matrix.columns && names.includes(other.name))
    return group[0] === matrix ? [{ rows: group.reduce((sum, { rows }) => sum + rows, 0), matrix }] : []
  })
}

/** Its own among them. */
function namesStackedWith(name: string): readonly string[] {
  for (const group of STACKED) {
    const end = group.find((candidate) => name.endsWith(candidate))
    if (end !== undefined) return group.map((other) => name.slice(0, -end.length) + other)
  }
  return [name]
}
