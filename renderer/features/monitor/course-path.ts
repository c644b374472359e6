/** A figure's course as an SVG path over time. What is missing is a gap, not a zero. */

export interface CoursePoint {
  readonly atMs: number
  readonly value: number | null
}

export const VIEW = { width: 600, height: 100 } as const

/** Path of the points within the window that ends at `endMs`; `top` is the value at the upper edge. */
export function coursePath(
  points: readonly CoursePoint[],
  window: { readonly endMs: number; readonly spanMs: number },
  top: number,
): string {
  const { endMs, spanMs } = window
  let path = ''
  let pen = 'M'
  for (const { atMs, value } of points) {
    if (value === null || atMs < endMs - spanMs) {
      pen = 'M'
      continue
    }
    const x = VIEW.width * (1 - (endMs - atMs) / spanMs)
    const y = VIEW.height * (1 - Math.min(1, Math.max(0, value / top)))
    path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`
    pen = 'L'
  }
  return path
}

/** A round number at or above the largest value, so that the scale does not twitch with every sample. */
export function niceTop(largest: number): number {
  if (!(largest > 0)) return 1
  const power = 10 ** Math.floor(Math.log10(largest))
  return ([1, 2, 5, 10].find((step) => step * power >= largest * 1.0001) ?? 10) * power
}
