/**
 * Scales that a checkpoint brings for an FP8 key-value cache (specs/compressed-tensors.md §7): `self_attn.k_scale` and `v_scale` of every layer,
 * one number each or one per key-value head, absmax / 448 of what calibration saw. An FP8 cache of ours uses them as vLLM's does, so that what
 * is measured here is what is served there; every other cache finds its scales as it goes. And whether the checkpoint asks for such a cache.
 */
import { widenToF32 } from '../checkpoint/dtypes.ts'
import { UNSET_ARGS } from '../checkpoint/quantization-config.ts'
import type { Checkpoint, QuantizationArgs } from '../checkpoint/types.ts'
import { LatheError } from '../contract/errors.ts'
import type { KvStaticScales } from '../gpu/program.ts'

const FP8_BITS = 8

/** The only scheme that vLLM reads for a cache: FP8, one static scale for keys and one for values. */
export const FP8_CACHE_ARGS: QuantizationArgs = { ...UNSET_ARGS, type: 'float' }

/** The cache that the checkpoint names (`kv_cache_scheme`), as vLLM's `auto` takes it; null where it names none, or one that vLLM refuses too. */
export function namedCacheType({ quantization }: Checkpoint): 'fp8' | null {
  const scheme = quantization?.keyValueScheme ?? null
  return scheme !== null && scheme.type === 'float' && scheme.numBits === FP8_BITS ? 'fp8' : null
}

/** Null where the checkpoint has none. Throws `checkpoint.missing-tensor` and `checkpoint.invalid-tensor` where only some fit. */
export async function readKeyValueScales(checkpoint: Checkpoint, layers: number, kvHeads: number): Promise<KvStaticScales | null> {
  const all = Array.from({ length: layers }, (_, layer) => [scaleName(layer, 'k'), scaleName(layer, 'v')]).flat()
  const present = all.filter((each) => checkpoint.tensors.has(each))
  if (present.length === 0) return null
  const missing = all.find((each) => !checkpoint.tensors.has(each))
  if (missing !== undefined) {
    throw new LatheError(
      'checkpoint.missing-tensor',
      `The checkpoint has cache scales for some layers, but no "${missing}".`,
      'Download it again, or serve it with a cache in 16 bits.',
    )
  }
  const read = (which: 'k' | 'v'): Promise<Float32Array[]> =>
    Promise.all(Array.from({ length: layers }, (_, layer) => readScale(checkpoint, scaleName(layer, which), kvHeads)))
  return { keys: await read('k'), values: await read('v') }
}

function scaleName(layer: number, which: 'k' | 'v'): string {
  return `model.layers.${layer}.self_attn.${which}_scale`
}

async function readScale(checkpoint: Checkpoint, name: string, kvHeads: number): Promise<Float32Array> {
  const entry = checkpoint.tensors.get(name)
  const count = entry?.shape.reduce((product, size) => product * size, 1) ?? 0
  if (entry === undefined || !['F32', 'F16', 'BF16'].includes(entry.dtype) || (count !== 1 && count !== kvHeads)) {
    throw invalid(name, `is ${entry?.dtype} [${entry?.shape.join(', ')}]; 1 or ${kvHeads} floating-point numbers are needed`)
  }
  const scales = widenToF32(await checkpoint.open(name).read(0, entry.byteLength), entry.dtype).slice()
  const bad = scales.find((scale) => !(scale > 0 && Number.isFinite(scale)))
  if (bad !== undefined) throw invalid(name, `holds ${bad}, which no cache can be scaled by`)
  return scales
}

function invalid(name: string, why: string): LatheError {
  return new LatheError('checkpoint.invalid-tensor', `${name} ${why}.`, 'Serve the model with a cache in 16 bits, or calibrate it again.')
}
