/**
 * Which modules of a decoder layer may trade scale with each other (specs/compression-algorithms.md §3, §4). In the pre-norm layers that Lathe
 * runs there are four such places, one per input of the layer's linears: the input's producer (a norm, v, or up) is divided, every linear
 * that reads it is multiplied. So a mapping, default or from a recipe, comes down to a LayerInput; one that names only some of the readers,
 * or a producer whose scale does not pass through, would change the model and is refused.
 */
import { LatheError } from '../../contract/errors.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { LayerContext, LayerInput, LayerLinear } from '../calibration/layer-context.ts'
import type { SmoothingMapping } from '../recipe.ts'

/** Families whose layers are known to have this form. A family joins once its norms and residuals have been checked against it. */
const KNOWN_FAMILIES: readonly string[] = ['llama', 'mistral', 'qwen2', 'qwen3', 'phi3']

const AWQ_INPUTS: readonly LayerInput[] = ['attention', 'context', 'mlp', 'activated']
const SMOOTH_QUANT_INPUTS: readonly LayerInput[] = ['attention', 'mlp']

export type SmoothingAlgorithm = 'awq' | 'smoothquant'

const TITLES: Readonly<Record<SmoothingAlgorithm, string>> = { awq: 'AWQ', smoothquant: 'SmoothQuant' }

/** Names inside a layer, by how the family stores its projections. */
interface Place {
  readonly producer: string
  readonly readers: readonly string[]
}

function placesOf(spec: ModelSpec): Readonly<Record<LayerInput, Place>> {
  const separate = spec.projections === 'separate'
  const qkv = separate ? ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'] : ['self_attn.qkv_proj']
  const gateUp = separate ? ['mlp.gate_proj', 'mlp.up_proj'] : ['mlp.gate_up_proj']
  return {
    attention: { producer: 'input_layernorm', readers: qkv },
    context: { producer: qkv[qkv.length - 1] as string, readers: ['self_attn.o_proj'] },
    mlp: { producer: 'post_attention_layernorm', readers: gateUp },
    activated: { producer: gateUp[gateUp.length - 1] as string, readers: ['mlp.down_proj'] },
  }
}

/**
 * The inputs to smooth in layer `layer`. With shared key-value heads, v has fewer channels than o reads, and `context` falls away.
 * Throws `compress.invalid-recipe` where a mapping does not preserve the model.
 */
export function inputsToSmooth(
  algorithm: SmoothingAlgorithm,
  mappings: readonly SmoothingMapping[] | null,
  spec: ModelSpec,
  layer: number,
): readonly LayerInput[] {
  if (!KNOWN_FAMILIES.includes(spec.family)) {
    throw new LatheError(
      'compress.invalid-recipe',
      `${TITLES[algorithm]} does not know which modules of "${spec.family}" feed each other.`,
      `It does for ${KNOWN_FAMILIES.join(', ')}. Leave the step out.`,
    )
  }
  const places = placesOf(spec)
  const inputs =
    mappings === null
      ? algorithm === 'awq'
        ? AWQ_INPUTS
        : SMOOTH_QUANT_INPUTS
      : AWQ_INPUTS.filter((input) => mappings.some((mapping) => namesPlace(mapping, places[input], layer)))
  return inputs.filter((input) => input !== 'context' || spec.kvHeads === spec.heads)
}

/** Every mapping must name a place in some layer, or a misspelling would pass as "nothing to do". */
export function checkMappings(algorithm: SmoothingAlgorithm, mappings: readonly SmoothingMapping[] | null, spec: ModelSpec): void {
  inputsToSmooth(algorithm, null, spec, 0)
  const places = Object.values(placesOf(spec))
  for (const mapping of mappings ?? []) {
    const layers = Array.from({ length: spec.layers }, (_, layer) => layer)
    if (layers.some((layer) => places.some((place) => namesPlace(mapping, place, layer)))) continue
    throw new LatheError(
      'compress.invalid-recipe',
      `${TITLES[algorithm]}: the mapping ${mapping.smooth} → ${mapping.balance.join(', ')} fits no layer of this model.`,
      `Possible are ${places.map((place) => `${place.producer} → ${place.readers.join(', ')}`).join('; ')}.`,
    )
  }
}

/** Throws where the producer is the place's but the readers are not all of its own: the others would read divided inputs. */
function namesPlace(mapping: SmoothingMapping, place: Place, layer: number): boolean {
  const full = (name: string): string => `model.layers.${layer}.${name}`
  if (!matches(mapping.smooth, full(place.producer))) return false
  const named = place.readers.filter((reader) => mapping.balance.some((pattern) => matches(pattern, full(reader))))
  // A pattern such as `re:.*v_proj` may be the producer of one mapping and part of another's readers.
  if (named.length === 0) return false
  if (named.length === place.readers.length) return true
  const missing = place.readers.filter((reader) => !named.includes(reader))
  throw new LatheError(
    'compress.invalid-recipe',
    `The mapping of ${mapping.smooth} leaves out ${missing.join(' and ')}, which read${missing.length === 1 ? 's' : ''} the same input.`,
    'Name every linear behind that norm or projection, or the model computes something else.',
  )
}

/** LLM Compressor's matching: `re:` patterns from the start of the name, otherwise the name, or the end of it. */
function matches(pattern: string, name: string): boolean {
  if (pattern.startsWith('re:')) return new RegExp(`^(?:${pattern.slice(3)})`).test(name)
  return name === pattern || name.endsWith(`.${pattern}`)
}

/** The linear whose rows produce an input, and the first of those rows; null for the inputs that norms produce. */
export function producingRows(
  context: LayerContext,
  input: LayerInput,
): { readonly linear: LayerLinear; readonly firstRow: number } | null {
  if (input === 'attention' || input === 'mlp') return null
  const separate = context.spec.projections === 'separate'
  const linear = context.linear(input === 'context' ? (separate ? 'v' : 'qkv') : separate ? 'up' : 'gateUp')
  const channels = readersOf(context, input)[0]?.cols ?? 0
  return { linear, firstRow: linear.rows - channels }
}

export function readersOf(context: LayerContext, input: LayerInput): readonly LayerLinear[] {
  return context.linears.filter((linear) => linear.input === input)
}
