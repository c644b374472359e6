/**
 * Calibration text as a user chooses it: where it lies, and what it would give for a model before anything is started. Parsing and sampling are
 * the compressor's own (engine/compress/calibration), so what is said here is what a run will do.
 */
import { basename } from 'node:path'
import { bundledCalibration } from '../compress/calibration/defaults.ts'
import { readDocuments } from '../compress/calibration/documents.ts'
import type { CalibrationDocument } from '../compress/calibration/documents.ts'
import { shuffled } from '../compress/calibration/samples.ts'
import type { CalibrationOptions } from '../compress/types.ts'
import { LatheError } from '../contract/index.ts'
import type { CalibrationChoice, CalibrationReport } from '../contract/index.ts'
import type { FolderTokenizer } from './ports.ts'

/** Documents tokenized for the estimate: a quarter of a second for long ones, and within a few per cent for even text. */
const TOKENIZED_DOCUMENTS = 64
const EXCERPTS = 3
const EXCERPT_CHARACTERS = 160

export async function calibrationOptions(
  choice: CalibrationChoice,
  assetsFolder: string,
  sourceFolder: string,
): Promise<CalibrationOptions> {
  const { source, samples, sequenceLength, seed } = choice
  const path = source.kind === 'file' ? source.path : await bundledCalibration(assetsFolder, sourceFolder)
  return { path, samples, sequenceLength, seed }
}

/** Never throws for what the file holds: that is the answer. */
export async function inspectCalibration(
  options: CalibrationOptions,
  contextLimit: number | null,
  openTokenizer: () => Promise<FolderTokenizer>,
): Promise<CalibrationReport> {
  const name = basename(options.path)
  try {
    const length = Math.min(options.sequenceLength, contextLimit ?? options.sequenceLength)
    const { documents, truncated } = await readDocuments(options.path, length)
    const tokenizer = await openTokenizer()
    const chosen = shuffled(documents.length, options.seed).slice(0, options.samples)
    const looked = chosen.slice(0, TOKENIZED_DOCUMENTS)
    let tokens = 0
    for (const index of looked) {
      const document = documents[index]
      if (document !== undefined)
        tokens += Math.min(length, tokenizer.encode(textOf(document, tokenizer), { addSpecialTokens: document.kind !== 'chat' }).length)
    }
    const exact = looked.length === chosen.length
    const warnings: string[] = []
    if (truncated) warnings.push(`${name} is larger than what is read; the rest of it is left out.`)
    if (length < options.sequenceLength) warnings.push(`Samples are cut at the model’s context of ${length} tokens.`)
    if (chosen.length < options.samples) warnings.push(`${options.samples} samples were asked for; the text has ${documents.length}.`)
    return {
      name,
      documents: documents.length,
      kind: kindOf(documents),
      excerpts: documents.slice(0, EXCERPTS).map((document) => excerptOf(document)),
      samples: chosen.length,
      tokens: exact ? tokens : Math.round((tokens / looked.length) * chosen.length),
      exact,
      warnings,
      error: null,
    }
  } catch (error) {
    if (!(error instanceof LatheError)) throw error
    const line = /\bline (\d+)\b/i.exec(error.message)?.[1]
    return {
      name,
      documents: 0,
      kind: 'text',
      excerpts: [],
      samples: 0,
      tokens: 0,
      exact: true,
      warnings: [],
      error: { ...error.toShape(), line: line === undefined ? null : Number(line) },
    }
  }
}

function textOf(document: CalibrationDocument, tokenizer: FolderTokenizer): string {
  return document.kind === 'chat'
    ? tokenizer.renderChat(document.turns.map(({ role, content }) => ({ role, content: String(content) })))
    : document.text
}

function kindOf(documents: readonly CalibrationDocument[]): CalibrationReport['kind'] {
  const [first, ...rest] = new Set(documents.map(({ kind }) => kind))
  return first === undefined || rest.length > 0 ? 'mixed' : first
}

function excerptOf(document: CalibrationDocument): string {
  const text = document.kind === 'chat' ? document.turns.map((turn) => `${turn.role}: ${String(turn.content)}`).join('\n') : document.text
  const line = text.replaceAll(/\s+/g, ' ').trim()
  return line.length > EXCERPT_CHARACTERS ? `${line.slice(0, EXCERPT_CHARACTERS)}…` : line
}
