/**
 * Counter-based randomness for sampling: noise is a pure function of (seed, output index, token id), so a sampled token depends on nothing
 * that happened before or beside it: no state, no batch order, no preemption (specs/runtime.md §5.4). Only u32 additions, rotations and
 * exclusive-ors, so that a shader computes the same bits; the steps below are the definition that WGSL mirrors.
 *
 * 1. (x0, x1) = Threefry-2x32 with 20 rounds, key (seedLow, seedHigh), counter (outputIndex, tokenId).
 *    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. x1 is not used.
 * 2. v = x0 · 2⁻³² with x0 cut to its 24 leading significant bits, so that v is exact in f32; x0 = 0 counts as ½. 2⁻³³ ≤ v ≤ 1 − 2⁻²⁴.
 * 3. u = 1 − v, E = −log u = −log1p(−v), g = −log E. The winners of a Gumbel-max draw have small v, so nothing may compute u first and
 *    then its logarithm in f32. A shader without log1p uses, for v < ¼, the series 2(s + s³/3 + s⁵/5 + s⁷/7 + s⁹/9) with s = v / (2 − v)
 *    (relative error < 1e-8) and −log(1 − v) above.
 */

/** Rotation distances of Threefry-2x32, repeated every eight rounds (table 2 of the paper). */
const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24] as const
const ROUNDS = 20
/** Skein's key-schedule parity constant, 32-bit form: keeps an all-zero key from being a fixed point. */
const PARITY = 0x1bd11bda

/** Threefry-2x32-20: encrypts the counter with the key. All words are u32. */
export function threefry2x32(key0: number, key1: number, counter0: number, counter1: number): readonly [number, number] {
  const keys = [key0 | 0, key1 | 0, key0 ^ key1 ^ PARITY] as const
  let x0 = (counter0 + keys[0]) | 0
  let x1 = (counter1 + keys[1]) | 0
  for (let round = 0; round < ROUNDS; round++) {
    const distance = ROTATIONS[round % 8] ?? 0
    x0 = (x0 + x1) | 0
    x1 = ((x1 << distance) | (x1 >>> (32 - distance))) ^ x0
    if (round % 4 === 3) {
      const injection = (round + 1) / 4
      x0 = (x0 + (keys[injection % 3] ?? 0)) | 0
      x1 = (x1 + (keys[(injection + 1) % 3] ?? 0) + injection) | 0
    }
  }
  return [x0 >>> 0, x1 >>> 0]
}

/** Step 2: a u32 as v in [2⁻³³, 1 − 2⁻²⁴], exact in f32. */
export function unitInterval(word: number): number {
  if (word === 0) return 2 ** -33
  const surplusBits = Math.max(0, 8 - Math.clz32(word))
  const leading = ((word >>> surplusBits) << surplusBits) >>> 0
  return leading * 2 ** -32
}

/** Step 3: standard Gumbel noise of a row and token, in f64. */
export function gumbelNoise(seedLow: number, seedHigh: number, outputIndex: number, tokenId: number): number {
  const [word] = threefry2x32(seedLow, seedHigh, outputIndex, tokenId)
  return -Math.log(-Math.log1p(-unitInterval(word)))
}
