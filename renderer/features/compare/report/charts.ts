/** The board's charts as static SVG: frontier, bars and the error of every layer. Everything drawn is also in a table or a title. */
import type { TensorError } from '../../../../engine/contract/index.ts'
import { formatSignificant } from '../../../lib/format.ts'
import { cellKey, heatColor, heatGrid, heatShare, heatValue } from '../heat-grid.ts'
import { axisTitle, type Entry, type Metric } from '../metrics.ts'
import { axisDomain, niceTicks } from '../pareto.ts'
import { type LabelPlace, placeLabels } from '../label-places.ts'
import { pointsOf } from '../points.ts'
import { seriesPath } from '../series-path.ts'
import { html, type Markup } from './markup.ts'

const WIDTH = 820
const HEIGHT = 340
const PLOT = { left: 84, right: 24, top: 26, bottom: 40 } as const
const SERIES_COUNT = 8

export function seriesVariable(series: number): string {
  return `var(--s${series % SERIES_COUNT})`
}

function at(value: number): string {
  return value.toFixed(1)
}

/** No tick below zero where nothing is. */
function floor(values: readonly number[]): number {
  return Math.min(...values) >= 0 ? 0 : Number.NEGATIVE_INFINITY
}

interface FrontierInput {
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
  readonly x: Metric
  readonly y: Metric
  readonly decode: Metric | undefined
}

/** null until two points can stand on the axes. */
export function frontierChart({ entries, baseline, source, x, y, decode }: FrontierInput): Markup | null {
  const { points, left } = pointsOf({ entries, baseline, source, metrics: { x, y, decode } })
  if (points.length < 2) return null
  const [x0, x1] = axisDomain(points.map((point) => point.x))
  const [y0, y1] = axisDomain(points.flatMap((point) => [point.y - point.error[0], point.y + point.error[1]]))
  const px = (value: number): number => PLOT.left + ((value - x0) / (x1 - x0)) * (WIDTH - PLOT.left - PLOT.right)
  const share = (value: number): number => (y.better === 'up' ? (y1 - value) / (y1 - y0) : (value - y0) / (y1 - y0))
  const py = (value: number): number => PLOT.top + share(value) * (HEIGHT - PLOT.top - PLOT.bottom)
  const places = placeLabels(
    points.map((point) => ({
      x: px(point.x),
      y: py(point.y),
      radius: point.radius,
      text: point.title,
      important: point.onFrontier,
    })),
    { width: WIDTH, height: HEIGHT - PLOT.bottom },
  )
  const frontier = points.filter((point) => point.onFrontier)
  const xTicks = niceTicks([x0, x1], { count: 6, floor: floor(points.map((point) => point.x)) })
  const yTicks = niceTicks([y0, y1], { floor: floor(points.map((point) => point.y)) })
  return html`<figure>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="${y.title} against ${x.title}">
      ${yTicks.map((tick) => html`<line class="axis" x1="${PLOT.left}" x2="${WIDTH - PLOT.right}" y1="${at(py(tick))}" y2="${at(py(tick))}"></line><text x="${PLOT.left - 8}" y="${at(py(tick) + 4)}" text-anchor="end">${y.format(tick)}</text>`)}
      ${xTicks.map((tick) => html`<text x="${at(px(tick))}" y="${HEIGHT - 23}" text-anchor="middle">${x.format(tick)}</text>`)}
      <text x="${PLOT.left}" y="12">${axisTitle(y)}</text>
      <text x="${WIDTH - PLOT.right}" y="${HEIGHT - 6}" text-anchor="end">${axisTitle(x)} →</text>
      <polyline class="frontier" points="${frontier.map((point) => `${at(px(point.x))},${at(py(point.y))}`).join(' ')}"></polyline>
      ${points.map(
        (point, index) =>
          html`<g opacity="${point.onFrontier ? 1 : 0.45}">
            <line
              stroke="var(--muted)"
              x1="${at(px(point.x))}"
              x2="${at(px(point.x))}"
              y1="${at(py(point.y - point.error[0]))}"
              y2="${at(py(point.y + point.error[1]))}"
            ></line>
            <path
              transform="translate(${at(px(point.x))} ${at(py(point.y))})"
              d="${seriesPath(point.entry.series, point.radius)}"
              fill="${seriesVariable(point.entry.series)}"
              ><title>${point.title}: ${x.title} ${x.format(point.x)}, ${y.title} ${y.format(point.y)}</title></path
            >
            ${labelOf(places[index] ?? null, px(point.x), py(point.y))}
          </g>`,
      )}
    </svg>
    <figcaption class="muted">
      ${y.title} (up is better) against ${x.title}; the line joins what nothing else beats on
      both.${left.length > 0 ? ` Not shown: ${left.join('; ')}.` : ''}
    </figcaption>
  </figure>`
}

/** Nothing where there is no room. */
function labelOf(place: LabelPlace | null, x: number, y: number): Markup | null {
  if (place === null) return null
  return html`<text class="label" x="${at(x + place.dx)}" y="${at(y + place.dy + 4)}" text-anchor="${place.anchor}">${place.text}</text>`
}

interface BarsInput {
  readonly metric: Metric
  readonly rows: readonly {
    readonly title: string
    readonly series: number
    readonly value: number | null
    /** The value as it is written; null with it. */
    readonly text: string | null
    readonly reason: string | null
  }[]
  /** Value at full width. */
  readonly top: number
}

export function barChart({ metric, rows, top }: BarsInput): Markup {
  return html`<div>
    <h3>${metric.title} <span class="muted">${metric.better === 'up' ? 'higher is better' : 'lower is better'}</span></h3>
    ${rows.map(
      ({ title, series, value, text, reason }) =>
        html`<div class="bar">
          <span>${title}</span>
          <span class="track"
            >${value === null || reason !== null ? null : html`<span class="fill" style="display:block;width:${Math.min(100, (value / top) * 100).toFixed(1)}%;background:${seriesVariable(series)}"></span>`}</span
          >
          <span>${text ?? '—'}</span>
        </div>`,
    )}
  </div>`
}

const CELL = { width: 26, height: 20, label: 90, head: 16 } as const

/** One cell per tensor, colour by SQNR; the title of each cell says its figures. */
export function layerChart(errors: readonly TensorError[]): Markup {
  const grid = heatGrid(errors, 'sqnr')
  const width = CELL.label + grid.layers.length * CELL.width
  const height = CELL.head + grid.kinds.length * CELL.height
  return html`<div class="wide">
    <svg
      viewBox="0 0 ${width} ${height}"
      width="${width}"
      height="${height}"
      role="img"
      aria-label="Error of every layer as SQNR, ${grid.kinds.length} kinds of tensor, ${grid.layers.length} layers"
    >
      ${grid.layers.map((layer, column) => html`<text x="${CELL.label + (column + 0.5) * CELL.width}" y="11" text-anchor="middle">${layer ?? '–'}</text>`)}
      ${grid.kinds.map(
        (kind, row) =>
          html`<text x="${CELL.label - 8}" y="${CELL.head + (row + 0.7) * CELL.height}" text-anchor="end">${kind}</text>${grid.layers.map(
              (layer, column) => {
                const error = grid.cells.get(cellKey(kind, layer))
                if (error === undefined) return null
                const value = heatValue(error, 'sqnr')
                const fill = value === null ? 'none' : heatColor(heatShare(value, grid.range, false), 'light')
                return html`<rect
                  x="${CELL.label + column * CELL.width + 0.5}"
                  y="${CELL.head + row * CELL.height + 0.5}"
                  width="${CELL.width - 1}"
                  height="${CELL.height - 1}"
                  fill="${fill}"
                  ><title>
                    ${error.name}: ${error.sqnrDb === null ? 'exact' : `${formatSignificant(error.sqnrDb)} dB`}, relative error
                    ${formatSignificant(error.relativeError)}, ${error.scheme}
                  </title></rect
                >`
              },
            )}`,
      )}
    </svg>
  </div>`
}
