/** The map of schemes on the demo model: fused modules agree, targets hold, and the recipe says what the map says. */
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../checkpoint/open.ts'
import { planCompression } from '../plan.ts'
import { parseRecipeYaml, recipeToYaml } from '../recipe-yaml.ts'
import type { Observer } from '../recipe.ts'
import type { Scheme } from '../scheme.ts'
import { chooseSchemes, measureLosses, recipeOfMap, schemeUnits, withChoice } from './scheme-map.ts'
import { proxyLoss } from './sensitivity.ts'

const DEMO = fileURLToPath(new URL('../../../assets/demo-model', import.meta.url))
const MINMAX: Observer = { kind: 'minmax' }
const W4: Scheme = { kind: 'packed-int', bits: 4, symmetric: true, strategy: 'group', groupSize: 64 }
const W8: Scheme = { kind: 'packed-int', bits: 8, symmetric: true, strategy: 'channel', groupSize: null }

describe('automatic mixed precision', () => {
  it('chooses for bytes, bits and loss, exactly as planned, and lets a person change a layer', async () => {
    await using checkpoint = await openCheckpoint(DEMO)
    const units = schemeUnits(checkpoint, [W4, W8])
    const fused = units.find(({ id }) => id.includes('q_proj'))
    expect(fused?.modules.map((name) => name.split('.').at(-1))).toEqual(['k_proj', 'q_proj', 'v_proj'])
    const table = await measureLosses(
      units,
      proxyLoss(checkpoint, MINMAX, () => Promise.resolve(null)),
    )
    // Four bits lose more than eight wherever there is something to lose.
    expect(table.losses.every(([four = 0, eight = 0]) => four > eight)).toBe(true)

    const all4 = planCompression(
      checkpoint,
      recipeOfMap(chooseSchemes(checkpoint, table, { kind: 'loss', bound: 1e9 }), MINMAX, { kind: 'quantization' }),
    )
    const budget = Math.round(all4.bytesOut * 1.2)
    const map = chooseSchemes(checkpoint, table, { kind: 'bytes', bytes: budget })
    expect(map.bytes).toBeLessThanOrEqual(budget)
    expect(new Set(map.choices.map(({ scheme }) => scheme?.kind === 'packed-int' && scheme.bits)).size).toBeGreaterThan(1)
    const recipe = recipeOfMap(map, MINMAX, { kind: 'quantization' })
    const plan = planCompression(checkpoint, recipe)
    expect(plan.bytesOut).toBe(map.bytes)
    expect(plan.bitsPerWeight).toBeCloseTo(map.bitsPerWeight, 12)
    expect(parseRecipeYaml(recipeToYaml(recipe))).toEqual(recipe)

    const bits = chooseSchemes(checkpoint, table, { kind: 'bits-per-weight', bits: map.bitsPerWeight })
    expect(bits.predictedLoss).toBeLessThanOrEqual(map.predictedLoss)
    const bound = chooseSchemes(checkpoint, table, { kind: 'loss', bound: map.predictedLoss })
    expect(bound.bytes).toBeLessThanOrEqual(map.bytes)
    expect(bound.predictedLoss).toBeLessThanOrEqual(map.predictedLoss)

    const [first] = map.choices
    const changed = withChoice(checkpoint, table, map, first!.unit, null)
    expect(changed.choices[0]).toMatchObject({ scheme: null, loss: 0 })
    const { ignored, bytesOut } = planCompression(checkpoint, recipeOfMap(changed, MINMAX, { kind: 'quantization' }))
    expect(bytesOut).toBe(changed.bytes)
    expect(ignored.map(({ name }) => name)).toEqual(expect.arrayContaining([...first!.modules]))
    expect(() => withChoice(checkpoint, table, map, 'model.layers.99', W4)).toThrow('There is no layer')
  })

  it('says what is possible when the target is not', async () => {
    await using checkpoint = await openCheckpoint(DEMO)
    const units = schemeUnits(checkpoint, [W4])
    const table = await measureLosses(units, () => Promise.resolve(1))
    expect(() => chooseSchemes(checkpoint, table, { kind: 'bits-per-weight', bits: 1 })).toThrow(
      /the model still takes \d+\.\d MB, \d+\.\d\d bits per weight/,
    )
    const plain = chooseSchemes(checkpoint, table, { kind: 'loss', bound: 0.5 })
    expect(plain.choices.every(({ scheme }) => scheme === null)).toBe(true)
    expect(() => recipeOfMap(plain, MINMAX, { kind: 'quantization' })).toThrow('Every layer of the map stays as it is')
    const cancelled = new AbortController()
    cancelled.abort()
    await expect(measureLosses(units, () => Promise.resolve(1), { signal: cancelled.signal })).rejects.toThrow('was cancelled')
  })
})
