/**
 * Seeded pseudo-random numbers for resampling. Not for sampling tokens (that generator is counter-based and lives with the runtime)
 * and not for anything secret. Algorithm: xoshiro128** (Blackman and Vigna 2018), state filled by splitmix32 from one seed.
 */

/** Returns a function that yields uniform integers in [0, n), n ≤ 2^32. Same seed, same sequence, on every machine. */
export function createIndexSampler(seed: number): (n: number) => number {
  let splitmix = seed >>> 0
  const nextSeedWord = (): number => {
    splitmix = (splitmix + 0x9e3779b9) >>> 0
    let z = splitmix
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b)
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35)
    return (z ^ (z >>> 16)) >>> 0
  }
  let a = nextSeedWord()
  let b = nextSeedWord()
  let c = nextSeedWord()
  let d = nextSeedWord()
  const nextWord = (): number => {
    const scrambled = Math.imul(b, 5)
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0
    const t = b << 9
    c ^= a
    d ^= b
    b ^= c
    a ^= d
    c ^= t
    d = (d << 11) | (d >>> 21)
    return result
  }
  // 2^32 · n fits a double exactly for n < 2^21; the bias of the multiply-shift map is below 2^-11 even there.
  return (n) => Math.floor((nextWord() / 4294967296) * n)
}
