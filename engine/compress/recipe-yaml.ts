/**
 * recipe.yaml in LLM Compressor's form (stages of modifiers, survey §3 for its preset schemes): writes every recipe that Lathe has, reads
 * the subset that Lathe runs. A key or value outside that subset is an error that names it and the nearest one known; nothing is ignored,
 * because a recipe that silently does something else is worse than none.
 */
import { parseDocument, stringify } from 'yaml'
import { LatheError } from '../contract/errors.ts'
import { GPTQ_DEFAULTS, TRANSFORM_MODIFIERS, readTransform, transformToYaml } from './modifiers-yaml.ts'
import { isStoringStep, observerName } from './recipe.ts'
import type { ActivationOrder, GptqStep, Observer, QuantizationGroupRecipe, QuantizationStep, Recipe, RecipeStep } from './recipe.ts'
import { RECIPE_DOCUMENT, foreignPythonType } from './python-tags.ts'
import { PRESET_SCHEMES } from './scheme.ts'
import { KEY_VALUE_YAML, readsKeyValues, schemeOfGroup, schemeToYaml } from './scheme-yaml.ts'
import { choice, invalid, names, numberIn, object, only, optionalNames, refuseUnknownKeys, show, unknownKey } from './yaml-values.ts'
import type { Json } from './yaml-values.ts'

/** The longest recipes in LLM Compressor's own repository have 4 KB. */
const MAX_RECIPE_BYTES = 1 << 20

/** LLM Compressor's modifiers that Lathe has no counterpart of, and why. Named so that a reader learns it is no misspelling. */
const OTHER_MODIFIERS: Readonly<Record<string, string>> = {
  AutoRoundModifier: 'it trains rounding by back-propagation; GPTQModifier is the nearest that Lathe runs',
  QuIPModifier: 'its rotations would have to be computed for every token; SpinQuantModifier with R1 and R2 costs nothing',
  REAPPruningModifier: 'mixture-of-experts models cannot be run yet',
  ConstantPruningModifier: 'zeros made by an earlier step of a recipe stay zeros anyway; leave it out',
}

/** LLM Compressor's defaults of its searching observers. */
const MSE_DEFAULTS = { maxshrink: 0.2, patience: 5, grid: 100, norm: 2.4 }
const IMATRIX_KWARGS = { maxshrink: 0.95, patience: 5, grid: 20, norm: 3 }

/** A stage cannot hold two modifiers of one name, so a second one begins a further stage. */
export function recipeToYaml(recipe: Recipe): string {
  const stages: Record<string, unknown>[] = [{}]
  for (const step of recipe.steps) {
    const [name, options] = modifierToYaml(step)
    const last = stages[stages.length - 1]
    if (last === undefined || Object.hasOwn(last, name)) stages.push({ [name]: options })
    else last[name] = options
  }
  const named = stages.map((modifiers, i) => [i === 0 ? 'default_stage' : `default${i + 1}_stage`, { default_modifiers: modifiers }])
  return stringify(Object.fromEntries(named), { lineWidth: 0, version: '1.1' })
}

function modifierToYaml(step: RecipeStep): readonly [string, unknown] {
  if (!isStoringStep(step)) return transformToYaml(step)
  const config_groups = Object.fromEntries(step.groups.map((group) => [group.name, groupToYaml(group)]))
  const keyValues = step.fp8KeyValues === true ? { kv_cache_scheme: KEY_VALUE_YAML } : {}
  const common = { config_groups, ignore: [...step.ignore], ...keyValues }
  if (step.kind === 'quantization') return ['QuantizationModifier', common]
  return ['GPTQModifier', { ...common, block_size: step.blockSize, dampening_frac: step.dampening, actorder: step.actorder }]
}

function groupToYaml(group: QuantizationGroupRecipe): Record<string, unknown> {
  const { scheme, observer } = group
  const kwargs =
    observer.kind !== 'minmax'
      ? {
          // Every candidate is tried: no patience runs out before the last.
          observer_kwargs: {
            maxshrink: observer.maxShrink,
            patience: Math.max(1, Math.round(observer.maxShrink * observer.grid)),
            grid: observer.grid,
            norm: observer.norm,
          },
        }
      : {}
  const { weights, input_activations } = schemeToYaml(scheme)
  return {
    targets: [...group.targets],
    weights: { ...weights, observer: observerName(observer), ...kwargs },
    input_activations,
    output_activations: null,
  }
}

/** Throws `compress.invalid-recipe`, naming the place. */
export function parseRecipeYaml(text: string): Recipe {
  if (text.length > MAX_RECIPE_BYTES) throw invalid('The recipe', `has ${text.length} characters; at most ${MAX_RECIPE_BYTES} are read`)
  const document = parseDocument(text, RECIPE_DOCUMENT)
  const foreign = foreignPythonType(document)
  if (foreign !== null) {
    throw new LatheError(
      'compress.invalid-recipe',
      `The recipe holds the Python type "${foreign}", which is not a value of a recipe.`,
      'Write the plain value instead: static, group, float. Lathe runs no Python.',
    )
  }
  const problem = document.errors[0] ?? document.warnings[0]
  if (problem !== undefined) throw invalid('The recipe', `is not plain YAML: ${problem.message.split('\n')[0] ?? ''}`)
  let root: unknown
  try {
    root = document.toJS({ maxAliasCount: 20 })
  } catch (cause) {
    throw invalid('The recipe', `cannot be expanded: ${cause instanceof Error ? cause.message : 'unreadable'}`)
  }
  const steps = modifiersIn(object(root, 'The recipe')).flatMap(({ name, value, where }) => readModifier(name, value, where))
  if (steps.length === 0) throw invalid('The recipe', 'has no modifiers')
  return { steps }
}

interface NamedModifier {
  readonly name: string
  readonly value: unknown
  readonly where: string
}

/** Stages may be left out: `QuantizationModifier: …` at the top level is a recipe too. */
function modifiersIn(root: Json): readonly NamedModifier[] {
  const found: NamedModifier[] = []
  for (const [key, value] of Object.entries(root)) {
    if (key.endsWith('Modifier')) {
      found.push({ name: key, value, where: key })
      continue
    }
    if (!key.endsWith('_stage')) throw unknownKey('The recipe', key, ['default_stage', 'quant_stage', ...KNOWN_MODIFIERS])
    for (const [inner, modifiers] of Object.entries(object(value, key))) {
      if (!inner.endsWith('_modifiers') && inner !== 'modifiers') throw unknownKey(key, inner, ['default_modifiers', 'quant_modifiers'])
      for (const [name, modifier] of Object.entries(object(modifiers, `${key}.${inner}`))) {
        found.push({ name, value: modifier, where: name })
      }
    }
  }
  return found
}

/** AWQModifier of older versions also quantized; it becomes two steps. */
function readModifier(name: string, value: unknown, where: string): readonly RecipeStep[] {
  const json = object(value, where)
  if (name === 'QuantizationModifier') {
    refuseUnknownKeys(json, QUANTIZATION_KEYS, where)
    return [readQuantization(json, where)]
  }
  if (name === 'GPTQModifier') return [readGptq(json, where)]
  if (name === 'AWQModifier' && ['scheme', 'config_groups'].some((key) => (json[key] ?? null) !== null)) {
    const own = Object.entries(json).filter(([key]) => !QUANTIZATION_KEYS.includes(key))
    const awq = readTransform(name, Object.fromEntries(own), where)
    return [...(awq === null ? [] : [awq]), readQuantization(json, where)]
  }
  const transform = readTransform(name, json, where)
  if (transform !== null) return [transform]
  const reason = Object.hasOwn(OTHER_MODIFIERS, name) ? OTHER_MODIFIERS[name] : undefined
  if (reason === undefined) throw unknownKey('The recipe', name, [...KNOWN_MODIFIERS, ...Object.keys(OTHER_MODIFIERS)])
  throw new LatheError('compress.invalid-recipe', `${name} cannot be run by Lathe: ${reason}.`, `Known are ${KNOWN_MODIFIERS.join(', ')}.`)
}

const KNOWN_MODIFIERS: readonly string[] = ['QuantizationModifier', 'GPTQModifier', ...TRANSFORM_MODIFIERS]

const QUANTIZATION_KEYS: readonly string[] = [
  'config_groups',
  'scheme',
  'targets',
  'ignore',
  'kv_cache_scheme',
  'bypass_divisibility_checks',
  'requires_calibration_data',
]

const GPTQ_KEYS: readonly string[] = [
  ...QUANTIZATION_KEYS,
  'block_size',
  'dampening_frac',
  'actorder',
  'offload_hessians',
  'sequential_targets',
  'sequential_update',
]

function readGptq(json: Json, where: string): GptqStep {
  refuseUnknownKeys(json, GPTQ_KEYS, where)
  only(json, 'sequential_targets', [null], where)
  only(json, 'sequential_update', [null, true], where)
  const { groups, ignore, ...keyValues } = readQuantization(json, where)
  return {
    ...keyValues,
    kind: 'gptq',
    groups,
    ignore,
    blockSize: numberIn(json, 'block_size', where, { least: 1, most: 1 << 16, absent: GPTQ_DEFAULTS.blockSize, whole: true }),
    dampening: numberIn(json, 'dampening_frac', where, { least: 0, most: 1, absent: GPTQ_DEFAULTS.dampening }),
    actorder: orderOf(json, where),
  }
}

/** LLM Compressor repeats the order in the weights of every group; both must say the same. */
function orderOf(json: Json, where: string): ActivationOrder {
  const order = readActivationOrder(json, where)
  const groups = json['config_groups'] ?? null
  for (const [name, group] of Object.entries(groups === null ? {} : object(groups, `${where}.config_groups`))) {
    const place = `${where}.config_groups.${name}.weights`
    const repeated = object(object(group, `${where}.config_groups.${name}`)['weights'] ?? {}, place)['actorder'] ?? null
    if (repeated === null || repeated === false || repeated === order || (repeated === 'weight' && order === 'static')) continue
    throw invalid(`${place}.actorder`, `is ${show(repeated)}, and ${where}.actorder is ${show(order)}`)
  }
  return order
}

function readActivationOrder(json: Json, where: string): ActivationOrder {
  const value = json['actorder']
  // Absent means LLM Compressor's default; null and false mean none.
  if (value === undefined) return 'static'
  if (value === null || value === false) return null
  if (value === 'static' || value === 'weight') return value
  if (value === 'group' || value === 'dynamic' || value === true) {
    throw invalid(
      `${where}.actorder`,
      `is ${show(value)}, which needs group indices that servers are slow with; "static" orders the same way without`,
    )
  }
  return choice<'static' | 'weight'>(json, 'actorder', where, ['static', 'weight'], 'static')
}

/** Groups and ignore list of any modifier that stores; its keys have been checked. */
function readQuantization(json: Json, where: string): QuantizationStep {
  const keyValues = readsKeyValues(json, where) ? { fp8KeyValues: true } : {}
  only(json, 'bypass_divisibility_checks', [false, null], where)
  // LLM Compressor writes what follows from the algorithm; Lathe finds that itself.
  only(json, 'requires_calibration_data', [false, true, null], where)
  const ignore = optionalNames(json, 'ignore', where)
  const groups = json['config_groups'] ?? null
  const scheme = json['scheme'] ?? null
  if ((groups === null) === (scheme === null)) throw invalid(where, 'needs either "scheme" or "config_groups"')
  if (groups !== null) {
    if (json['targets'] !== undefined && json['targets'] !== null && names(json['targets'], `${where}.targets`).join() !== 'Linear') {
      throw invalid(`${where}.targets`, 'has no place beside config_groups, whose groups have their own')
    }
    const read = Object.entries(object(groups, `${where}.config_groups`)).map(([name, group]) =>
      readGroup(name, group, `${where}.config_groups.${name}`),
    )
    return { kind: 'quantization', groups: read, ignore, ...keyValues }
  }
  if (typeof scheme === 'string') {
    const targets = json['targets'] === undefined || json['targets'] === null ? ['Linear'] : names(json['targets'], `${where}.targets`)
    return { kind: 'quantization', groups: [presetGroup('group_0', scheme, targets, `${where}.scheme`)], ignore, ...keyValues }
  }
  const byScheme = Object.entries(object(scheme, `${where}.scheme`))
  const read = byScheme.map(([name, targets], i) =>
    presetGroup(
      `group_${String(i).padStart(String(byScheme.length - 1).length, '0')}`,
      name,
      names(targets, `${where}.scheme.${name}`),
      where,
    ),
  )
  return { kind: 'quantization', groups: read, ignore, ...keyValues }
}

function presetGroup(name: string, preset: string, targets: readonly string[], where: string): QuantizationGroupRecipe {
  const scheme = PRESET_SCHEMES[preset.toUpperCase()]
  if (scheme === undefined) {
    const known = Object.keys(PRESET_SCHEMES)
    throw new LatheError(
      'compress.invalid-recipe',
      `${where}: the scheme "${preset.slice(0, 60)}" cannot be run by this version of Lathe.`,
      `Use one of ${known.join(', ')}, or spell the scheme out in config_groups.`,
    )
  }
  return { name, targets, scheme, observer: { kind: 'minmax' } }
}

const GROUP_KEYS = ['targets', 'weights', 'input_activations', 'output_activations', 'format']

function readGroup(name: string, value: unknown, where: string): QuantizationGroupRecipe {
  const json = object(value, where)
  refuseUnknownKeys(json, GROUP_KEYS, where)
  const scheme = schemeOfGroup(json, where)
  const observer = readObserver(object(json['weights'] ?? null, `${where}.weights`), `${where}.weights`)
  return { name, targets: names(json['targets'] ?? ['Linear'], `${where}.targets`), scheme, observer }
}

const MINMAX_OBSERVERS = ['memoryless_minmax', 'minmax', 'static_minmax']
const MSE_OBSERVERS = ['memoryless_mse', 'mse']
const IMATRIX_OBSERVERS = ['imatrix_mse']

function readObserver(json: Json, where: string): Observer {
  const name = json['observer'] ?? 'memoryless_minmax'
  const kwargs = object(json['observer_kwargs'] ?? {}, `${where}.observer_kwargs`)
  if (MINMAX_OBSERVERS.some((known) => known === name)) {
    refuseUnknownKeys(kwargs, [], `${where}.observer_kwargs`)
    return { kind: 'minmax' }
  }
  const weighted = IMATRIX_OBSERVERS.some((known) => known === name)
  if (!weighted && !MSE_OBSERVERS.some((known) => known === name)) {
    throw unknownKey(`${where}.observer`, String(name), [...MINMAX_OBSERVERS, ...MSE_OBSERVERS, ...IMATRIX_OBSERVERS])
  }
  const defaults = weighted ? IMATRIX_KWARGS : MSE_DEFAULTS
  refuseUnknownKeys(kwargs, Object.keys(defaults), `${where}.observer_kwargs`)
  const number = (key: keyof typeof defaults, least: number, most: number): number =>
    numberIn(kwargs, key, `${where}.observer_kwargs`, { least, most, absent: defaults[key] })
  // Read for its type only: Lathe tries every candidate, which is what patience without end would do.
  number('patience', 1, 1e9)
  return {
    kind: weighted ? 'imatrix' : 'mse',
    maxShrink: number('maxshrink', 0, 0.99),
    grid: number('grid', 1, 10_000),
    norm: number('norm', 0.5, 10),
  }
}
