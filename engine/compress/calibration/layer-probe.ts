/** A part of a layer on a share of the calibration activations, for candidates that only running them can judge. */
import type { Checkpoint } from '../../checkpoint/types.ts'
import type { ActivationStore } from './activations.ts'
import type { Candidate, LayerProbe } from './layer-context.ts'
import type { LayerRunner } from './layer-runner.ts'

export interface ProbeOptions {
  readonly runner: LayerRunner
  /** The layer's inputs. */
  readonly store: ActivationStore
  readonly layer: number
  readonly part: 'attention' | 'mlp'
  readonly tokens: number
  /** The layer's weights as they are, with a candidate's in place of some. */
  readonly checkpoint: (candidate: Candidate) => Checkpoint
}

export async function openProbe({ runner, store, layer, part, tokens, checkpoint }: ProbeOptions): Promise<LayerProbe> {
  const groups: number[] = []
  let taken = 0
  for (const [index, group] of runner.groups.entries()) {
    if (groups.length > 0 && taken + group.rows > tokens) break
    groups.push(index)
    taken += group.rows
  }
  const run = (
    weights: Checkpoint,
    which: 'attention' | 'mlp',
    inputs: (group: number) => Promise<Float32Array>,
    take: (group: number, output: Float32Array) => void,
  ): Promise<void> =>
    runner.outputs(weights, layer, {
      ...(which === 'attention' ? { at: 'attention' } : { at: 'layer', from: 'attention' }),
      groups,
      activations: inputs,
      take: (group, output) => {
        take(group, output)
        return Promise.resolve()
      },
    })
  const unchanged = checkpoint({})
  // The MLP's inputs are computed once: no candidate of its own changes them.
  const afterAttention = new Map<number, Float32Array>()
  if (part === 'mlp')
    await run(
      unchanged,
      'attention',
      (group) => store.get(group),
      (group, output) => afterAttention.set(group, output),
    )
  const inputs = (group: number): Promise<Float32Array> => {
    const own = afterAttention.get(group)
    return own === undefined ? store.get(group) : Promise.resolve(own)
  }
  const reference = new Map<number, Float32Array>()
  await run(unchanged, part, inputs, (group, output) => reference.set(group, output))
  let added = 0
  for (const group of groups) added += squaredDistance(reference.get(group) ?? new Float32Array(0), await inputs(group))
  const count = taken * runner.spec.hiddenSize
  return {
    tokens: taken,
    meanSquare: added / count,
    meanSquaredError: async (candidate) => {
      let error = 0
      await run(checkpoint(candidate), part, inputs, (group, output) => {
        error += squaredDistance(output, reference.get(group) ?? output)
      })
      return error / count
    },
    [Symbol.asyncDispose]: () => {
      reference.clear()
      afterAttention.clear()
      return Promise.resolve()
    },
  }
}

function squaredDistance(a: Float32Array, b: Float32Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += ((a[i] as number) - (b[i] as number)) ** 2
  return sum
}
