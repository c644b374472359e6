/**
 * LLM Compressor's modifiers that change or prune weights before something stores them, to and from the steps of a recipe (survey §2.1).
 * Options that cannot change the result (where Hessians lie, which device) are accepted and dropped; options that would are refused unless
 * they have the value that Lathe computes with. Recovery and AWQ's clipping have no counterpart there and carry Lathe's own names.
 */
import type {
  AwqStep,
  MaskStructure,
  PruningStep,
  RecipeStep,
  RecoveryStep,
  RotationStep,
  SmoothQuantStep,
  SmoothingMapping,
  StoringStep,
} from './recipe.ts'
import { choice, invalid, names, numberIn, object, only, optionalNames, refuseUnknownKeys, show } from './yaml-values.ts'
import type { Json } from './yaml-values.ts'

export type TransformStep = Exclude<RecipeStep, StoringStep>

/** LLM Compressor's defaults. */
export const GPTQ_DEFAULTS = { blockSize: 128, dampening: 0.01 } as const
const AWQ_GRID = 20
export const AWQ_DEFAULTS: AwqStep = { kind: 'awq', mappings: null, duoScaling: true, nGrid: AWQ_GRID, clip: null }
const SMOOTHING_STRENGTH = 0.5
const OWL_DEFAULTS = { m: 5, lambda: 0.05 } as const
/** AutoAWQ's clipping search. */
const CLIP_DEFAULTS = { nGrid: 20, maxShrink: 0.5 } as const
/** What keeps weights near their pruned values where calibration says nothing; see algorithms/recovery.ts. */
export const RECOVERY_DAMPENING = 0.001

const MOST_BLOCK_COLUMNS = 1 << 16

/** Every modifier that `readTransform` reads, with its keys. */
const KEYS = {
  AWQModifier: ['mappings', 'duo_scaling', 'n_grid', 'offload_device', 'sequential_targets', 'clip'],
  SmoothQuantModifier: ['smoothing_strength', 'mappings', 'ignore', 'algorithm', 'num_calibration_steps', 'calibration_function'],
  SparseGPTModifier: [
    'sparsity',
    'mask_structure',
    'sparsity_profile',
    'owl_m',
    'owl_lmbda',
    'targets',
    'ignore',
    'sequential_targets',
    'sequential_update',
    'block_size',
    'dampening_frac',
    'preserve_sparsity_mask',
    'offload_hessians',
  ],
  WandaPruningModifier: [
    'sparsity',
    'mask_structure',
    'sparsity_profile',
    'owl_m',
    'owl_lmbda',
    'targets',
    'ignore',
    'sequential_targets',
    'sequential_update',
  ],
  MagnitudePruningModifier: [
    'init_sparsity',
    'final_sparsity',
    'mask_structure',
    'targets',
    'ignore',
    'apply_globally',
    'leave_enabled',
    'update_scheduler',
    'scheduler_args',
    'start',
    'end',
    'update_frequency',
  ],
  SpinQuantModifier: [
    'rotations',
    'transform_type',
    'randomize',
    'learnable',
    'precision',
    'transform_block_size',
    'mappings',
    'norm_mappings',
    'transform_config',
  ],
  RecoveryModifier: ['dampening_frac'],
} as const satisfies Readonly<Record<string, readonly string[]>>

type TransformName = keyof typeof KEYS

export const TRANSFORM_MODIFIERS: readonly string[] = Object.keys(KEYS)

function isTransformName(name: string): name is TransformName {
  return Object.hasOwn(KEYS, name)
}

/** Null for a modifier that is not among `TRANSFORM_MODIFIERS`. Throws `compress.invalid-recipe`. */
export function readTransform(name: string, json: Json, where: string): TransformStep | null {
  if (!isTransformName(name)) return null
  refuseUnknownKeys(json, KEYS[name], where)
  switch (name) {
    case 'AWQModifier':
      return readAwq(json, where)
    case 'SmoothQuantModifier':
      return readSmoothQuant(json, where)
    case 'SparseGPTModifier':
      return readPruning('sparsegpt', json, where)
    case 'WandaPruningModifier':
      return readPruning('wanda', json, where)
    case 'MagnitudePruningModifier':
      return readMagnitude(json, where)
    case 'SpinQuantModifier':
      return readRotation(json, where)
    case 'RecoveryModifier':
      return { kind: 'recovery', dampening: numberIn(json, 'dampening_frac', where, { least: 0, most: 1, absent: RECOVERY_DAMPENING }) }
  }
}

/** Modifier name and its options, every one written out. */
export function transformToYaml(step: TransformStep): readonly [string, Record<string, unknown>] {
  switch (step.kind) {
    case 'awq':
      return ['AWQModifier', awqToYaml(step)]
    case 'smoothquant':
      return ['SmoothQuantModifier', smoothQuantToYaml(step)]
    case 'pruning':
      return pruningToYaml(step)
    case 'rotation':
      return ['SpinQuantModifier', rotationToYaml(step)]
    case 'recovery':
      return ['RecoveryModifier', recoveryToYaml(step)]
  }
}

function readAwq(json: Json, where: string): AwqStep {
  only(json, 'sequential_targets', [null], where)
  return {
    kind: 'awq',
    mappings: readMappings(json, where),
    duoScaling: choice<boolean | 'both'>(json, 'duo_scaling', where, [true, false, 'both'], true),
    nGrid: numberIn(json, 'n_grid', where, { least: 2, most: 1000, absent: AWQ_GRID, whole: true }),
    clip: readClip(json, where),
  }
}

function readClip(json: Json, where: string): AwqStep['clip'] {
  const value = json['clip'] ?? null
  if (value === null || value === false) return null
  const place = `${where}.clip`
  const clip = value === true ? {} : object(value, place)
  refuseUnknownKeys(clip, ['n_grid', 'max_shrink'], place)
  return {
    nGrid: numberIn(clip, 'n_grid', place, { least: 1, most: 1000, absent: CLIP_DEFAULTS.nGrid, whole: true }),
    maxShrink: numberIn(clip, 'max_shrink', place, { least: 0, most: 0.99, absent: CLIP_DEFAULTS.maxShrink }),
  }
}

function awqToYaml(step: AwqStep): Record<string, unknown> {
  return {
    // LLM Compressor knows AWQ's mappings as objects, SmoothQuant's as pairs.
    mappings: step.mappings?.map(({ smooth, balance }) => ({ smooth_layer: smooth, balance_layers: [...balance] })) ?? null,
    duo_scaling: step.duoScaling,
    n_grid: step.nGrid,
    ...(step.clip === null ? {} : { clip: { n_grid: step.clip.nGrid, max_shrink: step.clip.maxShrink } }),
  }
}

function readSmoothQuant(json: Json, where: string): SmoothQuantStep {
  only(json, 'num_calibration_steps', [null], where)
  only(json, 'calibration_function', [null], where)
  if (optionalNames(json, 'ignore', where).length > 0) throw invalid(`${where}.ignore`, 'cannot be run; leave the mapping out instead')
  return {
    kind: 'smoothquant',
    smoothingStrength: numberIn(json, 'smoothing_strength', where, { least: 0, most: 1, absent: SMOOTHING_STRENGTH }),
    algorithm: choice(json, 'algorithm', where, ['smoothquant', 'log_equalization'], 'smoothquant'),
    mappings: readMappings(json, where),
  }
}

function smoothQuantToYaml(step: SmoothQuantStep): Record<string, unknown> {
  return {
    smoothing_strength: step.smoothingStrength,
    algorithm: step.algorithm,
    mappings: step.mappings?.map(({ smooth, balance }) => [[...balance], smooth]) ?? null,
  }
}

/** `[[balance …], smooth]` or `{smooth_layer, balance_layers}`; null = by architecture. */
function readMappings(json: Json, where: string): readonly SmoothingMapping[] | null {
  const value = json['mappings'] ?? null
  if (value === null) return null
  const place = `${where}.mappings`
  if (!Array.isArray(value) || value.length === 0) throw invalid(place, `is ${show(value)}; a list of mappings is needed`)
  return value.map((entry: unknown, i) => readMapping(entry, `${place}[${i}]`))
}

function readMapping(entry: unknown, where: string): SmoothingMapping {
  if (Array.isArray(entry)) {
    if (entry.length !== 2) throw invalid(where, `has ${entry.length} parts; the balanced layers and the smoothed one are needed`)
    return { smooth: oneName(entry[1], where), balance: names(entry[0], where) }
  }
  const json = object(entry, where)
  refuseUnknownKeys(json, ['smooth_layer', 'balance_layers', 'activation_hook_target'], where)
  only(json, 'activation_hook_target', [null], where)
  return {
    smooth: oneName(json['smooth_layer'], `${where}.smooth_layer`),
    balance: names(json['balance_layers'], `${where}.balance_layers`),
  }
}

function oneName(value: unknown, where: string): string {
  const [name, ...more] = names(value, where)
  if (name === undefined || more.length > 0) throw invalid(where, `is ${show(value)}; one name is needed`)
  return name
}

function readPruning(method: 'sparsegpt' | 'wanda', json: Json, where: string): PruningStep {
  only(json, 'sequential_targets', [null], where)
  only(json, 'sequential_update', [null, true], where)
  only(json, 'preserve_sparsity_mask', [null, false], where)
  const profile = json['sparsity_profile'] ?? null
  if (profile !== null && profile !== 'owl') throw invalid(`${where}.sparsity_profile`, `is ${show(profile)}; null or "owl" is possible`)
  const m = numberIn(json, 'owl_m', where, { least: 1, most: 1000, absent: OWL_DEFAULTS.m })
  const lambda = numberIn(json, 'owl_lmbda', where, { least: 0, most: 1, absent: OWL_DEFAULTS.lambda })
  return {
    kind: 'pruning',
    method,
    ...readSparsity(json, 'sparsity', where),
    owl: profile === null ? null : { m, lambda },
    ...readTargets(json, where),
    blockSize: numberIn(json, 'block_size', where, { least: 1, most: MOST_BLOCK_COLUMNS, absent: GPTQ_DEFAULTS.blockSize, whole: true }),
    dampening: numberIn(json, 'dampening_frac', where, { least: 0, most: 1, absent: GPTQ_DEFAULTS.dampening }),
  }
}

/** LLM Compressor prunes by magnitude while training; without it, only where the schedule ends counts. */
function readMagnitude(json: Json, where: string): PruningStep {
  only(json, 'apply_globally', [null, false], where)
  return {
    kind: 'pruning',
    method: 'magnitude',
    ...readSparsity(json, 'final_sparsity', where),
    owl: null,
    ...readTargets(json, where),
    ...GPTQ_DEFAULTS,
  }
}

function readTargets(json: Json, where: string): { readonly targets: readonly string[]; readonly ignore: readonly string[] } {
  const targets = optionalNames(json, 'targets', where)
  // LLM Compressor's magnitude pruning says "all prunable layers" by this name.
  const all = targets.length === 0 || (targets.length === 1 && targets[0] === '__ALL_PRUNABLE__')
  return { targets: all ? ['Linear'] : targets, ignore: optionalNames(json, 'ignore', where) }
}

/** "2:4" and a sparsity say the same twice, and must agree. */
function readSparsity(json: Json, key: string, where: string): { readonly sparsity: number; readonly maskStructure: MaskStructure | null } {
  const structure = json['mask_structure'] ?? '0:0'
  const match = typeof structure === 'string' ? /^(\d{1,3}):(\d{1,3})$/.exec(structure) : null
  const [prune, of] = [Number(match?.[1]), Number(match?.[2])]
  const free = structure === 'unstructured' || structure === '0:0'
  if (!free && !(match !== null && prune >= 1 && prune < of)) {
    throw invalid(`${where}.mask_structure`, `is ${show(structure)}; "0:0" (any), "2:4", "4:8" and the like are possible`)
  }
  // Least and most keep 1 out: a layer of zeros computes nothing.
  const sparsity = numberIn(json, key, where, { least: 0, most: 0.999, absent: free ? null : prune / of })
  if (free) return { sparsity, maskStructure: null }
  if (Math.abs(sparsity - prune / of) > 1e-6) {
    throw invalid(`${where}.${key}`, `is ${sparsity}, but "${String(structure)}" prunes ${prune / of} of all weights`)
  }
  return { sparsity: prune / of, maskStructure: { prune, of } }
}

function pruningToYaml(step: PruningStep): readonly [string, Record<string, unknown>] {
  const { maskStructure, method, owl } = step
  const places = { targets: [...step.targets], ignore: [...step.ignore] }
  const structure = maskStructure === null ? null : `${maskStructure.prune}:${maskStructure.of}`
  if (method === 'magnitude') {
    const options = { init_sparsity: 0, final_sparsity: step.sparsity, mask_structure: structure ?? 'unstructured', ...places }
    return ['MagnitudePruningModifier', options]
  }
  const common = {
    sparsity: step.sparsity,
    mask_structure: structure ?? '0:0',
    ...(owl === null ? {} : { sparsity_profile: 'owl', owl_m: owl.m, owl_lmbda: owl.lambda }),
    ...places,
  }
  if (method === 'wanda') return ['WandaPruningModifier', common]
  return ['SparseGPTModifier', { ...common, block_size: step.blockSize, dampening_frac: step.dampening }]
}

function readRotation(json: Json, where: string): RotationStep {
  only(json, 'randomize', [null, false], where)
  only(json, 'learnable', [null, false], where)
  for (const key of ['transform_block_size', 'mappings', 'norm_mappings', 'transform_config']) only(json, key, [null], where)
  const wanted =
    json['rotations'] === undefined || json['rotations'] === null ? ['R1', 'R2'] : names(json['rotations'], `${where}.rotations`)
  const unknown = wanted.find((rotation) => !/^r[12]$/i.test(rotation))
  if (unknown !== undefined) {
    const online = /^r[34]$/i.test(unknown)
    throw invalid(
      `${where}.rotations`,
      online
        ? `holds ${show(unknown)}, which a server would have to compute for every token; R1 and R2 cost nothing`
        : `holds ${show(unknown)}; R1 and R2 are possible`,
    )
  }
  const has = (rotation: string): boolean => wanted.some((each) => each.toUpperCase() === rotation)
  return {
    kind: 'rotation',
    transform: choice(json, 'transform_type', where, ['hadamard', 'random-hadamard'], 'hadamard'),
    r1: has('R1'),
    r2: has('R2'),
  }
}

function rotationToYaml(step: RotationStep): Record<string, unknown> {
  return { rotations: [...(step.r1 ? ['R1'] : []), ...(step.r2 ? ['R2'] : [])], transform_type: step.transform }
}

function recoveryToYaml(step: RecoveryStep): Record<string, unknown> {
  return { dampening_frac: step.dampening }
}
