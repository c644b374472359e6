import { expect, test } from 'vitest'
import type { Checkpoint } from '../checkpoint/types.ts'
import { readKeyValueScales } from './key-value-scales.ts'
import { memoryCheckpoint, TINY_CONFIG, tinyShapes, type TensorShapes } from './test/memory-checkpoint.ts'

/** Every tensor holds ¼ in BF16 throughout. */
function checkpointOf(shapes: TensorShapes): Checkpoint {
  const zeros = memoryCheckpoint(TINY_CONFIG, { ...tinyShapes(), ...shapes })
  const open: Checkpoint['open'] = (name) => ({
    ...zeros.open(name),
    read: (_, length) => Promise.resolve(new Uint8Array(Uint16Array.from({ length: length / 2 }, () => 0x3e80).buffer)),
  })
  return { ...zeros, open }
}

const scales = (layers: readonly number[], ...shape: number[]): TensorShapes =>
  Object.fromEntries(
    layers.flatMap((layer) => ['k', 'v'].map((which) => [`model.layers.${layer}.self_attn.${which}_scale`, ['BF16', ...shape] as const])),
  )

test('one scale a layer, or one per head', async () => {
  const one = await readKeyValueScales(checkpointOf(scales([0, 1], 1)), 2, 2)
  expect(one).toEqual({ keys: [Float32Array.of(0.25), Float32Array.of(0.25)], values: [Float32Array.of(0.25), Float32Array.of(0.25)] })
  const perHead = await readKeyValueScales(checkpointOf(scales([0, 1], 2, 1, 1)), 2, 2)
  expect(perHead?.keys).toEqual([Float32Array.of(0.25, 0.25), Float32Array.of(0.25, 0.25)])
})

test('none, some, and ones that scale nothing', async () => {
  expect(await readKeyValueScales(checkpointOf({}), 2, 2)).toBeNull()
  await expect(readKeyValueScales(checkpointOf(scales([0], 1)), 2, 2)).rejects.toThrow('model.layers.1.self_attn.k_scale')
  await expect(readKeyValueScales(checkpointOf(scales([0, 1], 3)), 2, 2)).rejects.toThrow('[3]; 1 or 2')
  await expect(readKeyValueScales(memoryCheckpoint(TINY_CONFIG, scales([0, 1], 1)), 2, 2)).rejects.toThrow('holds 0')
})
