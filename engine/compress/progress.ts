/** Adds up what a compression has done and tells its listener: bytes per phase, tensors, speed, memory. Knows no files. */
import type { JournalEntry } from './journal.ts'
import type { CompressionPlan, PlanItem } from './plan.ts'
import type { CompressPhaseId, CompressProgress, LayerProgress } from './types.ts'

export interface ProgressMeter {
  add(phase: CompressPhaseId, bytes: number, tensor: string): void
  /** A tensor that an interrupted run finished: done, but not by this one. */
  skip(item: PlanItem, entry: JournalEntry): void
  /** One that another result had; `finishTensor` follows when it is journaled. */
  takeOver(item: PlanItem, entry: JournalEntry): void
  finishTensor(): void
  setLayer(layer: LayerProgress | null): void
  peakRssBytes(): number
}

export function progressMeter(plan: CompressionPlan, onProgress: ((progress: CompressProgress) => void) | undefined): ProgressMeter {
  const done: Record<CompressPhaseId, number> = { read: 0, quantize: 0, write: 0, verify: 0 }
  const total: Record<CompressPhaseId, number> = {
    read: plan.bytesIn,
    quantize: plan.bytesIn,
    write: plan.bytesOut,
    verify: plan.bytesOut,
  }
  const started = performance.now()
  let skippedBytes = 0
  let tensorsDone = 0
  let currentTensor: string | null = null
  let layer: LayerProgress | null = null
  let peakRssBytes = process.memoryUsage.rss()
  const phases: readonly CompressPhaseId[] = ['read', 'quantize', 'write', 'verify']
  const tell = (): void => {
    const rssBytes = process.memoryUsage.rss()
    peakRssBytes = Math.max(peakRssBytes, rssBytes)
    if (onProgress === undefined) return
    const ownBytes = done.quantize - skippedBytes
    const seconds = (performance.now() - started) / 1000
    onProgress({
      phases: phases.map((id) => ({ id, doneBytes: done[id], totalBytes: total[id] })),
      current: done.write < total.write ? 'quantize' : 'verify',
      currentTensor,
      layer,
      tensorsDone,
      tensorsTotal: plan.items.length,
      bytesPerSecond: ownBytes > 0 && seconds > 0 ? ownBytes / seconds : null,
      rssBytes,
    })
  }
  const count = (item: PlanItem, entry: JournalEntry): void => {
    done.read += item.source.byteLength
    done.quantize += item.source.byteLength
    done.write += entry.outputs.reduce((sum, output) => sum + output.bytes, 0)
    skippedBytes += item.source.byteLength
  }
  return {
    add(phase, bytes, tensor) {
      done[phase] += bytes
      currentTensor = tensor
      tell()
    },
    skip(item, entry) {
      count(item, entry)
      tensorsDone++
      tell()
    },
    takeOver(item, entry) {
      count(item, entry)
      currentTensor = item.source.name
      tell()
    },
    finishTensor() {
      tensorsDone++
      tell()
    },
    setLayer(progress) {
      layer = progress
      tell()
    },
    peakRssBytes: () => peakRssBytes,
  }
}
