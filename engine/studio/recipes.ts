/**
 * Recipes as a user writes them: presets as text, checks with the line of an error, what each layer would get, the search for a scheme per layer,
 * and the recipe of a variant with one layer raised. Reads headers, and weights where layers are measured; writes nothing and starts nothing.
 */
import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { formOfRecipe, recipeOfForm } from '../compress/authoring/recipe-form.ts'
import { lineOf } from '../compress/authoring/recipe-line.ts'
import { withOverrides } from '../compress/authoring/overrides.ts'
import type { RecipePlan } from '../compress/authoring/recipe-plan.ts'
import { SCHEME_INFOS, nextHigher, schemeNamed } from '../compress/authoring/scheme-names.ts'
import { recipeOfMap } from '../compress/mixed-precision/scheme-map.ts'
import type { LossTable } from '../compress/mixed-precision/scheme-map.ts'
import { GPTQ_DEFAULTS } from '../compress/modifiers-yaml.ts'
import { parseRecipeYaml, recipeToYaml } from '../compress/recipe-yaml.ts'
import { isLayered } from '../compress/recipe.ts'
import type { Recipe } from '../compress/recipe.ts'
import { schemeName } from '../compress/scheme.ts'
import { LatheError, toErrorShape } from '../contract/index.ts'
import type {
  AutomaticEvent,
  AutomaticRequest,
  CalibrationChoice,
  CalibrationReport,
  CustomRecipe,
  RaisePlan,
  RecipeCheck,
  RecipeForm,
  SchemeInfo,
  SchemeMap,
  SchemeOverride,
} from '../contract/index.ts'
import { calibrationOptions, inspectCalibration } from './calibration-source.ts'
import { channel } from './channel.ts'
import { targetInBytes } from './fitting-bytes.ts'
import type { Library } from './library.ts'
import type { CheckpointPort, CompressPort, FitPort, TokenizerPort } from './ports.ts'
import { readRunRecord } from './run-record.ts'

export type RecipeChoice = { readonly presetId: string } | { readonly yaml: string }

export interface RecipesParts {
  readonly library: Library
  readonly checkpoint: CheckpointPort
  readonly compressor: CompressPort
  readonly fit: FitPort
  readonly tokenizers: TokenizerPort
  readonly assetsFolder: string
  /** Throws while a job has the device. */
  readonly refuseWhileRunning: () => void
  /** What the job that made a variant was calibrated with; null where that is not known. */
  readonly calibrationOf: (variantId: string) => CalibrationChoice | null
}

/** Loss tables kept, newest last: one is a few kilobytes, and a user tries a handful of scheme sets. */
const KEPT_TABLES = 8

export class Recipes {
  readonly #parts: RecipesParts
  readonly #tables = new Map<string, LossTable>()

  constructor(parts: RecipesParts) {
    this.#parts = parts
  }

  schemes(): SchemeInfo[] {
    return SCHEME_INFOS.map((info) => ({ ...info }))
  }

  presetRecipe(presetId: string): CustomRecipe {
    const { compressor } = this.#parts
    const yaml = recipeToYaml(compressor.presetRecipe(presetId))
    return { title: compressor.listPresets().find(({ id }) => id === presetId)?.title ?? presetId, yaml }
  }

  write(form: RecipeForm): string {
    return recipeToYaml(recipeOfForm(form))
  }

  async check(modelId: string, yaml: string, contextTokens: number): Promise<RecipeCheck> {
    const { library, checkpoint, compressor, fit } = this.#parts
    const record = await library.usable(modelId)
    let recipe: Recipe
    try {
      recipe = parseRecipeYaml(yaml)
    } catch (error) {
      if (!(error instanceof LatheError)) throw error
      return { error: { ...error.toShape(), line: lineOf(yaml, error) }, recipe: null }
    }
    const known = { yaml: recipeToYaml(recipe), form: formOfRecipe(recipe), needsCalibration: isLayered(recipe) }
    try {
      const plan = await compressor.plan(record.path, recipe)
      const facts = await checkpoint.inspect(record.path)
      const predicted = {
        weightBytes: plan.weightBytes,
        bitsPerWeight: plan.bitsPerWeight,
        fit: await fit.fit(facts, plan.weightBytes, contextTokens),
        skippedTensors: plan.skippedTensors.map((tensor) => ({ ...tensor })),
        source: 'exact, from the tensor shapes',
      }
      return { error: null, recipe: { ...known, scheme: plan.scheme, predicted, blockedBy: null, warnings: [...plan.warnings] } }
    } catch (error) {
      const shape = toErrorShape(error)
      if (shape.code === 'internal') throw error
      return { error: null, recipe: { ...known, scheme: '', predicted: null, blockedBy: shape, warnings: [] } }
    }
  }

  /** Throws `compress.*`. */
  async schemeMap(modelId: string, choice: RecipeChoice): Promise<SchemeMap> {
    const record = await this.#parts.library.usable(modelId)
    return (await this.#parts.compressor.plan(record.path, this.read(choice))).map
  }

  /** Throws `compress.invalid-recipe`. */
  read(choice: RecipeChoice): Recipe {
    return 'yaml' in choice ? parseRecipeYaml(choice.yaml) : this.#parts.compressor.presetRecipe(choice.presetId)
  }

  /** The recipe with the overrides in it, and what it does to the model in this folder. Throws `compress.*`. */
  async overridden(folder: string, recipe: Recipe, overrides: readonly SchemeOverride[]): Promise<{ recipe: Recipe; plan: RecipePlan }> {
    const plan = await this.#parts.compressor.plan(folder, recipe)
    if (overrides.length === 0) return { recipe, plan }
    const changed = withOverrides(
      recipe,
      overrides,
      plan.map.units.flatMap((unit) => unit.modules),
    )
    return { recipe: changed, plan: await this.#parts.compressor.plan(folder, changed) }
  }

  async inspectCalibration(modelId: string, choice: CalibrationChoice): Promise<CalibrationReport> {
    const { library, tokenizers, assetsFolder } = this.#parts
    const record = await library.usable(modelId)
    const options = await calibrationOptions(choice, assetsFolder, record.path)
    return inspectCalibration(options, record.facts.architecture.contextLength, () => tokenizers.open(record.path))
  }

  async *automatic(request: AutomaticRequest, signal: AbortSignal): AsyncGenerator<AutomaticEvent> {
    const stop = new AbortController()
    const events = channel<AutomaticEvent>()
    const work = this.#choose(request, AbortSignal.any([signal, stop.signal]), events.push).then(
      () => events.end(),
      (error: unknown) => events.fail(error),
    )
    try {
      yield* events.read()
    } finally {
      stop.abort()
      await work
    }
  }

  async #choose(request: AutomaticRequest, signal: AbortSignal, push: (event: AutomaticEvent) => void): Promise<void> {
    const { library, compressor, assetsFolder } = this.#parts
    const record = await library.runnable(request.modelId)
    const schemes = request.schemes.map((name) => schemeNamed(name))
    const key = JSON.stringify([record.fingerprint, request.measure, request.schemes.toSorted()])
    let table = this.#tables.get(key)
    if (table === undefined) {
      if (request.measure === 'output') this.#parts.refuseWhileRunning()
      const text = await calibrationOptions(
        { source: { kind: 'bundled' }, samples: 64, sequenceLength: 512, seed: 0 },
        assetsFolder,
        record.path,
      )
      table = await compressor.losses(record.path, {
        schemes,
        measure: request.measure,
        text,
        signal,
        onProgress: (done, total, unit) => push({ kind: 'progress', done, total, unit }),
      })
      for (const old of [...this.#tables.keys()].slice(0, Math.max(0, this.#tables.size - KEPT_TABLES + 1))) this.#tables.delete(old)
      this.#tables.set(key, table)
    }
    const chosen = await compressor.choose(record.path, table, await targetInBytes(this.#parts, record.path, request.target))
    const recipe = recipeOfMap(
      chosen,
      MSE_OBSERVER,
      request.algorithm === 'gptq' ? { kind: 'gptq', ...GPTQ_DEFAULTS } : { kind: 'quantization' },
    )
    const losses = new Map(chosen.choices.map((choice) => [choice.unit, choice.loss]))
    const { map } = await compressor.plan(record.path, recipe)
    const units = map.units.map((unit) => ({ ...unit, loss: losses.get(unit.id) ?? null }))
    push({
      kind: 'done',
      yaml: recipeToYaml(recipe),
      map: { ...map, units },
      predictedLoss: chosen.predictedLoss,
      exact: chosen.exact,
    })
  }

  async raise(variantId: string, module: string): Promise<RaisePlan> {
    const { library, compressor } = this.#parts
    const variant = await library.usable(variantId)
    const run = await readRunRecord(variant.path)
    if (variant.parentId === null || run === null) {
      throw new LatheError(
        'compress.invalid-recipe',
        `${variant.name} has no record of how it was made, or its original is not in the library.`,
        'Import the original, or start a new compression of it.',
      )
    }
    const source = await library.runnable(variant.parentId)
    const text = await readFile(join(variant.path, 'recipe.yaml'), 'utf8').catch((cause: unknown) => {
      throw new LatheError('compress.invalid-recipe', `${variant.name} has no recipe.yaml.`, 'Start a new compression of its original.', {
        cause,
      })
    })
    const recipe = parseRecipeYaml(text)
    const before = await compressor.plan(source.path, recipe)
    const unit = before.map.units.find(({ modules }) => modules.includes(module))
    if (unit === undefined || unit.scheme === null) {
      throw new LatheError('compress.nothing-to-do', `${module} is stored as it was; there is nothing above that.`, 'Choose another layer.')
    }
    const current = recipe.steps
      .flatMap((step) => ('groups' in step ? step.groups : []))
      .find(({ scheme }) => schemeName(scheme) === unit.scheme)
    const higher = nextHigher(current?.scheme ?? schemeNamed(unit.scheme))
    const to = higher === null || !unit.options.some(({ scheme }) => scheme === schemeName(higher)) ? null : schemeName(higher)
    const after = await this.overridden(source.path, recipe, [{ target: module, scheme: to }])
    const calibration = isLayered(after.recipe)
      ? asUsed(this.#parts.calibrationOf(variantId) ?? recordedCalibration(run.json), run.json)
      : null
    const same = await compressor.takesOver(source.path, after.recipe, { folder: variant.path, name: variant.name })
    const knownText = calibration !== null || !isLayered(after.recipe)
    const place = unit.layer === null ? unit.role : `layer ${unit.layer} ${unit.role}`
    return {
      modelId: source.id,
      recipe: { title: titleOf(variant.name, source.name, place, to), yaml: recipeToYaml(after.recipe) },
      calibration,
      seed: run.seed,
      layer: unit.layer,
      role: unit.role,
      from: unit.scheme,
      to,
      addedBytes: after.plan.weightBytes - before.weightBytes,
      recomputes: knownText
        ? recomputes(isLayered(after.recipe), unit.layer, same)
        : 'All layers are made again: the text that this variant was calibrated on is not recorded, and the bundled text is used.',
      takesOver: knownText ? { layers: same.layers.length, ofLayers: same.ofLayers } : { layers: 0, ofLayers: same.ofLayers },
    }
  }
}

/** What runs again, for people. */
function recomputes(
  calibrated: boolean,
  layer: number | null,
  { layers, ofLayers, nothing }: Awaited<ReturnType<CompressPort['takesOver']>>,
): string {
  if (nothing !== null) return `All layers are made again: ${nothing}.`
  const open = ofLayers - layers.length
  const taken = `${layers.length} of ${ofLayers} layers are taken over from this variant byte for byte`
  if (layer === null || open <= 1) return `${taken}; ${layer === null ? 'this module' : `layer ${layer}`} is made again.`
  if (!calibrated) return `${taken}; ${open} are made again.`
  return `${taken}; layer ${layer} and the ${open - 1} after it, which are fitted to what it puts out, are made again.`
}

/** As the presets search (engine/compress/presets.ts). */
const MSE_OBSERVER = { kind: 'mse', maxShrink: 0.25, grid: 40, norm: 2 } as const

const MAX_TITLE = 100

/** Named after its parent, and short enough for a title whatever that is called. */
function titleOf(variantName: string, sourceName: string, place: string, to: string | null): string {
  const own = variantName.startsWith(`${sourceName} · `) ? variantName.slice(sourceName.length + 3) : variantName
  const change = `, ${place} ${to === null ? 'as original' : `as ${to}`}`
  return `${own.slice(0, Math.max(1, MAX_TITLE - change.length))}${change}`.slice(0, MAX_TITLE)
}

/** A preset that measures keeps documents out of calibration: as many samples as were used, drawn by the same seed, are the same samples. */
function asUsed(choice: CalibrationChoice | null, json: Record<string, unknown>): CalibrationChoice | null {
  const record = json['calibration']
  const used = typeof record === 'object' && record !== null && 'samples' in record ? record.samples : null
  return choice === null || typeof used !== 'number' ? choice : { ...choice, samples: Math.min(choice.samples, Math.max(1, used)) }
}

/** run.json names the file, not its folder: text that Lathe brings along is found again, any other has to be chosen anew. */
function recordedCalibration(json: Record<string, unknown>): CalibrationChoice | null {
  const record = json['calibration']
  if (typeof record !== 'object' || record === null) return null
  const { source, samples, sequence_length: sequenceLength, seed } = record as Record<string, unknown>
  const bundled = typeof source === 'string' && ['general.jsonl', 'calibration.jsonl'].includes(basename(source))
  if (!bundled || typeof samples !== 'number' || typeof sequenceLength !== 'number' || typeof seed !== 'number') return null
  return { source: { kind: 'bundled' }, samples, sequenceLength, seed }
}
