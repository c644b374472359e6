/**
 * README.md of a compressed model: front matter that the Hugging Face hub reads, then what was done, what it cost and how to run it, all
 * from figures of the run. `updateModelCard` fills in the evaluation later. Claims nothing that was not measured.
 */
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse, stringify } from 'yaml'
import { shareHeld } from '../contract/index.ts'
import type { Outcome, TensorError } from '../contract/index.ts'
import { CARD_FILE } from './output-files.ts'
import type { IgnoredTensor, ModelCardEvaluation } from './types.ts'

const EVALUATION_START = '<!-- lathe:evaluation:start -->'
const CHOICE_HEADING = '## How it was chosen'
const EVALUATION_END = '<!-- lathe:evaluation:end -->'
/** Front matter that stays true of a compressed copy. */
const INHERITED = ['license', 'license_name', 'license_link', 'language', 'pipeline_tag']
const WORST_TENSORS = 5

export interface ModelCardFacts {
  readonly name: string
  readonly sourceName: string
  readonly presetTitle: string | null
  /** Scheme and algorithm in words. */
  readonly algorithm: string
  readonly bytesIn: number
  readonly bytesOut: number
  readonly bitsPerWeight: number
  readonly parameters: number
  readonly tensors: readonly TensorError[]
  readonly ignored: readonly IgnoredTensor[]
  readonly latheVersion: string
  /** README.md of the source, for its licence. */
  readonly sourceCard: string | null
}

export function modelCard(facts: ModelCardFacts): string {
  const matter = {
    base_model: facts.sourceName,
    base_model_relation: 'quantized',
    ...inheritedMatter(facts.sourceCard),
    library_name: 'transformers',
    tags: ['compressed-tensors', 'quantized', ...new Set(facts.tensors.map((tensor) => tensor.scheme.split(' ')[0]?.toLowerCase() ?? ''))],
  }
  const worst = [...facts.tensors].sort((a, b) => b.relativeError - a.relativeError).slice(0, WORST_TENSORS)
  return [
    `---\n${stringify(matter, { lineWidth: 0 })}---\n`,
    `# ${facts.name}\n`,
    `${facts.sourceName} compressed by Lathe ${facts.latheVersion}${facts.presetTitle === null ? '' : ` with the preset *${facts.presetTitle}*`}: ${facts.algorithm}. The folder is in compressed-tensors format.\n`,
    '| | original | compressed |\n|---|---:|---:|',
    `| tensors | ${megabytes(facts.bytesIn)} | ${megabytes(facts.bytesOut)} |`,
    `| bits per parameter (all ${facts.parameters.toLocaleString('en-US')}) | ${((facts.bytesIn * 8) / facts.parameters).toFixed(2)} | ${facts.bitsPerWeight.toFixed(2)} |\n`,
    '## Error of the stored weights\n',
    'Measured on the weights as stored, dequantized, against the originals. Relative error is ‖w − ŵ‖ / ‖w‖; SQNR is the same in decibels.\n',
    '| module | count | scheme | mean SQNR (dB) | largest relative error |\n|---|---:|---|---:|---:|',
    ...summaryByKind(facts.tensors),
    `\nLargest errors: ${worst.map((tensor) => `\`${tensor.name}\` (${percent(tensor.relativeError)})`).join(', ')}.\n`,
    ...keptSection(facts.ignored),
    '## Evaluation\n',
    `${EVALUATION_START}\nNot evaluated yet.\n${EVALUATION_END}\n`,
    '## Use\n',
    `The folder follows the compressed-tensors layout that vLLM and transformers read; Lathe has checked the layout, not run it in them.\n\n\`\`\`sh\nvllm serve ./${facts.name}\n\`\`\`\n`,
    '`recipe.yaml` is the recipe in LLM Compressor’s form; `run.json` holds hashes, seed, versions and the error of every tensor.\n',
  ].join('\n')
}

function inheritedMatter(card: string | null): Record<string, unknown> {
  const text = card === null ? null : /^---\r?\n([\s\S]*?)\r?\n---/.exec(card)?.[1]
  if (text === null || text === undefined) return {}
  let matter: unknown
  try {
    matter = parse(text, { maxAliasCount: 10 })
  } catch {
    // A card whose front matter is no YAML states no licence; the card is not a reason to refuse the model.
    return {}
  }
  if (typeof matter !== 'object' || matter === null) return {}
  return Object.fromEntries(Object.entries(matter).filter(([key]) => INHERITED.includes(key)))
}

function summaryByKind(tensors: readonly TensorError[]): readonly string[] {
  const kinds = new Map<string, TensorError[]>()
  for (const tensor of tensors) {
    const key = `${tensor.kind} | ${tensor.scheme}`
    kinds.set(key, [...(kinds.get(key) ?? []), tensor])
  }
  return [...kinds]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, group]) => {
      const measured = group.flatMap((tensor) => (tensor.sqnrDb === null ? [] : [tensor.sqnrDb]))
      const mean = measured.length === 0 ? '–' : (measured.reduce((sum, value) => sum + value, 0) / measured.length).toFixed(2)
      const largest = Math.max(...group.map((tensor) => tensor.relativeError))
      return `| ${group[0]?.kind ?? ''} | ${group.length} | ${group[0]?.scheme ?? ''} | ${mean} | ${percent(largest)} |`
    })
}

function keptSection(ignored: readonly IgnoredTensor[]): readonly string[] {
  if (ignored.length === 0) return []
  const reasons = new Map<string, string[]>()
  for (const { name, reason } of ignored) reasons.set(reason, [...(reasons.get(reason) ?? []), name])
  const lines = [...reasons].map(([reason, names]) => {
    const shown = names.slice(0, 3).map((name) => `\`${name}\``)
    return `- ${shown.join(', ')}${names.length > 3 ? ` and ${names.length - 3} more` : ''}: ${reason}`
  })
  return ['## Kept as it was\n', ...lines, '']
}

/**
 * Replaces the evaluation section of `folder`'s README.md, atomically. A card whose section was removed by hand gets a new one at its end.
 */
export async function updateModelCard(folder: string, evaluation: ModelCardEvaluation): Promise<void> {
  const path = join(folder, CARD_FILE)
  const card = await readFile(path, 'utf8')
  const rows = evaluation.rows.map(
    (row) => `| ${cell(row.metric)} | ${cell(row.baseline)} | ${cell(row.variant)} | ${cell(row.note ?? '')} |`,
  )
  const section = [
    EVALUATION_START,
    '| | original | compressed | |',
    '|---|---:|---:|---|',
    ...rows,
    '',
    ...evaluation.provenance.map((line) => `- ${line.replaceAll('\n', ' ')}`),
    EVALUATION_END,
  ].join('\n')
  const start = card.indexOf(EVALUATION_START)
  const end = card.indexOf(EVALUATION_END)
  const updated =
    start >= 0 && end > start
      ? card.slice(0, start) + section + card.slice(end + EVALUATION_END.length)
      : `${card.trimEnd()}\n\n## Evaluation\n\n${section}\n`
  const temporary = `${path}.new`
  await writeFile(temporary, updated)
  await rename(temporary, path)
}

/** Says in the card of `folder` what was measured before this result was kept, ahead of its evaluation; atomically. */
export async function addOutcomeToCard(folder: string, { candidates, heldOut, bound }: Outcome): Promise<void> {
  const path = join(folder, CARD_FILE)
  const card = await readFile(path, 'utf8')
  // A run that was killed after this and before the folder got its name comes here again.
  if (card.includes(CHOICE_HEADING)) return
  const rows = candidates.map((candidate) => {
    const agreement = candidate.top1Agreement === null ? '–' : percent(candidate.top1Agreement)
    const error = candidate.kldStandardError === null ? '' : ` ± ${candidate.kldStandardError.toPrecision(1)}`
    return `| ${cell(candidate.title)}${candidate.chosen ? ' (kept)' : ''} | ${megabytes(candidate.bytes)} | ${candidate.kldMean.toPrecision(3)}${error} | ${percent(shareHeld(candidate.kldMean))} | ${agreement} |`
  })
  const promise = bound === null ? '' : ` At least ${percent(shareHeld(bound))} was to be kept.`
  const section = [
    `${CHOICE_HEADING}\n`,
    `Measured on ${heldOut.tokens} tokens of ${heldOut.source} that calibration did not use.${promise}\n`,
    '| candidate | tensors | divergence (nats per token) | next-token probability kept | same top token |',
    '|---|---:|---:|---:|---:|',
    ...rows,
    '',
  ].join('\n')
  const at = card.indexOf('## Evaluation\n')
  const updated = at < 0 ? `${card.trimEnd()}\n\n${section}` : `${card.slice(0, at)}${section}\n${card.slice(at)}`
  await writeFile(`${path}.new`, updated)
  await rename(`${path}.new`, path)
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ')
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toLocaleString('en-US', { maximumFractionDigits: 1 })} MB`
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)} %`
}
