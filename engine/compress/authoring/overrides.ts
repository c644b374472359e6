/**
 * Other schemes for single layers, written into a recipe: a group of its own with the modules' full names, which outrank patterns and classes
 * in every reader (specs/compressed-tensors.md §2.4), or the ignore list. Linears that a server fuses follow each other.
 */
import { schemesFor } from '../../checkpoint/quantization-config.ts'
import { classOf } from '../../checkpoint/modules.ts'
import { LatheError } from '../../contract/errors.ts'
import type { SchemeOverride } from '../../contract/index.ts'
import { compareNames, fusedKey } from '../module-roles.ts'
import { isStoringStep } from '../recipe.ts'
import type { QuantizationGroupRecipe, Recipe, RecipeStep, StoringStep } from '../recipe.ts'
import { sameScheme, schemeName } from '../scheme.ts'
import type { Scheme } from '../scheme.ts'
import { schemeNamed } from './scheme-names.ts'

/**
 * `modules` are all linears of the model that a scheme may apply to. Later overrides win. Throws `compress.invalid-recipe` for a target that
 * names nothing, a scheme that does not exist, or a recipe that stores nothing.
 */
export function withOverrides(recipe: Recipe, overrides: readonly SchemeOverride[], modules: readonly string[]): Recipe {
  if (overrides.length === 0) return recipe
  const wanted = new Map<string, Scheme | null>()
  for (const { target, scheme } of overrides) {
    const chosen = scheme === null ? null : schemeNamed(scheme)
    for (const module of withPartners(matching(target, modules), modules)) wanted.set(module, chosen)
  }
  const stores = recipe.steps.some(isStoringStep)
  if (!stores && [...wanted.values()].some((scheme) => scheme !== null)) {
    throw new LatheError(
      'compress.invalid-recipe',
      'The recipe only prunes, so that no layer can be given a scheme.',
      'Keep the layer as it is, or add a QuantizationModifier.',
    )
  }
  const kept = [...wanted].filter(([, scheme]) => scheme === null).map(([module]) => module)
  return {
    steps: recipe.steps.map((step): RecipeStep => {
      if (isStoringStep(step)) return overrideStep(step, wanted, modules)
      // a layer that is to stay as it is is not pruned either
      return step.kind === 'pruning' ? { ...step, ignore: [...new Set([...step.ignore, ...kept])] } : step
    }),
  }
}

function overrideStep<Step extends StoringStep>(step: Step, wanted: ReadonlyMap<string, Scheme | null>, modules: readonly string[]): Step {
  const kept = [...wanted].filter(([, scheme]) => scheme === null).map(([module]) => module)
  const raised = [...wanted].flatMap(([module, scheme]) => (scheme === null ? [] : [{ module, scheme }]))
  const names = new Set(wanted.keys())
  const observer = step.groups[0]?.observer ?? { kind: 'minmax' }
  const before: QuantizationGroupRecipe[] = step.groups.map((group) => ({
    ...group,
    targets: group.targets.filter((target) => !names.has(target)),
  }))
  for (const { module, scheme } of raised) {
    // its own group, or the one that an earlier override made: never one with patterns, whose name says what it is
    const index = before.findIndex((group) => sameScheme(group.scheme, scheme) && group.targets.every((target) => modules.includes(target)))
    const group = before[index]
    if (group === undefined) before.push({ name: '', targets: [module], scheme, observer })
    else before[index] = { ...group, targets: [...group.targets, module].sort(compareNames) }
  }
  const ignore = [...new Set([...withoutModules(step.ignore, new Set(raised.map(({ module }) => module)), modules), ...kept])]
  return { ...step, groups: renamed(usedGroups(before, ignore, modules)), ignore }
}

/** Names that keep the order of the keys when sorted, as serializers do. */
function renamed(groups: readonly QuantizationGroupRecipe[]): readonly QuantizationGroupRecipe[] {
  const digits = String(Math.max(0, groups.length - 1)).length
  return groups.map((group, i) => ({ ...group, name: `group_${String(i).padStart(digits, '0')}` }))
}

/** Groups that some module still belongs to; a group of nothing is refused by the plan. */
function usedGroups(
  groups: readonly QuantizationGroupRecipe[],
  ignore: readonly string[],
  modules: readonly string[],
): readonly QuantizationGroupRecipe[] {
  const used = new Set(
    resolve(
      groups.map(({ targets }) => targets),
      ignore,
      modules,
    ),
  )
  const left = groups.filter((_, i) => used.has(i))
  if (left.length === 0) {
    const names = [...new Set(groups.map((group) => schemeName(group.scheme)))].join(', ')
    throw new LatheError('compress.nothing-to-do', `No layer is left to be stored as ${names}.`, 'Take some overrides back.')
  }
  return left
}

/** Which list of targets each module belongs to, by the rules that readers of the result use; null = none, or ignored. */
function resolve(
  targets: readonly (readonly string[])[],
  ignore: readonly string[],
  modules: readonly string[],
): readonly (number | null)[] {
  const groups = targets.map((list, i) => ({ name: String(i), targets: list, weights: null, inputActivations: null, format: 'dense' }))
  const found = schemesFor(
    { format: 'dense', groups, ignore, keyValueScheme: null },
    modules.map((name) => ({ name, className: classOf(name) })),
  )
  return found.map((group) => (group === null ? null : Number(group.name)))
}

/** An ignore list that no longer covers some modules: their own names go, patterns become the names of what else they matched. */
function withoutModules(ignore: readonly string[], freed: ReadonlySet<string>, modules: readonly string[]): readonly string[] {
  return ignore.flatMap((entry) => {
    if (freed.has(entry)) return []
    if (!entry.startsWith('re:')) return [entry]
    const covered = named(entry, modules)
    return covered.some((module) => freed.has(module)) ? covered.filter((module) => !freed.has(module)) : [entry]
  })
}

/** Throws `checkpoint.invalid-config` for a pattern that can't be read or takes too long. */
function named(target: string, modules: readonly string[]): readonly string[] {
  if (!target.startsWith('re:')) return modules.filter((module) => module === target)
  const found = resolve([[target]], [], modules)
  return modules.filter((_, i) => found[i] !== null)
}

function matching(target: string, modules: readonly string[]): readonly string[] {
  const found = named(target, modules)
  if (found.length > 0) return found
  throw new LatheError(
    'compress.invalid-recipe',
    `No linear layer of this model is called "${target.slice(0, 100)}".`,
    'Choose one of the table, or write a pattern that begins with "re:".',
  )
}

function withPartners(found: readonly string[], modules: readonly string[]): readonly string[] {
  const keys = new Set(found.map((module) => fusedKey(module)).filter((key) => key !== null))
  return [...new Set([...found, ...modules.filter((module) => keys.has(fusedKey(module) ?? ''))])]
}
