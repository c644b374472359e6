/**
 * run.json: everything needed to reproduce a compression and to check that the files are its result. Times are the only part that differs
 * between equal runs. Field names are snake_case, as in the command line's JSON.
 */
import { availableParallelism, platform, release } from 'node:os'
import { BYTES_VERSION } from './journal.ts'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Outcome } from '../contract/index.ts'
import type { JournalEntry } from './journal.ts'
import { outcomeToRecord } from './outcome-record.ts'
import { RUN_FILE } from './output-files.ts'
import type { CompressionPlan } from './plan.ts'
import { sha256 } from './sha256.ts'
import { toCliReport } from './cli-report.ts'
import type { CompressOptions, CompressReport, LayerFigures } from './types.ts'

export interface RunFacts {
  readonly options: CompressOptions
  readonly plan: CompressionPlan
  readonly report: CompressReport
  readonly entries: ReadonlyMap<string, JournalEntry>
  readonly sourceName: string
  readonly startedAt: Date
  readonly recipeText: string
  readonly threads: number
  /** Of a calibrated run, as far as they are known: those of layers that an interrupted run finished are not. */
  readonly layers: readonly LayerFigures[]
  /** What OWL gave each layer, by the step's place in the recipe. */
  readonly sparsities: ReadonlyMap<number, readonly number[]>
}

export function runRecord(facts: RunFacts): string {
  const { plan, report, entries, options } = facts
  const ordered = plan.items.flatMap((item) => entries.get(item.source.name) ?? [])
  const { out: _, ...figures } = toCliReport(report)
  const record = {
    run: 'lathe-compression',
    lathe_version: options.latheVersion,
    bytes_version: BYTES_VERSION,
    node_version: process.version,
    platform: `${platform()} ${release()} ${process.arch}`,
    cores: availableParallelism(),
    threads: facts.threads,
    started_at: facts.startedAt.toISOString(),
    ended_at: new Date().toISOString(),
    seed: options.seed,
    recipe_sha256: sha256(facts.recipeText),
    calibration: calibrationRecord(report),
    source: {
      name: facts.sourceName,
      tensors: Object.fromEntries(ordered.map((entry) => [entry.tensor, { sha256: entry.sourceSha256 }])),
    },
    ...figures,
    parameters: plan.parameters,
    scales: Object.fromEntries(
      ordered.flatMap((entry) =>
        entry.figures === null ? [] : [[entry.tensor, { count: entry.figures.scales, of_zero_groups: entry.figures.epsilonScales }]],
      ),
    ),
    decoded: Object.fromEntries(
      ordered.flatMap(({ tensor, decodedSha256 }) => (decodedSha256 === undefined ? [] : [[tensor, { sha256: decodedSha256 }]])),
    ),
    layers: facts.layers.map(({ layer, outputError }) => ({ layer, output_error: outputError })),
    sparsities: Object.fromEntries(facts.sparsities),
    output: Object.fromEntries(
      ordered.flatMap((entry) => entry.outputs.map(({ name, file, bytes, sha256: digest }) => [name, { file, bytes, sha256: digest }])),
    ),
  }
  return `${JSON.stringify(record, null, 2)}\n`
}

function calibrationRecord({ calibration }: CompressReport): Record<string, unknown> | null {
  if (calibration === undefined || calibration === null) return null
  const { sequenceLength, ...rest } = calibration
  return { ...rest, sequence_length: sequenceLength }
}

/** Adds to the run.json of a folder what was measured before it was kept, atomically. */
export async function recordOutcome(folder: string, outcome: Outcome): Promise<void> {
  const path = join(folder, RUN_FILE)
  const record = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
  await writeFile(`${path}.new`, `${JSON.stringify({ ...record, outcome: outcomeToRecord(outcome) }, null, 2)}\n`)
  await rename(`${path}.new`, path)
}
