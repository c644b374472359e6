/**
 * Resolves a recipe against a checkpoint from its headers alone: which tensors are compressed and as what, which are kept and why, and the
 * exact bytes of the result. Everything that can be refused is refused here, before anything is read or written
 * (specs/compressed-tensors.md §2.4, §2.5, §11). Chooses no values.
 */
import { isDenseDtype } from '../checkpoint/dtypes.ts'
import type { DenseDtype } from '../checkpoint/dtypes.ts'
import { classOf } from '../checkpoint/modules.ts'
import { schemesFor } from '../checkpoint/quantization-config.ts'
import { planSafetensors } from '../checkpoint/safetensors-writer.ts'
import type { TensorLayout, WritePlan } from '../checkpoint/safetensors-writer.ts'
import type { Checkpoint, QuantizationConfig, QuantizationGroup, TensorEntry } from '../checkpoint/types.ts'
import { LatheError } from '../contract/errors.ts'
import { FP8_CACHE_ARGS } from '../model/key-value-scales.ts'
import { describeModel } from '../model/spec.ts'
import { compareNames, fusedKey, isRowParallel, isTransposed, keptByDesign } from './module-roles.ts'
import { presetById } from './presets.ts'
import { isLayered, isStoringStep, observerName } from './recipe.ts'
import type { Observer, PruningStep, QuantizationGroupRecipe, Recipe, RecipeStep, StoringStep } from './recipe.ts'
import { asRotated } from './rotation/rotated-checkpoint.ts'
import { inputArgs, weightArgs } from './scheme-args.ts'
import { cacheScaleTensor, columnsPerScale, refusal, sameScheme, schemeFormat, schemeName, storedTensors } from './scheme.ts'
import type { Scheme, StoredTensor } from './scheme.ts'
import type { IgnoredTensor, Prediction } from './types.ts'

/** A tensor copied byte for byte. */
export interface KeepItem {
  readonly action: 'keep'
  readonly source: TensorEntry
}

export interface CompressItem {
  readonly action: 'compress'
  readonly source: TensorEntry
  /** Module name: the source's without `.weight`. */
  readonly module: string
  readonly rows: number
  readonly cols: number
  readonly dtype: DenseDtype
  readonly scheme: Scheme
  readonly observer: Observer
  readonly stored: readonly StoredTensor[]
}

/** Stored in the dtype and shape of the source, with values that a step of the recipe may have changed. */
export interface RewriteItem {
  readonly action: 'rewrite'
  readonly source: TensorEntry
  readonly module: string
  readonly dtype: DenseDtype
}

export type PlanItem = KeepItem | CompressItem | RewriteItem

export interface CompressionPlan {
  readonly recipe: Recipe
  /** Every source tensor once, in natural order of names. */
  readonly items: readonly PlanItem[]
  readonly write: WritePlan
  /** null where the recipe only prunes: weights stay dense. */
  readonly quantization: QuantizationConfig | null
  readonly ignored: readonly IgnoredTensor[]
  readonly warnings: readonly string[]
  /** Bytes of all tensors before and after. */
  readonly bytesIn: number
  readonly bytesOut: number
  /** Elements of all source tensors. */
  readonly parameters: number
  readonly bitsPerWeight: number
  readonly schemeName: string
}

/** Tensors that calibration goes through layer by layer. */
const LAYER_TENSOR = /^model\.layers\.\d+\./
/** GPUs that vLLM commonly splits a layer over; beyond 8 it spans machines. */
const TENSOR_PARALLEL_SIZES = [2, 4, 8]

/**
 * Throws `compress.already-compressed`, `compress.nothing-to-do`, `compress.invalid-recipe`. `maxShardBytes` is for tests; real outputs use
 * the writer's default.
 */
export function planCompression(
  checkpoint: Checkpoint,
  recipe: Recipe,
  options: { readonly maxShardBytes?: number } = {},
): CompressionPlan {
  refuseCompressed(checkpoint)
  const step = storingStepOf(recipe)
  const tensors = [...checkpoint.tensors.values()].sort((a, b) => compareNames(a.name, b.name))
  const matrices = tensors.filter((tensor) => tensor.name.endsWith('.weight') && tensor.shape.length === 2)
  const groups = groupsOf(step?.groups ?? [])
  const wanted = resolveTargets(matrices, step?.groups ?? [], groups, step?.ignore ?? [])

  const chosen = new Map<string, QuantizationGroupRecipe>()
  const kept = new Map<string, IgnoredTensor>()
  for (const tensor of matrices) {
    const name = moduleOf(tensor)
    const design = keptByDesign(name)
    const group = wanted.get(name)
    if (design !== null) kept.set(name, { name, reason: design, kind: 'by-design' })
    else if (group === undefined) kept.set(name, { name, reason: 'the recipe leaves it out', kind: 'by-design' })
    else {
      const reason = whyRefused(tensor, name, group.scheme)
      if (reason === null) chosen.set(name, group)
      else kept.set(name, { name, reason, kind: 'refused' })
    }
  }
  for (const tensor of tensors) {
    if (tensor.shape.length > 2 && /\.experts\./.test(tensor.name)) {
      const reason = `its experts are stored in one tensor of ${tensor.shape.length} dimensions, which cannot be quantized expert by expert`
      kept.set(tensor.name, { name: tensor.name, reason, kind: 'refused' })
    }
  }
  makeFusedAgree(matrices, chosen, kept)
  if (chosen.size === 0 && step !== null) throw nothingToDo(step.groups, kept)
  if (step?.fp8KeyValues === true) requireKeyValueProjections(matrices, chosen)
  const layered = isLayered(recipe)

  const items: PlanItem[] = tensors.map((source) => {
    const group = source.name.endsWith('.weight') ? chosen.get(moduleOf(source)) : undefined
    if (group === undefined || !isDenseDtype(source.dtype)) {
      if (!layered || !isDenseDtype(source.dtype) || !LAYER_TENSOR.test(source.name)) return { action: 'keep', source }
      return { action: 'rewrite', source, module: source.name.replace(/\.weight$/, ''), dtype: source.dtype }
    }
    const [rows = 0, cols = 0] = source.shape
    const module = moduleOf(source)
    const { scheme, observer } = group
    const cacheScale = step?.fp8KeyValues === true ? cacheScaleTensor(module, source.dtype) : null
    const stored = [...storedTensors(scheme, module, rows, cols, source.dtype), ...(cacheScale === null ? [] : [cacheScale])]
    return { action: 'compress', source, module, rows, cols, dtype: source.dtype, scheme, observer, stored }
  })
  const layout = items.flatMap((item): readonly TensorLayout[] => (item.action === 'compress' ? item.stored : [item.source])).map(toLayout)
  const write = planSafetensors(layout, options.maxShardBytes === undefined ? {} : { maxShardBytes: options.maxShardBytes })
  const bytesIn = tensors.reduce((sum, tensor) => sum + tensor.byteLength, 0)
  const parameters = tensors.reduce((sum, tensor) => sum + tensor.shape.reduce((product, size) => product * size, 1), 0)
  const compressed = items.filter((item) => item.action === 'compress')
  const used = groups.filter((group) => [...chosen.values()].some((recipeGroup) => recipeGroup.name === group.name))
  const formats = new Set(used.map((group) => group.format))
  return {
    recipe,
    items,
    write,
    quantization:
      step === null
        ? null
        : {
            format: formats.size > 1 ? 'mixed-precision' : ([...formats][0] ?? 'dense'),
            groups: used,
            ignore: ignoreList(kept),
            keyValueScheme: step.fp8KeyValues === true ? FP8_CACHE_ARGS : null,
          },
    ignored: [...kept.values()].sort((a, b) => compareNames(a.name, b.name)),
    warnings: parallelWarnings(compressed),
    bytesIn,
    bytesOut: write.tensorBytes,
    parameters,
    bitsPerWeight: (write.tensorBytes * 8) / parameters,
    schemeName: [...recipe.steps.flatMap(pruningName), ...new Set(compressed.map((item) => schemeName(item.scheme)))].join(' + '),
  }
}

/** "2:4 sparse", "50 % sparse". */
function pruningName(step: RecipeStep): readonly string[] {
  if (step.kind !== 'pruning') return []
  const { maskStructure, sparsity } = step
  return [maskStructure === null ? `${Math.round(sparsity * 100)} % sparse` : `${maskStructure.prune}:${maskStructure.of} sparse`]
}

/** Cache scales are stored beside quantized k_proj and v_proj, so every layer must have both. */
function requireKeyValueProjections(matrices: readonly TensorEntry[], chosen: ReadonlyMap<string, QuantizationGroupRecipe>): void {
  const projections = matrices.map(moduleOf).filter((module) => /self_attn\.(?:k|v|qkv)_proj$/.test(module))
  const odd = projections.find((module) => !chosen.has(module) || cacheScaleTensor(module, 'F32') === null)
  if (projections.length > 0 && odd === undefined) return
  throw invalid(
    `The recipe asks for the scales of an FP8 cache, and ${odd ?? 'this model'} has no quantized k_proj and v_proj to store them with.`,
    'Quantize k_proj and v_proj of every layer, or leave kv_cache_scheme out.',
  )
}

/** The one step that decides what is stored, last but for nothing; null for a recipe that only prunes. */
function storingStepOf(recipe: Recipe): StoringStep | null {
  const storing = recipe.steps.filter(isStoringStep)
  const last = recipe.steps.at(-1)
  if (storing.length > 1) {
    throw invalid(
      `The recipe quantizes in ${storing.length} steps; one is possible.`,
      'Put all groups into one QuantizationModifier or GPTQModifier.',
    )
  }
  const [step] = storing
  if (step === undefined) {
    if (recipe.steps.some(({ kind }) => kind === 'pruning')) return null
    throw invalid('The recipe neither quantizes nor prunes.', 'Add a QuantizationModifier, a GPTQModifier or a pruning modifier.')
  }
  if (step !== last)
    throw invalid(`The recipe has steps after ${step.kind}.`, 'Quantization comes last: what follows it would change stored values.')
  return step
}

function invalid(what: string, hint: string): LatheError {
  return new LatheError('compress.invalid-recipe', what, hint)
}

/** Modules that a pruning step applies to: ordinary linears of the decoder layers that its targets name and its ignore list does not. */
export function prunedModules(checkpoint: Checkpoint, step: PruningStep): ReadonlySet<string> {
  const matrices = [...checkpoint.tensors.values()].filter(
    (tensor) => tensor.name.endsWith('.weight') && tensor.shape.length === 2 && LAYER_TENSOR.test(tensor.name),
  )
  const modules = matrices.map((tensor) => ({ name: moduleOf(tensor), className: classOf(moduleOf(tensor)) }))
  const group: QuantizationGroup = { name: 'pruned', targets: step.targets, weights: null, inputActivations: null, format: 'dense' }
  const found = schemesFor({ format: 'dense', groups: [group], ignore: step.ignore, keyValueScheme: null }, modules)
  const chosen = modules.filter(({ name }, i) => found[i] !== null && keptByDesign(name) === null)
  if (chosen.length === 0) {
    throw new LatheError(
      'compress.nothing-to-do',
      'No matrix of this model belongs to the pruning step.',
      'Check its targets and its ignore list.',
    )
  }
  for (const { name } of chosen) {
    const cols = checkpoint.tensors.get(`${name}.weight`)?.shape[1] ?? 0
    const of = step.maskStructure?.of ?? 1
    if (cols % of !== 0) {
      throw new LatheError(
        'compress.invalid-recipe',
        `${name} has ${cols} columns, which are not divisible into groups of ${of}.`,
        'Choose unstructured sparsity, or leave this module out.',
      )
    }
  }
  return new Set(chosen.map(({ name }) => name))
}

/**
 * What `presetId` would give for this checkpoint. Throws what `planCompression` throws, and `model.unsupported-architecture` where calibration
 * would have to run layers that Lathe can't; reads headers only.
 */
export function predict(checkpoint: Checkpoint, presetId: string): Prediction {
  const { recipe, outcome } = presetById(presetId)
  const plan = planCompression(asRotated(checkpoint, recipe), recipe)
  if (isLayered(recipe)) describeModel(checkpoint.config, checkpoint.generationConfig)
  return {
    scheme: plan.schemeName,
    weightBytes: plan.bytesOut,
    bitsPerWeight: plan.bitsPerWeight,
    skippedTensors: plan.ignored.filter((tensor) => tensor.kind === 'refused').map(({ name, reason }) => ({ name, reason })),
    warnings: plan.warnings,
    ...(outcome?.kind === 'holds' ? { range: rangeOf(checkpoint, recipe, outcome.schemes) } : {}),
  }
}

/** What a search among schemes can come to: everything in the smallest, and everything in the largest. */
function rangeOf(checkpoint: Checkpoint, recipe: Recipe, schemes: readonly Scheme[]): NonNullable<Prediction['range']> {
  const sizes = schemes.map((scheme) => {
    const steps = recipe.steps.map((step) =>
      'groups' in step ? { ...step, groups: step.groups.map((group) => ({ ...group, scheme })) } : step,
    )
    return planCompression(asRotated(checkpoint, recipe), { steps }).bytesOut
  })
  return { leastBytes: Math.min(...sizes), mostBytes: Math.max(...sizes) }
}

/** Names of the tensors that `item` becomes, in the order of `item.stored`. */
export function outputNames(item: PlanItem): readonly string[] {
  return item.action !== 'compress' ? [item.source.name] : item.stored.map((tensor) => tensor.name)
}

function moduleOf(tensor: TensorEntry): string {
  return tensor.name.slice(0, -'.weight'.length)
}

function toLayout(tensor: TensorLayout): TensorLayout {
  return { name: tensor.name, dtype: tensor.dtype, shape: tensor.shape }
}

function refuseCompressed(checkpoint: Checkpoint): void {
  const raw = checkpoint.config['quantization_config'] ?? checkpoint.config['compression_config'] ?? null
  if (raw === null && checkpoint.quantization === null) return
  const method = typeof raw === 'object' && raw !== null && 'quant_method' in raw ? String(raw.quant_method).slice(0, 40) : 'unknown'
  throw new LatheError(
    'compress.already-compressed',
    `The model is already compressed (${method}).`,
    'Start from the original BF16, F16 or F32 model: compressing twice adds the errors of both.',
  )
}

function groupsOf(groups: readonly QuantizationGroupRecipe[]): readonly QuantizationGroup[] {
  return groups.map((group) => ({
    name: group.name,
    targets: group.targets,
    weights: { ...weightArgs(group.scheme), observer: observerName(group.observer) },
    inputActivations: inputArgs(group.scheme),
    outputActivations: null,
    format: schemeFormat(group.scheme),
  }))
}

/** The recipe's group of each module, by the rules that readers of the result will use. */
function resolveTargets(
  matrices: readonly TensorEntry[],
  recipeGroups: readonly QuantizationGroupRecipe[],
  groups: readonly QuantizationGroup[],
  ignore: readonly string[],
): ReadonlyMap<string, QuantizationGroupRecipe> {
  const modules = matrices.map((tensor) => ({ name: moduleOf(tensor), className: classOf(moduleOf(tensor)) }))
  const config: QuantizationConfig = { format: 'dense', groups, ignore, keyValueScheme: null }
  const found = schemesFor(config, modules)
  const wanted = new Map<string, QuantizationGroupRecipe>()
  modules.forEach((module, i) => {
    const group = recipeGroups.find((candidate) => candidate.name === found[i]?.name)
    if (group !== undefined) wanted.set(module.name, group)
  })
  const idle = recipeGroups.find((group) => ![...wanted.values()].includes(group))
  if (idle !== undefined && recipeGroups.length > 1) {
    throw new LatheError(
      'compress.invalid-recipe',
      `No matrix of this model belongs to the recipe's ${idle.name} (targets ${idle.targets.join(', ')}).`,
      'Correct the targets, or remove the group.',
    )
  }
  return wanted
}

function whyRefused(tensor: TensorEntry, module: string, scheme: Scheme): string | null {
  const [rows = 0, cols = 0] = tensor.shape
  if (!isDenseDtype(tensor.dtype)) return `it is stored as ${tensor.dtype}, not as BF16, F16 or F32`
  if (isTransposed(module)) return 'its class (Conv1D) stores the weight transposed, which the format has no place for'
  return refusal(scheme, rows, cols)
}

/** A server fuses these matrices into one, so one that is kept keeps its partners. */
function makeFusedAgree(
  matrices: readonly TensorEntry[],
  chosen: Map<string, QuantizationGroupRecipe>,
  kept: Map<string, IgnoredTensor>,
): void {
  const sets = new Map<string, string[]>()
  for (const tensor of matrices) {
    const name = moduleOf(tensor)
    const key = fusedKey(name)
    if (key !== null) sets.set(key, [...(sets.get(key) ?? []), name])
  }
  for (const names of sets.values()) {
    const culprit = names.find((name) => kept.has(name))
    if (culprit !== undefined) {
      for (const name of names) {
        if (!chosen.delete(name)) continue
        const reason = `it forms one layer with ${culprit}, which is kept, and vLLM needs one scheme for all of it`
        kept.set(name, { name, reason, kind: 'refused' })
      }
      continue
    }
    const [first, ...rest] = names.map((name) => ({ name, group: chosen.get(name) }))
    const other = rest.find(
      ({ group }) => first?.group !== undefined && group !== undefined && !sameScheme(first.group.scheme, group.scheme),
    )
    if (first?.group !== undefined && other?.group !== undefined) {
      throw new LatheError(
        'compress.invalid-recipe',
        `${first.name} (${schemeName(first.group.scheme)}) and ${other.name} (${schemeName(other.group.scheme)}) form one layer in vLLM and need one scheme.`,
        'Give them the same scheme in the recipe.',
      )
    }
  }
}

function nothingToDo(groups: readonly QuantizationGroupRecipe[], kept: ReadonlyMap<string, IgnoredTensor>): LatheError {
  const schemes = [...new Set(groups.map((group) => schemeName(group.scheme)))].join(' + ')
  const refused = [...kept.values()].filter((tensor) => tensor.kind === 'refused')
  const example = refused[0]
  return new LatheError(
    'compress.nothing-to-do',
    example === undefined
      ? `No matrix of this model can be stored as ${schemes}.`
      : `None of ${refused.length} matrices can be stored as ${schemes}; ${example.name} because ${example.reason}.`,
    example === undefined
      ? 'Check the targets of the recipe.'
      : 'Choose a preset with smaller groups, or Near-lossless 8-bit, which has none.',
  )
}

/** `lm_head` even where the head is tied and has no tensor of its own: a loader makes a module of that name. */
function ignoreList(kept: ReadonlyMap<string, IgnoredTensor>): readonly string[] {
  const linears = [...kept.keys()].filter((name) => classOf(name) !== 'Embedding')
  return [...new Set(['lm_head', ...linears.map((name) => name.replace(/\.weight$/, ''))])].sort(compareNames)
}

/** specs/compressed-tensors.md §11.1: a group must not straddle two GPUs. */
function parallelWarnings(items: readonly CompressItem[]): readonly string[] {
  for (const size of TENSOR_PARALLEL_SIZES) {
    const split = items.find(
      ({ module, cols, scheme }) =>
        isRowParallel(module) &&
        columnsPerScale(scheme, cols) < cols &&
        (cols % size !== 0 || (cols / size) % columnsPerScale(scheme, cols) !== 0),
    )
    if (split === undefined) continue
    const share = size === 2 ? 'half' : `1/${size}`
    return [
      `vLLM cannot split this model over ${size} GPUs: ${split.module} has ${split.cols} columns, and ${share} of them is not a whole number of groups of ${columnsPerScale(split.scheme, split.cols)}.`,
    ]
  }
  return []
}
