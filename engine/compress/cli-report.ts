/** A compression's report as the command line prints it (DESIGN §10); run.json carries the same fields. */
import { outcomeToRecord } from './outcome-record.ts'
import type { CliReport, CompressReport } from './types.ts'

export function toCliReport(report: CompressReport): CliReport {
  return {
    out: report.outFolder,
    preset: report.presetId,
    scheme: report.scheme,
    bytes_in: report.bytesIn,
    bytes_out: report.bytesOut,
    bits_per_weight: report.bitsPerWeight,
    seconds: report.seconds,
    peak_rss_bytes: report.peakRssBytes,
    peak_gpu_bytes: report.peakGpuBytes ?? null,
    resumed: report.resumed,
    taken_over:
      report.takenOver === undefined || report.takenOver === null
        ? null
        : { from: report.takenOver.from, layers: report.takenOver.layers, tensors: report.takenOver.tensors },
    outcome: report.outcome === undefined || report.outcome === null ? null : outcomeToRecord(report.outcome),
    tensors: report.tensors.map((tensor) => ({
      name: tensor.name,
      scheme: tensor.scheme,
      sqnr_db: tensor.sqnrDb,
      relative_error: tensor.relativeError,
      max_error: tensor.maxError,
      cosine: tensor.cosine,
      bytes: tensor.bytes,
    })),
    ignored: report.ignored.map(({ name, reason }) => ({ name, reason })),
    warnings: report.warnings,
  }
}
