/** Seeded matrices and activations for algorithm tests: the same everywhere. */

/** Normal numbers by Box–Muller over a 32-bit linear congruential generator; good enough to make matrices. */
export function normals(count: number, seed: number): Float64Array {
  let state = seed >>> 0
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state + 0.5) / 4294967296
  }
  return Float64Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()))
}

/** Inputs with correlated columns of very different sizes, as activations have them. [tokens, cols] */
export function activations(tokens: number, cols: number, seed: number): Float32Array {
  const latent = normals(tokens * 4, seed)
  const mixing = normals(4 * cols, seed + 1)
  const noise = normals(tokens * cols, seed + 2)
  return Float32Array.from({ length: tokens * cols }, (_, i) => {
    const [token, column] = [Math.floor(i / cols), i % cols]
    let value = 0.4 * noise[i]!
    for (let k = 0; k < 4; k++) value += latent[token * 4 + k]! * mixing[k * cols + column]!
    return value * (column % 5 === 0 ? 6 : 1)
  })
}

/** Of an invertible [n, n] matrix: Gauss–Jordan with partial pivoting. */
export function inverse(matrix: Float64Array, n: number): Float64Array {
  const a = Array.from({ length: n }, (_, i) => [
    ...matrix.subarray(i * n, (i + 1) * n),
    ...Array.from({ length: n }, (__, j) => Number(i === j)),
  ])
  for (let c = 0; c < n; c++) {
    let best = c
    for (let r = c + 1; r < n; r++) if (Math.abs(a[r]![c]!) > Math.abs(a[best]![c]!)) best = r
    ;[a[c], a[best]] = [a[best]!, a[c]!]
    const pivot = a[c]![c]!
    a[c] = a[c]!.map((value) => value / pivot)
    for (let r = 0; r < n; r++) {
      const scale = a[r]![c]!
      if (r !== c) a[r] = a[r]!.map((value, j) => value - scale * a[c]![j]!)
    }
  }
  return Float64Array.from(a.flatMap((row) => row.slice(n)))
}
