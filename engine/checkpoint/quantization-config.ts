/**
 * The `quantization_config` of compressed-tensors: parse, validate, resolve which scheme a module has, and write
 * (specs/compressed-tensors.md §2). Rules of §2.3 are enforced as the library's own validator does; keys inside groups and args that it would
 * reject are rejected here. Knows nothing of tensors.
 */
import { LatheError } from '../contract/errors.ts'
import { foreignQuantization, isForeignMethod } from './foreign-packing.ts'
import { isJsonObject } from './strict-json.ts'
import { withTimeLimit } from './time-limit.ts'
import type { QuantizationArgs, QuantizationConfig, QuantizationGroup } from './types.ts'

type Json = Readonly<Record<string, unknown>>

/** The layout that we write is that of this library version: dense packing since 0.17 (§5.2), no sparse formats. */
const WRITTEN_VERSION = '0.18.0'
/** A group per layer and projection is the most that anything writes. */
const MAX_GROUPS = 100_000
/** Real patterns are under 100 characters; the cap and the time limit below bound what a hostile one can cost. */
const MAX_PATTERN_LENGTH = 1024
const MATCH_LIMIT_MS = 1000

const STRATEGIES = ['tensor', 'channel', 'group', 'block', 'token', 'tensor_group', 'attn_head'] as const
/** §3. `dense` marks modules without a weights scheme. */
export const FORMATS = [
  'dense',
  'pack-quantized',
  'int-quantized',
  'float-quantized',
  'naive-quantized',
  'nvfp4-pack-quantized',
  'mxfp4-pack-quantized',
  'mxfp8-quantized',
] as const
export type StorageFormat = (typeof FORMATS)[number]

/** compressed-tensors' own defaults of QuantizationArgs (§2.3): what an entry with nothing set means. */
export const UNSET_ARGS: QuantizationArgs = {
  numBits: 8,
  type: 'int',
  symmetric: true,
  strategy: 'tensor',
  groupSize: null,
  blockStructure: null,
  dynamic: false,
  actorder: null,
  scaleDtype: null,
}

/**
 * The quantization of a config.json, or null where there is none; GPTQ and AWQ in the terms of compressed-tensors (foreign-packing.ts).
 * Throws `checkpoint.unsupported-scheme` for other methods (bitsandbytes, DeepSeek's FP8) and removed formats, `checkpoint.invalid-config` for what the format forbids.
 */
export function quantizationOf(config: Json): QuantizationConfig | null {
  // Older compressed-tensors files call the same object `compression_config`.
  const raw = config['quantization_config'] ?? config['compression_config'] ?? null
  return raw === null ? null : parseQuantizationConfig(raw)
}

export function parseQuantizationConfig(raw: unknown): QuantizationConfig {
  if (!isJsonObject(raw)) throw invalid('quantization_config', 'is not an object')
  const method = raw['quant_method']
  if (isForeignMethod(method)) return foreignQuantization(raw)
  if (method !== 'compressed-tensors') {
    const name = typeof method === 'string' ? method.slice(0, 40) : 'unknown'
    throw new LatheError(
      'checkpoint.unsupported-scheme',
      `The model is already quantized with "${name}".`,
      'Lathe reads original models, compressed-tensors, GPTQ and AWQ ones. Start from the original (BF16, F16 or F32) model.',
    )
  }
  const sparsity = raw['sparsity_config']
  if (isJsonObject(sparsity) && typeof sparsity['format'] === 'string' && sparsity['format'] !== 'dense') {
    throw unsupported(`the sparse format "${sparsity['format'].slice(0, 40)}"`)
  }
  if (isJsonObject(raw['transform_config']) && Object.keys(raw['transform_config']).length > 0) {
    const groups = raw['transform_config']['config_groups']
    if (!isJsonObject(groups) || Object.keys(groups).length > 0) throw unsupported('run-time rotations (transform_config)')
  }
  const format = raw['format'] ?? 'dense'
  if (typeof format !== 'string') throw invalid('format', 'is not a string')
  if (format !== 'mixed-precision') assertFormat(format)
  const groups = raw['config_groups']
  if (!isJsonObject(groups)) throw invalid('config_groups', 'is missing')
  const entries = Object.entries(groups)
  if (entries.length > MAX_GROUPS) throw invalid('config_groups', `has ${entries.length} groups; at most ${MAX_GROUPS} are accepted`)
  return {
    format,
    groups: entries.map(([name, group]) => parseGroup(name, group, format)),
    ignore: patternList(raw['ignore'] ?? [], 'ignore'),
    keyValueScheme:
      raw['kv_cache_scheme'] === undefined || raw['kv_cache_scheme'] === null ? null : parseArgs(raw['kv_cache_scheme'], 'kv_cache_scheme'),
  }
}

const GROUP_KEYS = new Set(['targets', 'weights', 'input_activations', 'output_activations', 'format'])

function parseGroup(name: string, raw: unknown, topFormat: string): QuantizationGroup {
  const where = `config_groups.${name.slice(0, 80)}`
  if (Array.isArray(raw)) {
    // Legal for the library when the key is a preset's name; nothing that serves the model reads it, and nothing writes it.
    throw new LatheError(
      'checkpoint.unsupported-scheme',
      `${where} is written in the short form, which Lathe does not read.`,
      'Save the model again with a current LLM Compressor, which writes the group out in full.',
    )
  }
  if (!isJsonObject(raw)) throw invalid(where, 'is not an object')
  refuseUnknownKeys(raw, GROUP_KEYS, where)
  const format = raw['format'] ?? topFormat
  if (typeof format !== 'string') throw invalid(`${where}.format`, 'is not a string')
  if (format === 'mixed-precision') throw invalid(`${where}.format`, 'says "mixed-precision", which is only legal at the top level')
  assertFormat(format)
  const args = (key: string): QuantizationArgs | null => {
    const value = raw[key] ?? null
    return value === null ? null : parseArgs(value, `${where}.${key}`)
  }
  const inputActivations = args('input_activations')
  if (inputActivations !== null && inputActivations.actorder !== null) {
    throw invalid(`${where}.input_activations`, 'has an activation order')
  }
  return {
    name,
    targets: patternList(raw['targets'], `${where}.targets`),
    weights: args('weights'),
    inputActivations,
    outputActivations: args('output_activations'),
    format,
  }
}

/** Every field of QuantizationArgs (specs/compressed-tensors.md §2.3); recipes spell their weights with the same ones. */
export const ARGS_FIELDS: readonly string[] = [
  'num_bits',
  'type',
  'symmetric',
  'group_size',
  'strategy',
  'block_structure',
  'dynamic',
  'actorder',
  'scale_dtype',
  'zp_dtype',
  'observer',
  'observer_kwargs',
]

const ARGS_KEYS = new Set(ARGS_FIELDS)

function parseArgs(raw: unknown, where: string): QuantizationArgs {
  if (!isJsonObject(raw)) throw invalid(where, 'is not an object')
  refuseUnknownKeys(raw, ARGS_KEYS, where)
  const type = raw['type'] ?? 'int'
  if (type !== 'int' && type !== 'float') throw invalid(`${where}.type`, 'is neither "int" nor "float"')
  const numBits = raw['num_bits'] ?? 8
  if (typeof numBits !== 'number' || !Number.isInteger(numBits) || numBits < 1 || numBits > 8) {
    throw invalid(`${where}.num_bits`, `is ${show(numBits)}; 1 to 8 are possible`)
  }
  if (type === 'float' && numBits !== 4 && numBits !== 8) throw invalid(`${where}.num_bits`, `is ${numBits}; floats have 4 or 8`)
  const symmetric = raw['symmetric'] ?? true
  if (typeof symmetric !== 'boolean') throw invalid(`${where}.symmetric`, 'is neither true nor false')
  const dynamic = raw['dynamic'] ?? false
  if (typeof dynamic !== 'boolean' && dynamic !== 'local') throw invalid(`${where}.dynamic`, `is ${show(dynamic)}`)
  const groupSize = raw['group_size'] ?? null
  if (groupSize !== null && (typeof groupSize !== 'number' || !Number.isInteger(groupSize) || (groupSize <= 0 && groupSize !== -1))) {
    throw invalid(`${where}.group_size`, `is ${show(groupSize)}`)
  }
  const strategy = raw['strategy'] ?? (groupSize === null ? 'tensor' : groupSize === -1 ? 'channel' : 'group')
  const known = STRATEGIES.find((name) => name === strategy)
  if (known === undefined) throw invalid(`${where}.strategy`, `is ${show(strategy)}`)
  const grouped = known === 'group' || known === 'tensor_group'
  if (grouped && (groupSize === null || groupSize <= 0))
    throw invalid(`${where}.group_size`, `is ${show(groupSize)}, but the strategy is "${known}"`)
  if (!grouped && groupSize !== null && groupSize > 0)
    throw invalid(`${where}.group_size`, `is ${groupSize}, but the strategy is "${known}"`)
  const blockStructure = parseBlock(raw['block_structure'] ?? null, where)
  if ((known === 'block') !== (blockStructure !== null)) {
    throw invalid(`${where}.block_structure`, known === 'block' ? 'is missing' : `is set, but the strategy is "${known}"`)
  }
  if (dynamic !== false && !['token', 'tensor', 'tensor_group', 'group'].includes(known)) {
    throw invalid(`${where}.dynamic`, `is set, but the strategy is "${known}"`)
  }
  if (dynamic === 'local' && known !== 'tensor_group') throw invalid(`${where}.dynamic`, `is "local", but the strategy is "${known}"`)
  if (known === 'token' && dynamic === false) throw invalid(`${where}.dynamic`, 'is false, but per-token scales are always dynamic')
  const actorder = parseActorder(raw['actorder'] ?? null, where)
  if (actorder === 'group' && !grouped) throw invalid(`${where}.actorder`, `is "group", but the strategy is "${known}"`)
  const scaleDtype = raw['scale_dtype'] ?? null
  if (scaleDtype !== null && typeof scaleDtype !== 'string') throw invalid(`${where}.scale_dtype`, 'is not a string')
  const observer = raw['observer'] ?? null
  return {
    numBits,
    type,
    symmetric,
    strategy: known,
    groupSize: groupSize === -1 ? null : groupSize,
    blockStructure,
    dynamic,
    actorder,
    scaleDtype,
    observer: typeof observer === 'string' ? observer : null,
  }
}

function parseBlock(value: unknown, where: string): readonly [number, number] | null {
  if (value === null) return null
  // Legacy spelling "128x128".
  const pair: unknown[] = typeof value === 'string' ? value.split('x').map(Number) : Array.isArray(value) ? value : []
  const [rows, cols] = pair
  if (pair.length === 2 && isSize(rows) && isSize(cols)) return [rows, cols]
  throw invalid(`${where}.block_structure`, `is ${show(value)}; two sizes are needed`)
}

function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value > 0 && value <= 1 << 20
}

function parseActorder(value: unknown, where: string): 'group' | 'weight' | null {
  switch (value) {
    case null:
    case false:
      return null
    case 'group':
    case 'dynamic':
    case true:
      return 'group'
    case 'weight':
    case 'static':
      return 'weight'
    default:
      throw invalid(`${where}.actorder`, `is ${show(value)}`)
  }
}

function patternList(value: unknown, where: string): readonly string[] {
  if (!Array.isArray(value)) throw invalid(where, 'is not a list')
  if (value.length > MAX_GROUPS) throw invalid(where, `has ${value.length} entries; at most ${MAX_GROUPS} are accepted`)
  return (value as unknown[]).map((entry) => {
    if (typeof entry !== 'string' || entry === '') throw invalid(where, 'has an entry that is not a name')
    if (entry.length > MAX_PATTERN_LENGTH)
      throw invalid(where, `has an entry of ${entry.length} characters; at most ${MAX_PATTERN_LENGTH} are accepted`)
    if (entry.startsWith('re:')) patternOf(entry)
    return entry
  })
}

const patterns = new Map<string, RegExp>()
/** Compiled patterns are kept across checkpoints; past this many the cache starts over. */
const MAX_CACHED_PATTERNS = 10_000

/** Python's `re.match` of "re:<pattern>": anchored at the start only (§2.4). */
function patternOf(entry: string): RegExp {
  const cached = patterns.get(entry)
  if (cached !== undefined) return cached
  const source = entry
    .slice(3)
    .replaceAll('(?P<', '(?<')
    .replaceAll(/\(\?P=(\w+)\)/g, '\\k<$1>')
    .replaceAll('\\A', '^')
    .replaceAll(/\\Z/g, '$')
  let pattern: RegExp
  try {
    pattern = new RegExp(`^(?:${source})`)
  } catch (cause) {
    const error = invalid('quantization_config', `has the pattern ${JSON.stringify(entry.slice(0, 80))}, which is not a regular expression`)
    throw new LatheError(error.code, error.message, error.hint, { cause })
  }
  if (patterns.size >= MAX_CACHED_PATTERNS) patterns.clear()
  patterns.set(entry, pattern)
  return pattern
}

function matchesName(entry: string, moduleName: string): boolean {
  return entry.startsWith('re:') ? patternOf(entry).test(moduleName) : entry === moduleName
}

/**
 * The group that a module belongs to, or null where it stays dense. `className` is the torch class ("Linear", "Embedding"). Order of §2.4:
 * ignore, then exact names over all groups, then patterns, then the class as a case-insensitive substring. Throws
 * `checkpoint.invalid-config` if the file's patterns take too long to match.
 */
export function schemeFor(config: QuantizationConfig, moduleName: string, className: string): QuantizationGroup | null {
  return schemesFor(config, [{ name: moduleName, className }])[0] ?? null
}

/** `schemeFor` of many modules under one time limit. */
export function schemesFor(
  config: QuantizationConfig,
  modules: readonly { readonly name: string; readonly className: string }[],
): readonly (QuantizationGroup | null)[] {
  const resolve = (): (QuantizationGroup | null)[] => modules.map((module) => resolveScheme(config, module.name, module.className))
  const usesPatterns = [config.ignore, ...config.groups.map((group) => group.targets)].some((list) =>
    list.some((entry) => entry.startsWith('re:')),
  )
  if (!usesPatterns) return resolve()
  return withTimeLimit(MATCH_LIMIT_MS, resolve, () =>
    invalid('quantization_config', `has patterns that take over ${MATCH_LIMIT_MS} ms to match`),
  )
}

function resolveScheme(config: QuantizationConfig, moduleName: string, className: string): QuantizationGroup | null {
  if (config.ignore.some((entry) => matchesName(entry, moduleName))) return null
  const lowerClass = className.toLowerCase()
  const kinds: ((target: string) => boolean)[] = [
    (target) => target === moduleName,
    (target) => target.startsWith('re:') && patternOf(target).test(moduleName),
    (target) => !target.startsWith('re:') && target === className,
    (target) => !target.startsWith('re:') && lowerClass.includes(target.toLowerCase()),
  ]
  for (const matches of kinds) {
    const group = config.groups.find((candidate) => candidate.targets.some(matches))
    if (group !== undefined) return group
  }
  return null
}

/** Why a config written from these groups would be misread, or null. Two groups with one target: loaders keep only the later (§2.4). */
function conflictIn(config: QuantizationConfig): string | null {
  const seen = new Map<string, string>()
  for (const group of config.groups) {
    for (const target of group.targets) {
      const other = seen.get(target)
      if (other !== undefined) return `the groups ${other} and ${group.name} both target "${target}"`
      seen.set(target, group.name)
    }
  }
  return null
}

/**
 * The object to store under `quantization_config`, every field spelled out and keys sorted at every level, so that the same config gives
 * the same bytes. Throws `checkpoint.invalid-config` for groups that a loader would resolve differently.
 */
export function serializeQuantizationConfig(config: QuantizationConfig): Record<string, unknown> {
  const conflict = conflictIn(config)
  if (conflict !== null) throw invalid('quantization_config', `cannot be written: ${conflict}`)
  const groups = config.groups.map((group) => [
    group.name,
    {
      format: group.format,
      input_activations: optionalArgs(group.inputActivations),
      output_activations: optionalArgs(group.outputActivations),
      targets: [...group.targets],
      weights: group.weights === null ? null : serializeArgs(group.weights, 'memoryless_minmax'),
    },
  ])
  const written = {
    config_groups: Object.fromEntries(groups.sort(([a], [b]) => (String(a) < String(b) ? -1 : 1))) as unknown,
    format: config.format,
    global_compression_ratio: null,
    ignore: [...config.ignore],
    kv_cache_scheme: optionalArgs(config.keyValueScheme),
    quant_method: 'compressed-tensors',
    quantization_status: 'compressed',
    sparsity_config: {},
    transform_config: {},
    version: WRITTEN_VERSION,
  }
  // Reading back what was built refuses here, before any file exists, whatever a loader would refuse.
  parseQuantizationConfig(written)
  return written
}

function optionalArgs(args: QuantizationArgs | null | undefined): Record<string, unknown> | null {
  return args === null || args === undefined ? null : serializeArgs(args, 'static_minmax')
}

function serializeArgs(args: QuantizationArgs, observer: string): Record<string, unknown> {
  return {
    actorder: args.actorder,
    block_structure: args.blockStructure === null ? null : [...args.blockStructure],
    dynamic: args.dynamic,
    group_size: args.groupSize,
    num_bits: args.numBits,
    // Provenance only; a fully dynamic scheme observes nothing.
    observer: args.dynamic === true ? null : (args.observer ?? observer),
    observer_kwargs: {},
    scale_dtype: args.scaleDtype,
    strategy: args.strategy,
    symmetric: args.symmetric,
    type: args.type,
    zp_dtype: args.symmetric ? null : 'torch.int8',
  }
}

function assertFormat(format: string): void {
  if ((FORMATS as readonly string[]).includes(format)) return
  throw unsupported(`the storage format "${format.slice(0, 40)}"`)
}

function refuseUnknownKeys(object: Json, known: ReadonlySet<string>, where: string): void {
  const unknown = Object.keys(object).find((key) => !known.has(key))
  if (unknown !== undefined) throw invalid(where, `has the unknown key "${unknown.slice(0, 60)}"`)
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? 'undefined').slice(0, 60)
}

function unsupported(what: string): LatheError {
  return new LatheError(
    'checkpoint.unsupported-scheme',
    `The model uses ${what}, which Lathe does not read.`,
    'Start from the original (BF16, F16 or F32) model.',
  )
}

function invalid(where: string, why: string): LatheError {
  return new LatheError(
    'checkpoint.invalid-config',
    `config.json: ${where} ${why}.`,
    'Compare config.json with the original model; the file is damaged or was edited.',
  )
}
