/** The shape of a series as a path, so that colour is never alone; pure, for the page and for reports. */

const SHAPES = ['square', 'circle', 'diamond', 'triangle', 'star', 'cross', 'pentagon', 'wedge'] as const
/** Odd, so that eight rounds pass before a pair of colour and shape comes again. */
const ROUND_SHIFT = 3

function polygon(sides: number, radius: number, turn = -Math.PI / 2): string {
  return Array.from({ length: sides }, (_, index) => {
    const angle = turn + (index * 2 * Math.PI) / sides
    return `${(Math.cos(angle) * radius).toFixed(2)} ${(Math.sin(angle) * radius).toFixed(2)}`
  }).join('L')
}

/** Path of a series' shape around the origin; areas are about equal for equal radii. */
export function seriesPath(series: number, radius: number): string {
  // Colours come again after eight: each round pairs them with other shapes.
  const shape = (series + ROUND_SHIFT * Math.floor(series / SHAPES.length)) % SHAPES.length
  switch (SHAPES[shape]) {
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
