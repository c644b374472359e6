/**
 * Where a compression stands among the layers, from what the compressor reports: layers as they finish with the error of their output (calibrated
 * runs), or the worst error of each layer's matrices (all others). Keeps what an earlier run of the same job had finished.
 */
import type { CompressProgress, LayerFigures } from '../../compress/types.ts'
import type { JobLayers, TakenOver, TensorError } from '../../contract/index.ts'
import type { JobContext } from './worker.ts'

type Finished = JobLayers['finished'][number]

export class LayerTally {
  readonly #context: Pick<JobContext, 'setLayers' | 'working'>
  readonly #metric: JobLayers['metric']
  readonly #finished: Map<number, Finished>
  #total: number
  #current: number | null = null
  #note: string | null = null
  #deviceBytes: number | null
  #takenOver: TakenOver | null
  #secondsLeft: number | null = null

  constructor(context: Pick<JobContext, 'setLayers' | 'working' | 'job'>, calibrated: boolean) {
    const before = context.job.layers
    this.#context = context
    this.#metric = calibrated ? 'output' : 'weights'
    this.#finished = new Map(before?.finished.map((layer) => [layer.layer, layer]))
    this.#total = before?.total ?? 0
    this.#deviceBytes = before?.deviceBytes ?? null
    this.#takenOver = before?.takenOver ?? null
  }

  at({ layer = null }: CompressProgress): void {
    if (this.#metric === 'weights') return
    const note = layer?.note ?? null
    if (layer === null ? this.#current === null : layer.layer === this.#current && note === this.#note) return
    this.#current = layer?.layer ?? null
    this.#note = note
    this.#secondsLeft = layer?.secondsLeft ?? null
    if (layer !== null) {
      this.#total = layer.layers
      // a layer may take minutes without a finished byte
      this.#context.working(`Layer ${layer.layer} (${layer.layer + 1} of ${layer.layers}): ${layer.note}`)
    }
    this.#show()
  }

  /** Another candidate begins with the first layer. */
  restart(): void {
    this.#finished.clear()
    this.#current = null
    this.#note = null
    this.#show()
  }

  finish(layer: number, layers: number, error: number | null, seconds: number): void {
    this.#total = layers
    this.#finished.set(layer, { layer, error, seconds })
    this.#show()
  }

  tensor({ layer, relativeError }: TensorError): void {
    if (this.#metric === 'output' || layer === null) return
    const worst = Math.max(relativeError, this.#finished.get(layer)?.error ?? 0)
    this.#finished.set(layer, { layer, error: worst, seconds: null })
    this.#total = Math.max(this.#total, layer + 1)
    this.#show()
  }

  /** Another variant had these; their errors are those that it was measured with. */
  takeOver(what: TakenOver, figures: readonly LayerFigures[]): void {
    this.#takenOver = what
    this.#total = Math.max(this.#total, what.ofLayers)
    for (const { layer, outputError } of figures)
      if (this.#metric === 'output') this.#finished.set(layer, { layer, error: outputError, seconds: null })
    this.#show()
  }

  /** Held of the device at this moment; the most is kept. */
  device(bytes: number): void {
    if (bytes <= (this.#deviceBytes ?? 0)) return
    this.#deviceBytes = bytes
    this.#show()
  }

  #show(): void {
    const finished = [...this.#finished.values()].sort((a, b) => a.layer - b.layer)
    this.#context.setLayers({
      total: this.#total,
      current: this.#current,
      note: this.#note,
      metric: this.#metric,
      finished,
      deviceBytes: this.#deviceBytes,
      secondsLeft: this.#secondsLeft,
      takenOver: this.#takenOver,
    })
  }
}
