/**
 * Python's `random.Random(seed)`: the Mersenne Twister (Matsumoto and Nishimura 1998) with CPython's seeding by integer and its `sample`, so that
 * the few-shot examples of a task are the ones that lm-eval draws. Knows nothing of tasks.
 */

const N = 624
const M = 397

export class PythonRandom {
  readonly #state = new Uint32Array(N)
  #index = N

  /** `seed` is taken as CPython takes a non-negative integer below 2^32. */
  constructor(seed: number) {
    // init_by_array([seed])
    this.#initialize(19650218)
    const state = this.#state
    const key = [seed >>> 0]
    let i = 1
    let j = 0
    for (let k = N; k > 0; k--) {
      const previous = state[i - 1] ?? 0
      state[i] = ((state[i] ?? 0) ^ Math.imul(previous ^ (previous >>> 30), 1664525)) + (key[j] ?? 0) + j
      i++
      j++
      if (i >= N) {
        state[0] = state[N - 1] ?? 0
        i = 1
      }
      if (j >= key.length) j = 0
    }
    for (let k = N - 1; k > 0; k--) {
      const previous = state[i - 1] ?? 0
      state[i] = ((state[i] ?? 0) ^ Math.imul(previous ^ (previous >>> 30), 1566083941)) - i
      i++
      if (i >= N) {
        state[0] = state[N - 1] ?? 0
        i = 1
      }
    }
    state[0] = 0x80000000
  }

  /** `Random.sample(range(n), k)`: k distinct indices in the order drawn. Throws RangeError if k > n. */
  sampleIndices(n: number, k: number): number[] {
    if (k > n) throw new RangeError(`${k} of ${n} can't be drawn`)
    // CPython keeps a pool where that is smaller than a set of what was drawn.
    let setSize = 21
    if (k > 5) setSize += 4 ** Math.ceil(Math.log(k * 3) / Math.log(4))
    if (n <= setSize) {
      const pool = Array.from({ length: n }, (_, i) => i)
      return Array.from({ length: k }, (_, i) => {
        const j = this.#below(n - i)
        const drawn = pool[j] ?? 0
        pool[j] = pool[n - i - 1] ?? 0
        return drawn
      })
    }
    const selected = new Set<number>()
    while (selected.size < k) {
      let j = this.#below(n)
      while (selected.has(j)) j = this.#below(n)
      selected.add(j)
    }
    return [...selected]
  }

  /** `Random.random()`: uniform in [0, 1) with 53 bits. */
  random(): number {
    return ((this.#next() >>> 5) * 67108864 + (this.#next() >>> 6)) / 9007199254740992
  }

  /** `_randbelow`: as many bits as n has, drawn until below n. n < 2^32. */
  #below(n: number): number {
    const bits = 32 - Math.clz32(n)
    let value = this.#next() >>> (32 - bits)
    while (value >= n) value = this.#next() >>> (32 - bits)
    return value
  }

  #initialize(seed: number): void {
    const state = this.#state
    state[0] = seed
    for (let i = 1; i < N; i++) {
      const previous = state[i - 1] ?? 0
      state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i
    }
  }

  #next(): number {
    const state = this.#state
    if (this.#index >= N) {
      for (let k = 0; k < N; k++) {
        const y = ((state[k] ?? 0) & 0x80000000) | ((state[(k + 1) % N] ?? 0) & 0x7fffffff)
        state[k] = (state[(k + M) % N] ?? 0) ^ (y >>> 1) ^ ((y & 1) === 0 ? 0 : 0x9908b0df)
      }
      this.#index = 0
    }
    let y = state[this.#index++] ?? 0
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c5680
    y ^= (y << 15) & 0xefc60000
    y ^= y >>> 18
    return y >>> 0
  }
}
