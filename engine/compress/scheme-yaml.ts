/**
 * A group's scheme in a recipe: the same arguments as in config.json (specs/compressed-tensors.md §2.3), spelled out. Reading refuses what
 * no scheme of ours means, naming the argument.
 */
import { ARGS_FIELDS } from '../checkpoint/quantization-config.ts'
import type { QuantizationArgs } from '../checkpoint/types.ts'
import { FP8_CACHE_ARGS } from '../model/key-value-scales.ts'
import { inputArgs, schemeFromArgs, weightArgs } from './scheme-args.ts'
import { schemeFormat } from './scheme.ts'
import type { Scheme } from './scheme.ts'
import { invalid, object, only, refuseUnknownKeys, show } from './yaml-values.ts'
import type { Json } from './yaml-values.ts'

/** Group sizes that vLLM's packed integer kernels know; anything else would load nowhere. */
const GROUP_SIZES = [16, 32, 64, 128, 256]
const STRATEGIES = ['tensor', 'channel', 'group', 'block', 'token', 'tensor_group'] as const

/** `weights` and `input_activations` of a group. */
export function schemeToYaml(scheme: Scheme): {
  readonly weights: Record<string, unknown>
  readonly input_activations: Record<string, unknown> | null
} {
  const inputs = inputArgs(scheme)
  return { weights: argsToYaml(weightArgs(scheme)), input_activations: inputs === null ? null : argsToYaml(inputs) }
}

function argsToYaml(args: QuantizationArgs): Record<string, unknown> {
  return {
    num_bits: args.numBits,
    type: args.type,
    symmetric: args.symmetric,
    group_size: args.groupSize,
    strategy: args.strategy,
    dynamic: args.dynamic,
    ...(args.blockStructure === null ? {} : { block_structure: [...args.blockStructure] }),
    ...(args.scaleDtype === null ? {} : { scale_dtype: args.scaleDtype }),
  }
}

/** The scheme of a group of config_groups. Throws `compress.invalid-recipe`. */
export function schemeOfGroup(group: Json, where: string): Scheme {
  only(group, 'output_activations', [null], where)
  const weights = readArgs(object(group['weights'] ?? null, `${where}.weights`), `${where}.weights`)
  const inputs = group['input_activations'] ?? null
  const scheme = schemeFromArgs(
    weights,
    inputs === null ? null : readArgs(object(inputs, `${where}.input_activations`), `${where}.input_activations`),
  )
  if ('reason' in scheme) throw invalid(`${where}.${scheme.side}.${scheme.field}`, scheme.reason)
  if (scheme.kind === 'packed-int' && scheme.groupSize !== null && !GROUP_SIZES.includes(scheme.groupSize)) {
    throw invalid(`${where}.weights.group_size`, `is ${show(scheme.groupSize)}; 16, 32, 64, 128 or 256 are possible`)
  }
  only(group, 'format', [null, schemeFormat(scheme)], where)
  return scheme
}

/** What vLLM reads for a cache (specs/compressed-tensors.md §7), as recipes spell it. */
export const KEY_VALUE_YAML: Readonly<Record<string, unknown>> = argsToYaml(FP8_CACHE_ARGS)

/** Whether a modifier asks for the scales of an FP8 cache. Throws `compress.invalid-recipe` for any other cache. */
export function readsKeyValues(modifier: Json, where: string): boolean {
  const value = modifier['kv_cache_scheme'] ?? null
  if (value === null) return false
  const at = `${where}.kv_cache_scheme`
  const args = readArgs(object(value, at), at)
  if (JSON.stringify(argsToYaml(args)) === JSON.stringify(KEY_VALUE_YAML)) return true
  throw invalid(at, 'describes a cache that no server reads; 8-bit symmetric floats with a static scale per tensor are possible')
}

function readArgs(json: Json, where: string): QuantizationArgs {
  refuseUnknownKeys(json, ARGS_FIELDS, where)
  only(json, 'type', ['int', 'float'], where)
  only(json, 'dynamic', [false, true, 'local'], where)
  // The order of GPTQ, repeated; scales of consecutive columns need no index for it. "group" would.
  only(json, 'actorder', [null, false, 'static', 'weight'], where)
  only(json, 'scale_dtype', [null, 'torch.float8_e4m3fn', 'torch.uint8'], where)
  only(json, 'zp_dtype', [null, 'torch.int8'], where)
  const numBits = json['num_bits'] ?? 8
  if (typeof numBits !== 'number' || !Number.isInteger(numBits))
    throw invalid(`${where}.num_bits`, `is ${show(numBits)}; a whole number is needed`)
  const symmetric = json['symmetric'] ?? true
  if (typeof symmetric !== 'boolean') throw invalid(`${where}.symmetric`, `is ${show(symmetric)}; true or false is needed`)
  const size = json['group_size'] ?? null
  if (size !== null && (typeof size !== 'number' || !Number.isInteger(size) || size < -1 || size === 0)) {
    throw invalid(`${where}.group_size`, `is ${show(size)}; a whole number is needed`)
  }
  const named = json['strategy'] ?? (size === null ? 'tensor' : size === -1 ? 'channel' : 'group')
  const strategy = STRATEGIES.find((each) => each === named)
  if (strategy === undefined) throw invalid(`${where}.strategy`, `is ${show(named)}; one of ${STRATEGIES.join(', ')} is needed`)
  const grouped = strategy === 'group' || strategy === 'tensor_group'
  if (!grouped && size !== null && size !== -1) throw invalid(`${where}.group_size`, `is ${show(size)}, but the strategy is "${strategy}"`)
  if (grouped && (size === null || size === -1)) throw invalid(`${where}.group_size`, `is ${show(size)}, but the strategy is "${strategy}"`)
  const type = json['type'] === 'float' ? 'float' : 'int'
  const dynamic = json['dynamic'] === true ? true : json['dynamic'] === 'local' ? 'local' : false
  const scaleDtype = typeof json['scale_dtype'] === 'string' ? json['scale_dtype'] : null
  return {
    numBits,
    type,
    symmetric,
    strategy,
    groupSize: grouped ? size : null,
    blockStructure: readBlock(json['block_structure'] ?? null, where),
    dynamic,
    actorder: null,
    scaleDtype,
  }
}

function readBlock(value: unknown, where: string): readonly [number, number] | null {
  if (value === null) return null
  const [rows, cols]: unknown[] = Array.isArray(value) ? (value as unknown[]) : []
  if (typeof rows === 'number' && typeof cols === 'number') return [rows, cols]
  throw invalid(`${where}.block_structure`, `is ${show(value)}; two sizes are needed`)
}
