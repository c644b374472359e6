/** Applies channel factors to one input of a layer: what AWQ and SmoothQuant do once they have chosen. Exact, see algorithms/smoothing.ts. */
import { applySmoothing } from '../algorithms/smoothing.ts'
import type { SmoothSource } from '../algorithms/smoothing.ts'
import type { LayerContext, LayerInput } from '../calibration/layer-context.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { producingRows, readersOf } from './smoothing-mappings.ts'

/** Divides `input` of the layer by `factors` [cols], and multiplies the columns of all that read it. */
export function smoothInput(context: LayerContext, input: LayerInput, factors: Float64Array): void {
  const readers = readersOf(context, input)
  const balance = readers.map(({ rows, cols, weight }) => ({ rows, cols, values: weight.slice() }))
  const weights = new Map(readers.map(({ module }, i) => [module, balance[i]?.values ?? new Float32Array(0)]))
  const producer = producingRows(context, input)
  const dtype = readers[0]?.dtype ?? 'F32'
  if (producer === null) {
    const norm = context.norms.find(({ role }) => role === input)
    if (norm === undefined) throw new RangeError(`The layer has no norm in front of "${input}"`)
    const weight = norm.weight.slice()
    const applied = applySmoothing({ kind: 'norm', weight }, balance, factors, dtype)
    context.replace({ weights, norms: new Map([[norm.role, weight]]), inputsDividedBy: new Map([[input, Float32Array.from(applied)]]) })
    return
  }
  const { linear, firstRow } = producer
  const matrix = { rows: linear.rows, cols: linear.cols, values: linear.weight.slice() }
  const bias = linear.bias?.slice() ?? null
  const source: SmoothSource = { kind: 'linear', matrix, bias, firstRow }
  const applied = applySmoothing(source, balance, factors, dtype)
  context.replace({
    weights: new Map([...weights, [linear.module, matrix.values]]),
    ...(bias === null ? {} : { biases: new Map([[linear.module, bias]]) }),
    inputsDividedBy: new Map([[input, Float32Array.from(applied)]]),
  })
}

/** Tensors of a layer that change although nothing quantizes them: norms, and biases of producing linears. */
export function smoothedTensors(inputs: readonly LayerInput[], spec: ModelSpec, layer: number): readonly string[] {
  const prefix = `model.layers.${layer}`
  const separate = spec.projections === 'separate'
  return inputs.flatMap((input) => {
    switch (input) {
      case 'attention':
        return [`${prefix}.input_layernorm.weight`]
      case 'mlp':
        return [`${prefix}.post_attention_layernorm.weight`]
      case 'context':
        return spec.biases.qkv ? [`${prefix}.self_attn.${separate ? 'v_proj' : 'qkv_proj'}.bias`] : []
      case 'activated':
        return spec.biases.mlp ? [`${prefix}.mlp.${separate ? 'up_proj' : 'gate_up_proj'}.bias`] : []
    }
  })
}
