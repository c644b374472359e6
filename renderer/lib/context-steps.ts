/** The stops of every context slider: powers of two, as context limits are. */
export const CONTEXT_STEPS: readonly number[] = [256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144]

/** Stops up to a model's limit; the limit itself is the last one even where it is no power of two. */
export function contextStepsUpTo(limit: number | null): readonly number[] {
  if (limit === null) return CONTEXT_STEPS
  const below = CONTEXT_STEPS.filter((step) => step < limit)
  return [...below, limit]
}

/** Index of the stop nearest to a number of tokens, by ratio. */
export function nearestStep(steps: readonly number[], tokens: number): number {
  let best = 0
  for (const [index, step] of steps.entries()) {
    if (Math.abs(Math.log(step / tokens)) < Math.abs(Math.log((steps[best] ?? 1) / tokens))) best = index
  }
  return best
}
