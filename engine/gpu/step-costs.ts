/**
 * Seconds of a step of one token from what its parts cost on an adapter (calibration.ts): a sum over the program's own operations, each product looked up
 * by its stored format and size, every layer's other operations by width and context. An estimate: it knows no overlap between
 * operations and no shape of a matrix but its number of weights.
 */
import type { LinearRate, StepCosts } from '../contract/hardware.ts'
import type { Program, WeightFormat } from './program.ts'

export type ProductFormat = LinearRate['format']

/** What a step of one token consists of. */
export interface StepParts {
  /** One entry per form of matrix; the head is one of them. Packed formats by the nearest in bits. */
  readonly products: readonly { readonly format: ProductFormat; readonly weights: number; readonly count: number }[]
  readonly layers: number
  /** Of each layer, on average: see `StepCosts.layers`. */
  readonly elements: number
  readonly headElements: number
  readonly vocabulary: number
}

const EIGHT_BITS_FROM = 6

export function productFormat(format: WeightFormat): ProductFormat {
  if (format.kind === 'dense') return 'bf16'
  const bits = format.kind === 'packed-int' ? format.bits : format.element === 'e4m3' ? 8 : 4
  return bits >= EIGHT_BITS_FROM ? 'int8' : 'int4'
}

/** The parts of a decoder's program. */
export function stepPartsOf({ operations, vocabulary }: Program): StepParts {
  const products = new Map<string, { format: ProductFormat; weights: number; count: number }>()
  let [layers, elements, headElements] = [0, 0, 0]
  for (const operation of operations) {
    if (operation.op === 'linear') {
      const { rows, cols } = operation.weight
      const format = productFormat(operation.weight.format)
      const key = `${format} ${rows * cols}`
      const same = products.get(key) ?? { format, weights: rows * cols, count: 0 }
      products.set(key, { ...same, count: same.count + 1 })
    } else if (operation.op === 'rmsNorm' && operation.x.extent === 'tokens') elements += operation.x.width
    else if (operation.op === 'swiglu') elements += 3 * operation.out.width
    else if (operation.op === 'ropeAppend') elements += operation.qkv.width
    else if (operation.op === 'attention') {
      layers++
      headElements += operation.heads * operation.headDim
    }
  }
  const each = (sum: number): number => (layers === 0 ? 0 : sum / layers)
  return { products: [...products.values()], layers, elements: each(elements), headElements: each(headElements), vocabulary }
}

/** Seconds of one product; beyond the sizes that were measured it goes on as between the last two. Throws RangeError without measurements. */
export function productSeconds({ linear }: Pick<StepCosts, 'linear'>, format: ProductFormat, weights: number): number {
  const own = linear.find((line) => line.format === format) ?? linear[0]
  return (
    at(
      (own?.points ?? []).map((point) => ({ x: point.weights, y: point.microseconds })),
      weights,
    ) / 1e6
  )
}

/** Seconds of the step that makes one token, with so many tokens of context behind it. */
export function stepSeconds(costs: StepCosts, parts: StepParts, contextTokens: number): number {
  const products = parts.products.reduce((sum, { format, weights, count }) => sum + count * productSeconds(costs, format, weights), 0)
  return products + parts.layers * layerSeconds(costs, parts, contextTokens) + restSeconds(costs, parts.vocabulary)
}

/** One layer without its products. */
export function layerSeconds(costs: StepCosts, parts: Pick<StepParts, 'elements' | 'headElements'>, contextTokens: number): number {
  const fixed =
    at(
      costs.layers.map((layer) => ({ x: layer.elements, y: layer.microseconds })),
      parts.elements,
    ) / 1e6
  const perToken =
    at(
      costs.layers.map((layer) => ({ x: layer.headElements, y: layer.contextNanoseconds })),
      parts.headElements,
    ) / 1e9
  return fixed + perToken * contextTokens
}

/** What every step has besides layers and products. */
export function restSeconds(costs: StepCosts, vocabulary: number): number {
  return costs.stepMicroseconds / 1e6 + (costs.logitNanoseconds * vocabulary) / 1e9
}

interface Point {
  readonly x: number
  readonly y: number
}

/** Straight lines between measured points; before the first as much as the first, beyond the last as the last two go on, if they rise. */
function at(points: readonly Point[], x: number): number {
  const [first] = points
  if (first === undefined) throw new RangeError('Nothing was measured')
  if (x <= first.x || points.length === 1) return first.y
  const above = points.findIndex((point) => point.x >= x)
  const end = above === -1 ? points.length - 1 : above
  const [from, to] = [points[end - 1] ?? first, points[end] ?? first]
  const y = from.y + ((to.y - from.y) * (x - from.x)) / (to.x - from.x)
  return above === -1 ? Math.max(y, to.y) : y
}
