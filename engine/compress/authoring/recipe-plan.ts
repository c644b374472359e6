/**
 * What a recipe does to a model, unit by unit, with exact bytes: what a table of layers shows and what overrides start from. Reads headers only.
 */
import type { Checkpoint } from '../../checkpoint/types.ts'
import type { SchemeMap } from '../../contract/index.ts'
import { schemeUnits } from '../mixed-precision/scheme-map.ts'
import { placeOf } from '../module-roles.ts'
import { planCompression } from '../plan.ts'
import type { CompressionPlan } from '../plan.ts'
import { isLayered } from '../recipe.ts'
import type { Recipe } from '../recipe.ts'
import { asRotated } from '../rotation/rotated-checkpoint.ts'
import { sameScheme, schemeName } from '../scheme.ts'
import type { Scheme } from '../scheme.ts'
import type { Prediction } from '../types.ts'
import { OVERRIDE_SCHEMES } from './scheme-names.ts'

export interface RecipePlan extends Prediction {
  readonly needsCalibration: boolean
  readonly map: SchemeMap
}

/** Throws what `planCompression` throws. */
export function planRecipe(checkpoint: Checkpoint, recipe: Recipe): RecipePlan {
  const source = asRotated(checkpoint, recipe)
  const plan = planCompression(source, recipe)
  return {
    scheme: plan.schemeName,
    weightBytes: plan.bytesOut,
    bitsPerWeight: plan.bitsPerWeight,
    skippedTensors: plan.ignored.filter((tensor) => tensor.kind === 'refused').map(({ name, reason }) => ({ name, reason })),
    warnings: plan.warnings,
    needsCalibration: isLayered(recipe),
    map: mapOf(source, plan),
  }
}

function mapOf(source: Checkpoint, plan: CompressionPlan): SchemeMap {
  const items = new Map(plan.items.map((item) => [item.source.name, item]))
  const refused = new Map(plan.ignored.filter(({ kind }) => kind === 'refused').map(({ name, reason }) => [name, reason]))
  const units = schemeUnits(source, candidates(plan)).map((unit): SchemeMap['units'][number] => {
    // members of a unit agree: the plan makes them
    const item = items.get(`${unit.modules[0] ?? ''}.weight`)
    const scheme = item?.action === 'compress' ? item.scheme : null
    return {
      id: unit.id,
      layer: placeOf(unit.modules[0] ?? unit.id).layer,
      role: [...new Set(unit.modules.map((module) => placeOf(module).kind))].join(' + '),
      modules: [...unit.modules],
      parameters: unit.parameters,
      scheme: scheme === null ? null : schemeName(scheme),
      bytes: unit.options.find((option) => scheme !== null && sameScheme(option.scheme, scheme))?.bytes ?? unit.plainBytes,
      plainBytes: unit.plainBytes,
      options: unit.options.map((option) => ({ scheme: schemeName(option.scheme), bytes: option.bytes })),
      refused: unit.modules.map((module) => refused.get(module)).find((reason) => reason !== undefined) ?? null,
      loss: null,
    }
  })
  return { units, weightBytes: plan.bytesOut, bitsPerWeight: plan.bitsPerWeight, parameters: plan.parameters }
}

/** What may be chosen, and what the recipe chose beyond it, once each. */
function candidates(plan: CompressionPlan): readonly Scheme[] {
  const used = plan.items.flatMap((item) => (item.action === 'compress' ? [item.scheme] : []))
  return [...new Map([...OVERRIDE_SCHEMES, ...used].map((scheme) => [schemeName(scheme), scheme])).values()]
}
