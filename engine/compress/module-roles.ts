/**
 * What a module's name says about whether its matrix may be quantized, and with which others it must agree. Names are those of
 * transformers; rules from specs/compressed-tensors.md §2.4 (fused layers), §2.5 (what must be ignored). Knows no schemes and no shapes.
 */
import { classOf } from '../checkpoint/modules.ts'

const HEAD = /(?:^|\.)(?:lm_head|embed_out|output_head|score|classifier)$/
const ROUTER = /(?:^|\.)(?:gate|router|shared_expert_gate)$/
const OTHER_TOWER =
  /(?:^|\.)(?:visual|vision_tower|vision_model|vision_embed_tokens|audio_tower|multi_modal_projector|mm_projector)(?:\.|$)/
const MULTI_TOKEN = /(?:^|\.)mtp(?:\.|$)/
/** GPT-2's Conv1D layers, which store [in, out]. Only these four have a Conv1D class in transformers. */
const CONV1D = /\.(?:attn\.c_attn|attn\.q_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj|crossattention\.c_(?:attn|proj))$/
const IN_NUMBERED_LAYER = /\.\d+\./

/** Why a matrix stays as it is whatever the scheme, or null when it is an ordinary linear layer of the decoder. */
export function keptByDesign(module: string): string | null {
  if (classOf(module) === 'Embedding') return 'embedding tables stay as they are: a token reads only one row'
  if (HEAD.test(module)) return 'the output head stays as it is: its error goes straight into every token'
  if (ROUTER.test(module)) return 'routers stay as they are: they are small, and an error there picks other experts'
  if (OTHER_TOWER.test(module)) return 'only the language model is compressed'
  if (MULTI_TOKEN.test(module)) return 'multi-token prediction layers are copied as they are'
  if (/norm$/i.test(module)) return 'normalization weights stay as they are'
  if (!IN_NUMBERED_LAYER.test(module)) return 'it lies outside the decoder layers'
  return null
}

/** True for weights that transformers keeps transposed; quantizing their rows would group the wrong numbers. */
export function isTransposed(module: string): boolean {
  return CONV1D.test(module)
}

const FUSED_SETS: readonly (readonly string[])[] = [
  ['q_proj', 'k_proj', 'v_proj'],
  ['gate_proj', 'up_proj'],
  ['w1', 'w3'],
  ['q_a_proj', 'kv_a_proj_with_mqa'],
  ['in_proj_qkv', 'in_proj_z'],
  ['in_proj_b', 'in_proj_a'],
]

/**
 * Modules with the same key are one layer to a server and must share one scheme: q/k/v, gate/up, and all experts of a layer. Null for a
 * module that stands alone.
 */
export function fusedKey(module: string): string | null {
  const experts = /^(.*\.experts)\.\d+\./.exec(module)
  if (experts !== null) return experts[1] ?? null
  const dot = module.lastIndexOf('.')
  const last = module.slice(dot + 1)
  const set = FUSED_SETS.find((names) => names.includes(last))
  return set === undefined ? null : `${module.slice(0, dot)}.${set.join('+')}`
}

/** Linears whose columns tensor parallelism splits (the others split by rows). */
export function isRowParallel(module: string): boolean {
  return /\.(?:o_proj|down_proj|out_proj|w2|dense_4h_to_h)$/.test(module)
}

/** Layer number and the last part of the name ("q_proj"), for tables and the heatmap. */
export function placeOf(module: string): { readonly layer: number | null; readonly kind: string } {
  const layer = /\.(\d+)\./.exec(module)
  return { layer: layer?.[1] === undefined ? null : Number(layer[1]), kind: module.slice(module.lastIndexOf('.') + 1) }
}

/** Numbers inside names compare as numbers: layer 2 before layer 10. */
export function compareNames(a: string, b: string): number {
  const left = a.split(/(\d+)/)
  const right = b.split(/(\d+)/)
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const x = left[i] ?? ''
    const y = right[i] ?? ''
    if (x === y) continue
    const numeric = i % 2 === 1 ? Number(x) - Number(y) : 0
    return numeric !== 0 ? numeric : x < y ? -1 : 1
  }
  return left.length - right.length
}
