/**
 * A model with outlier channels where the original has none: some channels of every norm are multiplied by a power of two and the columns that
 * read them divided by it, which changes no output at all, but leaves inputs whose few large channels take the range of all others. What
 * SmoothQuant is for (Xiao et al. 2022). Knows Llama-like names only.
 */
import { mkdir, copyFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isDenseDtype, narrowFromF32, widenToF32 } from '../../../engine/checkpoint/dtypes.ts'
import { openCheckpoint } from '../../../engine/checkpoint/open.ts'
import { createSafetensorsWriter, planSafetensors } from '../../../engine/checkpoint/safetensors-writer.ts'

export const OUTLIERS_SUFFIX = '-outliers'
/** A power of two: bits of the mantissa stay. */
const FACTOR = 32
const CHANNELS = 8

const NORM = /\.(input_layernorm|post_attention_layernorm)\.weight$/
const READER = /\.(q_proj|k_proj|v_proj|gate_proj|up_proj)\.weight$/

/** Writes `target`, which must not exist yet; everything but the weights is copied. */
export async function plantOutliers(source: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true })
  for (const name of await readdir(source)) {
    if (/\.(json|model|txt|jinja)$/.test(name) && !name.endsWith('.safetensors.index.json'))
      await copyFile(join(source, name), join(target, name))
  }
  await using checkpoint = await openCheckpoint(source)
  const plan = planSafetensors(
    [...checkpoint.tensors.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape })),
    {},
  )
  await using writer = await createSafetensorsWriter({ folder: target, plan })
  for (const { name, dtype, shape, byteLength } of checkpoint.tensors.values()) {
    const bytes = await checkpoint.open(name).read(0, byteLength)
    const power = NORM.test(name) ? FACTOR : READER.test(name) ? 1 / FACTOR : 1
    if (power === 1 || !isDenseDtype(dtype)) {
      await writer.write(name, bytes)
      continue
    }
    const values = widenToF32(bytes, dtype).slice()
    const columns = shape.at(-1) ?? 0
    const every = Math.floor(columns / CHANNELS)
    for (let i = 0; i < values.length; i++) if ((i % columns) % every === 0) values[i] = (values[i] as number) * power
    await writer.write(name, narrowFromF32(values, dtype))
  }
  await writer.finish()
}
