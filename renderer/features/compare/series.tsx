/** The identity of a variant in every chart: colour and shape, fixed by its place in the family, so that colour is never alone. */
import type { Entry } from './metrics.ts'

const SHAPES = ['square', 'circle', 'diamond', 'triangle', 'star', 'cross', 'pentagon', 'wedge'] as const
const SERIES_COUNT = 8

export function seriesColor(series: number): string {
  return `var(--series-${series % SERIES_COUNT})`
}

function polygon(sides: number, radius: number, turn = -Math.PI / 2): string {
  return Array.from({ length: sides }, (_, index) => {
    const angle = turn + (index * 2 * Math.PI) / sides
    return `${(Math.cos(angle) * radius).toFixed(2)} ${(Math.sin(angle) * radius).toFixed(2)}`
  }).join('L')
}

/** Path of a series' shape around the origin; areas are about equal for equal radii. */
export function seriesPath(series: number, radius: number): string {
  switch (SHAPES[series % SERIES_COUNT]) {
    case 'square':
      return `M${-radius * 0.85} ${-radius * 0.85}h${radius * 1.7}v${radius * 1.7}h${-radius * 1.7}Z`
    case 'diamond':
      return `M${polygon(4, radius * 1.2)}Z`
    case 'triangle':
      return `M${polygon(3, radius * 1.25)}Z`
    case 'star':
      return `M${Array.from({ length: 10 }, (_, index) => {
        const angle = -Math.PI / 2 + (index * Math.PI) / 5
        const reach = index % 2 === 0 ? radius * 1.3 : radius * 0.6
        return `${(Math.cos(angle) * reach).toFixed(2)} ${(Math.sin(angle) * reach).toFixed(2)}`
      }).join('L')}Z`
    case 'cross': {
      const arm = radius * 0.4
      return `M${-arm} ${-radius}h${2 * arm}v${radius - arm}h${radius - arm}v${2 * arm}h${arm - radius}v${radius - arm}h${-2 * arm}v${arm - radius}h${arm - radius}v${-2 * arm}h${radius - arm}Z`
    }
    case 'pentagon':
      return `M${polygon(5, radius * 1.1)}Z`
    case 'wedge':
      return `M${polygon(3, radius * 1.25, Math.PI / 2)}Z`
    default:
      return `M${-radius} 0a${radius} ${radius} 0 1 0 ${2 * radius} 0a${radius} ${radius} 0 1 0 ${-2 * radius} 0Z`
  }
}

export function SeriesMark({ series, size = 12 }: { readonly series: number; readonly size?: number }) {
  return (
    <svg width={size} height={size} viewBox="-8 -8 16 16" aria-hidden>
      <path d={seriesPath(series, 5.5)} fill={seriesColor(series)} />
    </svg>
  )
}

/** A short name within the family: the source is "Original". */
export function entryTitle(entry: Entry, source: Entry | undefined): string {
  if (entry.isSource) return 'Original'
  const sourceName = source?.model.name
  if (sourceName === undefined || !entry.model.name.startsWith(sourceName)) return entry.model.name
  const rest = entry.model.name.slice(sourceName.length).replace(/^[\s·:→–-]+/, '')
  return rest === '' ? entry.model.name : rest
}
