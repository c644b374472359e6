/**
 * Whether Lathe can run what a config.json describes, and if not, what exactly is missing: an unsupported model can still be inspected, and
 * says why it can't run. Judges the config alone; damaged or missing tensors are found at load.
 */
import { foreignProblem, isForeignMethod } from '../checkpoint/foreign-packing.ts'
import type { Family } from './families/family.ts'
import { llama } from './families/llama.ts'
import { mistral } from './families/mistral.ts'
import { phi3 } from './families/phi3.ts'
import { qwen2 } from './families/qwen2.ts'
import { qwen3 } from './families/qwen3.ts'

/** config.json as parsed. */
export type Config = Readonly<Record<string, unknown>>

export const FAMILIES: readonly Family[] = [llama, mistral, phi3, qwen2, qwen3]

export type Support = { readonly supported: true } | { readonly supported: false; readonly missing: readonly string[] }

/** What well-known architectures need beyond what runs today, by `model_type`; generic findings from the config's own fields are added. */
const NEEDS: Readonly<Record<string, readonly string[]>> = {
  gemma: ['GeGLU activation', 'norm weights offset by one', 'embeddings scaled by √hidden'],
  gemma2: ['GeGLU activation', 'norm weights offset by one', 'embeddings scaled by √hidden', 'norms after attention and MLP'],
  gemma3: ['a vision encoder', 'GeGLU activation', 'norm weights offset by one', 'a RoPE base per layer type'],
  gemma3_text: ['GeGLU activation', 'norm weights offset by one', 'norms after attention and MLP', 'a RoPE base per layer type'],
  gpt2: ['learned positions', 'LayerNorm', 'GELU activation', 'transposed weights'],
  gpt_neox: ['LayerNorm', 'GELU activation', 'parallel attention and MLP'],
  gpt_oss: ['mixture-of-experts routing', 'attention sinks', 'MXFP4 expert weights'],
  granite: ['residual, embedding and logit multipliers'],
  mixtral: ['mixture-of-experts routing'],
  mamba: ['state-space layers'],
  olmo2: ['norms after attention and MLP', 'q/k norm over all heads at once'],
  phi: ['LayerNorm', 'GELU activation', 'parallel attention and MLP'],
  qwen2_moe: ['mixture-of-experts routing'],
  qwen3_moe: ['mixture-of-experts routing'],
  deepseek_v2: ['multi-head latent attention', 'mixture-of-experts routing'],
  deepseek_v3: ['multi-head latent attention', 'mixture-of-experts routing'],
}

/** Fields whose presence (with a value other than null, 0, 1 or false) changes the arithmetic in a way that no supported family knows. */
const FOREIGN_FIELDS: Readonly<Record<string, string>> = {
  attn_logit_softcapping: 'attention logit softcapping',
  final_logit_softcapping: 'final logit softcapping',
  num_local_experts: 'mixture-of-experts routing',
  num_experts: 'mixture-of-experts routing',
  n_routed_experts: 'mixture-of-experts routing',
  kv_lora_rank: 'multi-head latent attention',
  vision_config: 'a vision encoder',
  audio_config: 'an audio encoder',
  residual_multiplier: 'residual, embedding and logit multipliers',
  embedding_multiplier: 'residual, embedding and logit multipliers',
  logits_scaling: 'residual, embedding and logit multipliers',
}

export function familyOf(config: Config): Family | null {
  return FAMILIES.find((family) => family.modelType === config['model_type']) ?? null
}

/** Never throws: whatever a config holds, the answer is a list of what is missing. */
export function supportOf(config: Config): Support {
  const missing = new Set([...missingArchitecture(config), ...missingActivation(config), ...missingRope(config), ...missingWeights(config)])
  return missing.size === 0 ? { supported: true } : { supported: false, missing: Array.from(missing) }
}

function missingArchitecture(config: Config): readonly string[] {
  const family = familyOf(config)
  const type = config['model_type']
  const foreign = Object.entries(FOREIGN_FIELDS).flatMap(([key, need]) => (isActive(config, key) ? [need] : []))
  if (family === null) {
    const known = typeof type === 'string' && Object.hasOwn(NEEDS, type) ? (NEEDS[type] ?? []) : []
    const found = [...known, ...foreign]
    return found.length > 0 ? found : [`the architecture ${typeof type === 'string' ? `"${type}"` : '(config.json names none)'}`]
  }
  const classes = config['architectures']
  const named = Array.isArray(classes) && classes.length > 0
  const head = named && !classes.includes(family.className) ? [`the model class ${String(classes[0])}`] : []
  return [...head, ...foreign]
}

function isActive(config: Config, key: string): boolean {
  return has(config, key) && config[key] !== false && config[key] !== 0 && config[key] !== 1
}

function missingActivation(config: Config): readonly string[] {
  const activation = config['hidden_act']
  if (familyOf(config) === null || !has(config, 'hidden_act') || activation === 'silu' || activation === 'swish') return []
  return [`the activation ${JSON.stringify(activation)}`]
}

function missingRope(config: Config): readonly string[] {
  if (familyOf(config) === null) return []
  const parameters = ['rope_parameters', 'rope_scaling'].map((key) => config[key]).find(isObject) ?? {}
  // SmolLM's converters write this; true pairs neighbouring dimensions instead of halves.
  if (config['rope_interleaved'] === true) return ['interleaved RoPE']
  const type = parameters['rope_type'] ?? parameters['type'] ?? 'default'
  return type === 'default' || type === 'linear' || type === 'llama3' ? [] : [`RoPE scaling "${String(type)}"`]
}

/** Weight formats: dense, and what stored-part.ts reads of compressed-tensors. */
function missingWeights(config: Config): readonly string[] {
  const quantization = config['quantization_config']
  if (!isObject(quantization)) return []
  const method = quantization['quant_method']
  if (isForeignMethod(method)) {
    const problem = foreignProblem(quantization)
    return problem === null ? [] : [`${method} quantized weights: ${problem}`]
  }
  if (method !== 'compressed-tensors') return [`${typeof method === 'string' ? method : 'unnamed'} quantized weights`]
  const groups = quantization['config_groups']
  return isObject(groups) ? Object.values(groups).flatMap((group) => missingScheme(group, quantization['format'])) : []
}

function missingScheme(group: unknown, defaultFormat: unknown): readonly string[] {
  if (!isObject(group)) return ['a readable quantization group']
  const weights = isObject(group['weights']) ? group['weights'] : {}
  const inputs = isObject(group['input_activations']) ? group['input_activations'] : null
  const format = String(has(group, 'format') ? group['format'] : defaultFormat)
  const outputs = has(group, 'output_activations') ? ['quantized outputs of layers'] : []
  return [...missingFormat(weights, format), ...missingInputs(inputs), ...outputs]
}

const FORMATS = [
  'pack-quantized',
  'int-quantized',
  'float-quantized',
  'naive-quantized',
  'nvfp4-pack-quantized',
  'mxfp4-pack-quantized',
  'mxfp8-quantized',
]

function missingFormat(weights: Config, format: string): readonly string[] {
  const bits = Number(weights['num_bits'] ?? 8)
  const type = weights['type'] ?? 'int'
  if (format === 'dense') return []
  if (!FORMATS.includes(format)) return [`weights stored as ${format}`]
  if (type === 'int' && (bits < 2 || bits > 8)) return [`${bits}-bit integer weights`]
  if (type === 'float' && format === 'pack-quantized') return [`${bits}-bit float weights stored as ${format}`]
  if (format === 'int-quantized' && weights['symmetric'] === false) return ['plain integer weights with zero points']
  return []
}

function missingInputs(inputs: Config | null): readonly string[] {
  if (inputs === null) return []
  const bits = Number(inputs['num_bits'] ?? 8)
  if (inputs['symmetric'] === false) return ['asymmetric activations']
  if (bits !== 8 && (bits !== 4 || inputs['type'] !== 'float')) return [`${bits}-bit activations`]
  return []
}

/** Present and not null: many writers spell absence as null. */
function has(config: Config, key: string): boolean {
  return config[key] !== undefined && config[key] !== null
}

function isObject(value: unknown): value is Config {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
