/**
 * The smallest map of schemes that stays within a loss. First what every layer loses alone, which orders the maps; then whole maps, rounded in
 * memory, until the smallest that holds is found; then the folder itself, fitted to text, measured on held-out text. What comes out better or
 * worse than the search said moves the map once or twice more.
 */
import { openCheckpoint } from '../../checkpoint/open.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'
import { BoundSearch } from '../../compress/mixed-precision/bound-search.ts'
import { roundedCheckpoint } from '../../compress/mixed-precision/rounded-checkpoint.ts'
import { describeMap, frontOf, mapAt, measureLosses, recipeOfMap, schemeUnits } from '../../compress/mixed-precision/scheme-map.ts'
import type { LossTable, SchemeUnit } from '../../compress/mixed-precision/scheme-map.ts'
import { proxyLoss } from '../../compress/mixed-precision/sensitivity.ts'
import { GPTQ_DEFAULTS } from '../../compress/modifiers-yaml.ts'
import type { PresetOutcome } from '../../compress/presets.ts'
import type { Observer } from '../../compress/recipe.ts'
import { boundOfShare } from '../../contract/index.ts'
import { benchLoss } from '../layer-divergence.ts'
import { openMeasuring, tryCandidate } from './candidate.ts'
import type { OutcomeRun, TriedCandidate } from './candidate.ts'

/** As the presets search their scales. */
const OBSERVER: Observer = { kind: 'mse', maxShrink: 0.25, grid: 40, norm: 2 }
/** Every measurement of a layer loads the model once: beyond this many bytes in all (minutes, at a GPU's pace) the weights alone order the maps. */
const MEASURED_BYTES = 1e12
/** Rounded in memory, weights of 16 bits take 32. */
const ROUNDED_GROWTH = 2
/** Whole maps tried in memory, and folders written: bisection needs no more for a few hundred useful states. */
const MAPS_IN_MEMORY = 7
const FOLDERS = 3

export async function smallestHolding(
  run: OutcomeRun,
  { share, schemes }: Extract<PresetOutcome, { kind: 'holds' }>,
): Promise<readonly TriedCandidate[]> {
  const { options } = run
  await using source = await openCheckpoint(options.sourceFolder)
  const units = schemeUnits(source, schemes)
  const table = await lossTable(run, source, units)
  const front = frontOf(table)
  const bound = boundOfShare(share)
  const found = await searchInMemory(run, source, table, new BoundSearch(front, bound))
  options.onLog?.({ level: 'info', text: `Map: ${describeMap(mapAt(source, table, front, found.held))}.` })

  const tried: TriedCandidate[] = []
  const search = new BoundSearch(front, bound, found.ratio)
  let state: number | null = found.held
  while (state !== null && tried.length < FOLDERS) {
    const map = mapAt(source, table, front, state)
    const number = tried.length + 1
    const recipe = recipeOfMap(map, OBSERVER, { kind: 'gptq', ...GPTQ_DEFAULTS })
    if (number > 1) options.onLog?.({ level: 'info', text: `Trying another map: ${describeMap(map)}.` })
    const plan = { id: `map-${number}`, title: `Map ${number}`, recipe, predictedLoss: map.predictedLoss * found.ratio }
    const candidate = await tryCandidate(run, plan, tried.length, number)
    tried.push(candidate)
    search.report(state, candidate.measured.kldMean)
    state = search.next()
  }
  return tried
}

async function lossTable(run: OutcomeRun, source: Checkpoint, units: readonly SchemeUnit[]): Promise<LossTable> {
  const { options, store, text } = run
  const count = units.reduce((sum, unit) => sum + unit.options.length, 0)
  const title = 'Measuring layers'
  const onProgress = (done: number, of: number): void => run.stage({ id: 'layers', title, finished: 0, total: 1, done, of })
  const signal = options.signal === undefined ? {} : { signal: options.signal }
  if (count * bytesOf(source) > MEASURED_BYTES) {
    options.onLog?.({
      level: 'info',
      text: `Layers are ordered by what rounding loses of their weights: ${count} loads of this model would take too long.`,
    })
    return await measureLosses(
      units,
      proxyLoss(source, OBSERVER, () => Promise.resolve(null)),
      { ...signal, onProgress },
    )
  }
  options.onLog?.({ level: 'info', text: `Measuring what each of ${units.length} groups of linears loses alone: ${count} measurements.` })
  await using bench = await openMeasuring(run, text.choosing, bytesOf(source), ROUNDED_GROWTH * bytesOf(source))
  const loss = benchLoss(bench, source, OBSERVER)
  return await measureLosses(
    units,
    async (unit, index) => {
      const key = `${unit.id} ${index}`
      const known = store.state.losses[key]
      if (known !== undefined) return known
      const kldMean = await loss(unit, index)
      if (Number.isFinite(kldMean)) await store.update({ losses: { ...store.state.losses, [key]: kldMean } })
      return kldMean
    },
    { ...signal, onProgress },
  )
}

async function searchInMemory(run: OutcomeRun, source: Checkpoint, table: LossTable, search: BoundSearch): Promise<BoundSearch> {
  const { store, text } = run
  const front = frontOf(table)
  await using bench = await openMeasuring(run, text.choosing, bytesOf(source), ROUNDED_GROWTH * bytesOf(source))
  for (let count = 1; count <= MAPS_IN_MEMORY; count++) {
    const state = search.next()
    if (state === null) break
    run.stage({ id: 'layers', title: `Trying map ${count}`, finished: 0, total: 1, done: count - 1, of: MAPS_IN_MEMORY })
    const known = store.state.maps[state]
    if (known !== undefined) {
      search.report(state, known)
      continue
    }
    const rounded = roundedCheckpoint(source, mapAt(source, table, front, state).choices, OBSERVER)
    const { kldMean } = await bench.measure(rounded)
    if (Number.isFinite(kldMean)) await store.update({ maps: { ...store.state.maps, [state]: kldMean } })
    search.report(state, kldMean)
  }
  return search
}

function bytesOf(source: Checkpoint): number {
  return [...source.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0)
}
