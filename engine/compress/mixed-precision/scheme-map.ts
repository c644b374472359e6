/**
 * Automatic mixed precision: which scheme each linear gets, chosen from how much each choice costs and loses. The map is plain data, so that
 * a person can look at it and change it before anything runs; `recipeOfMap` turns it into an ordinary recipe with one group per scheme.
 *
 * Linears that a server fuses (q, k, v; gate, up) form one unit and get one scheme. What a choice loses is measured by a function that the
 * caller hands in: the divergence of the output when only that unit is compressed (which needs a runtime, and lives above this folder), or
 * one of the proxies in sensitivity.ts.
 */
import type { Checkpoint, TensorEntry } from '../../checkpoint/types.ts'
import { isDenseDtype, DTYPE_BYTES } from '../../checkpoint/dtypes.ts'
import { LatheError } from '../../contract/errors.ts'
import { compareNames, fusedKey, isTransposed, keptByDesign } from '../module-roles.ts'
import type { Observer, QuantizationGroupRecipe, Recipe, RecipeStep } from '../recipe.ts'
import { refusal, sameScheme, schemeName, storedTensors } from '../scheme.ts'
import type { Scheme } from '../scheme.ts'
import { paretoFront, withinBytes, withinLoss } from './pareto.ts'
import type { Allocation, Front, Option } from './pareto.ts'

/** Linears that must agree. */
export interface SchemeUnit {
  /** The module itself, or the key that fused modules share. */
  readonly id: string
  readonly modules: readonly string[]
  readonly parameters: number
  /** Bytes as the source stores it. */
  readonly plainBytes: number
  /** Schemes among the candidates that can store every module of the unit, and what they take. Index 0 … n − 1 as in `losses`. */
  readonly options: readonly { readonly scheme: Scheme; readonly bytes: number }[]
}

/** One line of the map: a unit and what it is stored as; null = as it is. */
export interface SchemeChoice {
  readonly unit: string
  readonly modules: readonly string[]
  readonly scheme: Scheme | null
  readonly bytes: number
  /** Predicted, in the measure's unit. */
  readonly loss: number
}

export interface SchemeMap {
  readonly choices: readonly SchemeChoice[]
  /** Bytes of all tensors of the model, those that no scheme touches included. */
  readonly bytes: number
  readonly bitsPerWeight: number
  /** Sum of the choices' losses. */
  readonly predictedLoss: number
  /** Whether the choice is the optimum for its losses, or as near as a thinned search came. */
  readonly exact: boolean
}

export type MixedTarget =
  /** Least loss with all tensors within so many bytes. */
  | { readonly kind: 'bytes'; readonly bytes: number }
  /** The same, in bits per parameter of the model. */
  | { readonly kind: 'bits-per-weight'; readonly bits: number }
  /** Fewest bytes with a predicted loss of at most this. */
  | { readonly kind: 'loss'; readonly bound: number }

/**
 * The units of a checkpoint that any of `schemes` fits, in the order of the layers. `keepPlain` adds "as it is" to what the choice may take
 * (it always may where no scheme fits).
 */
export function schemeUnits(checkpoint: Checkpoint, schemes: readonly Scheme[]): readonly SchemeUnit[] {
  const units = new Map<string, { readonly entry: TensorEntry; readonly module: string }[]>()
  for (const entry of checkpoint.tensors.values()) {
    if (!entry.name.endsWith('.weight') || entry.shape.length !== 2 || !isDenseDtype(entry.dtype)) continue
    const module = entry.name.slice(0, -'.weight'.length)
    if (keptByDesign(module) !== null || isTransposed(module)) continue
    const key = fusedKey(module) ?? module
    units.set(key, [...(units.get(key) ?? []), { entry, module }])
  }
  return [...units]
    .map(([id, members]): SchemeUnit => {
      const sizes = members.map(({ entry }) => ({ entry, rows: entry.shape[0] ?? 0, cols: entry.shape[1] ?? 0 }))
      const fitting = schemes.filter((scheme) => sizes.every(({ rows, cols }) => refusal(scheme, rows, cols) === null))
      return {
        id,
        modules: members.map(({ module }) => module).sort(compareNames),
        parameters: sizes.reduce((sum, { rows, cols }) => sum + rows * cols, 0),
        plainBytes: members.reduce((sum, { entry }) => sum + entry.byteLength, 0),
        options: fitting.map((scheme) => ({
          scheme,
          bytes: members.reduce((sum, { entry, module }) => sum + storedBytes(scheme, module, entry), 0),
        })),
      }
    })
    .filter((unit) => unit.options.length > 0)
    .sort((a, b) => compareNames(a.id, b.id))
}

function storedBytes(scheme: Scheme, module: string, entry: TensorEntry): number {
  const { dtype, shape } = entry
  if (!isDenseDtype(dtype)) return entry.byteLength
  return storedTensors(scheme, module, shape[0] ?? 0, shape[1] ?? 0, dtype).reduce(
    (sum, tensor) => sum + tensor.shape.reduce((product, size) => product * size, DTYPE_BYTES[tensor.dtype]),
    0,
  )
}

/** What the unit loses with one of its options; ≥ 0. Losses of units are taken to add up. */
export type UnitLoss = (unit: SchemeUnit, option: number) => Promise<number>

export interface LossTable {
  readonly units: readonly SchemeUnit[]
  /** losses[unit][option] */
  readonly losses: readonly (readonly number[])[]
}

/**
 * Measures every option of every unit. More bits never lose more than fewer did: noise in a measurement is smoothed that way, so that the
 * choice is not led by it. Rejects with `job.cancelled` when aborted.
 */
export async function measureLosses(
  units: readonly SchemeUnit[],
  measure: UnitLoss,
  options: { readonly signal?: AbortSignal; readonly onProgress?: (done: number, total: number, unit: string) => void } = {},
): Promise<LossTable> {
  const total = units.reduce((sum, unit) => sum + unit.options.length, 0)
  let done = 0
  const losses: (readonly number[])[] = []
  for (const unit of units) {
    const measured: number[] = []
    for (const option of unit.options.keys()) {
      if (options.signal?.aborted === true) {
        throw new LatheError('job.cancelled', 'The measurement of layers was cancelled.', 'Start it again to measure from the beginning.')
      }
      const loss = await measure(unit, option)
      if (!Number.isFinite(loss)) {
        throw new LatheError(
          'compress.invalid-recipe',
          `The loss of ${unit.id} as ${schemeName(unit.options[option]?.scheme as Scheme)} is ${loss}.`,
          'Leave this scheme out of the candidates.',
        )
      }
      measured.push(Math.max(0, loss))
      options.onProgress?.(++done, total, unit.id)
    }
    losses.push(monotone(unit, measured))
  }
  return { units, losses }
}

/** Replaces each loss by the largest among the options of as many or more bytes. */
function monotone(unit: SchemeUnit, measured: readonly number[]): readonly number[] {
  return measured.map((_, i) => Math.max(...measured.filter((__, j) => (unit.options[j]?.bytes ?? 0) >= (unit.options[i]?.bytes ?? 0))))
}

/**
 * The best map for a target. "As it is", without loss, is a choice for every unit. Throws `compress.nothing-to-do` when the target cannot be
 * met, saying what the smallest choice takes.
 */
export function chooseSchemes(checkpoint: Checkpoint, table: LossTable, target: MixedTarget): SchemeMap {
  const { parameters, fixedBytes } = sizesOf(checkpoint, table.units)
  const front = frontOf(table)
  const budget = target.kind === 'loss' ? null : (target.kind === 'bytes' ? target.bytes : (target.bits * parameters) / 8) - fixedBytes
  const allocation = budget === null ? withinLoss(front, target.kind === 'loss' ? target.bound : 0) : withinBytes(front, budget)
  if (allocation === null) {
    const least = fixedBytes + (front.states[0]?.bytes ?? 0)
    throw new LatheError(
      'compress.nothing-to-do',
      `The target cannot be met: with every layer at its smallest the model still takes ${(least / 1e6).toFixed(1)} MB, ${((least * 8) / parameters).toFixed(2)} bits per weight.`,
      'Allow more bytes, or add a smaller scheme to the candidates.',
      { data: { leastBytes: least } },
    )
  }
  return mapOfAllocation(checkpoint, table, allocation, front.exact)
}

/** The map of one state of `frontOf(table)`. */
export function mapAt(checkpoint: Checkpoint, table: LossTable, front: Front, state: number): SchemeMap {
  return mapOfAllocation(checkpoint, table, front.allocation(state), front.exact)
}

function mapOfAllocation(checkpoint: Checkpoint, table: LossTable, allocation: Allocation, exact: boolean): SchemeMap {
  const { parameters, fixedBytes } = sizesOf(checkpoint, table.units)
  const choices = table.units.map((unit, i): SchemeChoice => {
    const index = allocation.choices[i] ?? unit.options.length
    const option = unit.options[index]
    return {
      unit: unit.id,
      modules: unit.modules,
      scheme: option?.scheme ?? null,
      bytes: option?.bytes ?? unit.plainBytes,
      loss: table.losses[i]?.[index] ?? 0,
    }
  })
  return mapOf(choices, fixedBytes, parameters, exact)
}

/** Puts another scheme (null = as it is) into a map: the per-layer override of a screen. */
export function withChoice(checkpoint: Checkpoint, table: LossTable, map: SchemeMap, unitId: string, scheme: Scheme | null): SchemeMap {
  const { parameters, fixedBytes } = sizesOf(checkpoint, table.units)
  const at = table.units.findIndex(({ id }) => id === unitId)
  const unit = table.units[at]
  if (unit === undefined) throw new LatheError('compress.invalid-recipe', `There is no layer "${unitId}".`, 'Choose one of the map.')
  const index = scheme === null ? -1 : unit.options.findIndex((option) => sameScheme(option.scheme, scheme))
  if (scheme !== null && index < 0) {
    throw new LatheError(
      'compress.invalid-recipe',
      `${unitId} cannot be stored as ${schemeName(scheme)}.`,
      'Choose one of its own options.',
    )
  }
  const choices = map.choices.map((choice, i): SchemeChoice => {
    if (i !== at) return choice
    const bytes = unit.options[index]?.bytes ?? unit.plainBytes
    return { unit: unit.id, modules: unit.modules, scheme, bytes, loss: table.losses[at]?.[index] ?? 0 }
  })
  return mapOf(choices, fixedBytes, parameters, map.exact)
}

function mapOf(choices: readonly SchemeChoice[], fixedBytes: number, parameters: number, exact: boolean): SchemeMap {
  const bytes = choices.reduce((sum, choice) => sum + choice.bytes, fixedBytes)
  const predictedLoss = choices.reduce((sum, choice) => sum + choice.loss, 0)
  return { choices, bytes, bitsPerWeight: (bytes * 8) / parameters, predictedLoss, exact }
}

/** Every map that no other beats in both bytes and loss. */
export function frontOf(table: LossTable): Front {
  return paretoFront(
    table.units.map((unit, i): readonly Option[] => [
      ...unit.options.map(({ bytes }, option) => ({ bytes, loss: table.losses[i]?.[option] ?? 0 })),
      { bytes: unit.plainBytes, loss: 0 },
    ]),
  )
}

function sizesOf(checkpoint: Checkpoint, units: readonly SchemeUnit[]): { readonly parameters: number; readonly fixedBytes: number } {
  let parameters = 0
  let bytes = 0
  for (const { shape, byteLength } of checkpoint.tensors.values()) {
    parameters += shape.reduce((product, size) => product * size, 1)
    bytes += byteLength
  }
  return { parameters, fixedBytes: bytes - units.reduce((sum, unit) => sum + unit.plainBytes, 0) }
}

/**
 * A recipe that stores what the map says: one group per scheme with the modules' own names as targets, so that no two groups ever claim the
 * same one. `store` is the algorithm; `before` runs ahead of it. Throws `compress.nothing-to-do` where every unit stays as it is.
 */
export function recipeOfMap(
  map: SchemeMap,
  observer: Observer,
  store: { readonly kind: 'quantization' } | { readonly kind: 'gptq'; readonly blockSize: number; readonly dampening: number },
  before: readonly RecipeStep[] = [],
): Recipe {
  const bySchemes: { readonly scheme: Scheme; readonly targets: string[] }[] = []
  for (const { scheme, modules } of map.choices) {
    if (scheme === null) continue
    const same = bySchemes.find((group) => sameScheme(group.scheme, scheme))
    if (same === undefined) bySchemes.push({ scheme, targets: [...modules] })
    else same.targets.push(...modules)
  }
  if (bySchemes.length === 0) {
    throw new LatheError('compress.nothing-to-do', 'Every layer of the map stays as it is.', 'Allow more loss, or fewer bytes.')
  }
  const digits = String(bySchemes.length - 1).length
  const groups = bySchemes.map(({ scheme, targets }, i): QuantizationGroupRecipe => ({
    name: `group_${String(i).padStart(digits, '0')}`,
    targets,
    scheme,
    observer,
  }))
  const ignore = ['lm_head', ...map.choices.filter(({ scheme }) => scheme === null).flatMap(({ modules }) => modules)]
  const step: RecipeStep =
    store.kind === 'quantization'
      ? { kind: 'quantization', groups, ignore }
      : { kind: 'gptq', groups, ignore, blockSize: store.blockSize, dampening: store.dampening, actorder: 'static' }
  return { steps: [...before, step] }
}

/** "14 × W4A16 g128, 4 × W8A16 g128, 3.9 bits per weight". */
export function describeMap(map: SchemeMap): string {
  const counts = Map.groupBy(map.choices, ({ scheme }) => (scheme === null ? 'as it is' : schemeName(scheme)))
  return [...[...counts].map(([name, list]) => `${list.length} × ${name}`), `${map.bitsPerWeight.toFixed(2)} bits per weight`].join(', ')
}
