/** What has been measured of a variant, as the rows of its model card: the figures of the board, with protocol and device, nothing else. */
import type { ModelCardEvaluation } from '../compress/types.ts'
import type { Provenance, ResultSet } from '../contract/index.ts'

/** null when nothing has been measured that the card could show. */
export function evaluationForCard(source: ResultSet, variant: ResultSet): ModelCardEvaluation | null {
  const rows: ModelCardEvaluation['rows'][number][] = []
  const { perplexity, drift, throughput } = variant
  if (perplexity !== null) {
    const comparable = source.protocolKeys['perplexity'] === variant.protocolKeys['perplexity']
    rows.push({
      metric: `Perplexity (${perplexity.protocol}, window ${perplexity.window})`,
      baseline: comparable ? figure(source.perplexity?.value ?? null, 5) : '–',
      variant: figure(perplexity.value, 5),
      note: `${perplexity.tokens} tokens of ${perplexity.dataset}`,
    })
  }
  if (drift !== null) {
    rows.push({
      metric: 'KL divergence, mean',
      baseline: '0',
      variant: `${figure(drift.kldMean, 3)} ± ${figure(drift.kldMeanStandardError, 2)}`,
      note: `nats per token; 99 %: ${figure(drift.kldP99, 3)}`,
    })
    rows.push({
      metric: 'Same most probable token',
      baseline: '100 %',
      variant: percent(drift.top1Agreement),
      note: `${drift.tokens} tokens`,
    })
  }
  for (const task of variant.tasks) {
    const other = source.tasks.find((candidate) => candidate.name === task.name && candidate.dataset === task.dataset)
    rows.push({
      metric: `${task.title} (${task.metric})`,
      baseline: other === undefined ? '–' : percent(other.value),
      variant: `${percent(task.value)} ± ${percent(task.standardError)}`,
      note: `${task.n} items${task.chance === null ? '' : `, chance ${percent(task.chance)}`}`,
    })
  }
  if (throughput !== null && throughput.interleavedWith === source.modelId) {
    rows.push({
      metric: 'Decode, tokens per second',
      baseline: figure(source.throughput?.decodeTokensPerSecond.median ?? null, 3),
      variant: figure(throughput.decodeTokensPerSecond.median, 3),
      note: `one request, measured in turn, ${throughput.repeats} runs`,
    })
  }
  return rows.length === 0 ? null : { rows, provenance: provenanceLines(variant.provenance) }
}

/** Each device once, with what was measured on it. */
function provenanceLines(provenance: Readonly<Record<string, Provenance>>): string[] {
  const groups = new Map<string, string[]>()
  for (const [what, { adapter, adapterType, driver, latheVersion, measuredAt }] of Object.entries(provenance)) {
    if (what === 'compression' || what.startsWith('task:')) continue
    const software =
      adapterType === 'software' || adapterType === 'reference' ? ' (computed on the CPU: its speeds say nothing about a GPU)' : ''
    const line = `on ${adapter}${software}, driver ${driver}, Lathe ${latheVersion}, ${measuredAt.slice(0, 10)}`
    groups.set(line, [...(groups.get(line) ?? []), what])
  }
  return Array.from(groups, ([line, whats]) => `${whats.join(', ')} ${line}`)
}

function figure(value: number | null, digits: number): string {
  return value === null ? 'n/a' : value.toPrecision(digits)
}

function percent(value: number | null): string {
  return value === null ? 'n/a' : `${(value * 100).toFixed(1)} %`
}
