/**
 * Where the names of points stand in a chart so that none lies over another name or another point's mark: beside the mark where there is room, else
 * above, below or at a corner; cut where long, left out where nothing is free (the chart's card and table still say it). Pixels only, greedy.
 */
export interface LabelledMark {
  readonly x: number
  readonly y: number
  readonly radius: number
  readonly text: string
  /** Placed earlier. */
  readonly important: boolean
}

export interface LabelPlace {
  /** From the mark's centre to the text's anchor, on its middle line. */
  readonly dx: number
  readonly dy: number
  readonly anchor: 'start' | 'middle' | 'end'
  readonly text: string
}

/** Mean width of a letter and height of a line at the charts' 11 px. */
const LETTER = 6.1
const LINE = 13
const GAP = 6
const LONGEST = 26

interface Box {
  readonly left: number
  readonly right: number
  readonly top: number
  readonly bottom: number
}

/** In the order of the marks; null = no room. */
export function placeLabels(
  marks: readonly LabelledMark[],
  area: { readonly width: number; readonly height: number },
): readonly (LabelPlace | null)[] {
  const taken: Box[] = marks.map(({ x, y, radius }) => ({ left: x - radius, right: x + radius, top: y - radius, bottom: y + radius }))
  const places: (LabelPlace | null)[] = marks.map(() => null)
  const order = marks.map((mark, index) => ({ mark, index })).toSorted((a, b) => Number(b.mark.important) - Number(a.mark.important))
  for (const { mark, index } of order) {
    const text = mark.text.length > LONGEST ? `${mark.text.slice(0, LONGEST - 1).trimEnd()}…` : mark.text
    const place = candidates(mark, text, area.width).find((candidate) => {
      const box = boxOf(mark, candidate)
      const inside = box.left >= 0 && box.right <= area.width && box.top >= 0 && box.bottom <= area.height
      return inside && !taken.some((other, at) => at !== index && overlap(box, other))
    })
    if (place === undefined) continue
    places[index] = place
    taken.push(boxOf(mark, place))
  }
  return places
}

/** Best first: towards the middle, then away from it, then off the line that whiskers run on. */
function candidates({ x, radius }: LabelledMark, text: string, width: number): LabelPlace[] {
  const beside = radius + GAP
  const off = radius + LINE / 2 + 2
  const right = { dx: beside, anchor: 'start', text } as const
  const left = { dx: -beside, anchor: 'end', text } as const
  const sides = x > width * 0.6 ? [left, right] : [right, left]
  const middle = { dx: 0, anchor: 'middle', text } as const
  return [
    ...sides.map((side) => ({ ...side, dy: 0 })),
    ...sides.flatMap((side) => [-off, off].map((dy) => ({ ...side, dy }))),
    ...[-off, off].map((dy) => ({ ...middle, dy })),
  ]
}

function boxOf({ x, y }: LabelledMark, { dx, dy, anchor, text }: LabelPlace): Box {
  const width = text.length * LETTER
  const left = x + dx - (anchor === 'start' ? 0 : anchor === 'end' ? width : width / 2)
  return { left, right: left + width, top: y + dy - LINE / 2, bottom: y + dy + LINE / 2 }
}

function overlap(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom
}
