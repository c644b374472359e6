/** How a token is shown: its shade by divergence, and its spaces and line ends made visible. */

/** Lower bounds in nats. 0.01 is about the mean of a light quantization; 2 is another opinion altogether. */
const LEVELS = [0.01, 0.1, 0.5, 2] as const

/** 0 = next to none … 4 = worst. A divergence that is no number is the worst. */
export function tokenLevel(kld: number | null): number {
  if (kld === null) return LEVELS.length
  return LEVELS.filter((bound) => kld >= bound).length
}

/** Line ends are shown and kept; an empty token gets a mark, so that it can be pointed at. */
export function shownText(text: string): string {
  if (text === '') return '∅'
  return text.replaceAll('\r', '␍').replaceAll('\n', '⏎\n').replaceAll('\t', '⇥')
}
