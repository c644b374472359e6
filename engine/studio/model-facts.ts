/**
 * What the library keeps of a folder it has looked at, as the store and the screens have it: facts, fingerprint, summary.
 * Reads no file: the checkpoint port has.
 */
import { createHash } from 'node:crypto'
import { LatheError } from '../contract/index.ts'
import type { ModelSummary } from '../contract/index.ts'
import type { FolderFacts } from './ports.ts'
import type { ModelFacts, ModelRecord } from './store/model-store.ts'

/** Nothing is known of weights that are elsewhere. */
export const NO_FACTS: ModelFacts = {
  architecture: {
    family: 'unknown',
    className: 'unknown',
    layers: null,
    hiddenSize: null,
    intermediateSize: null,
    attentionHeads: null,
    keyValueHeads: null,
    headDim: null,
    vocabSize: null,
    contextLength: null,
    tiedEmbeddings: null,
    slidingWindow: null,
  },
  parameters: 0,
  weightBytes: 0,
  diskBytes: 0,
  scheme: '–',
  bitsPerWeight: 0,
  inputElements: [],
  hasTokenizer: false,
  hasChatTemplate: false,
  license: null,
  trouble: null,
}

export function toModelFacts(facts: FolderFacts): ModelFacts {
  return {
    architecture: facts.architecture,
    parameters: facts.parameters,
    weightBytes: facts.weightBytes,
    diskBytes: facts.diskBytes,
    scheme: facts.scheme,
    bitsPerWeight: facts.bitsPerWeight,
    inputElements: [...facts.inputElements],
    hasTokenizer: facts.hasTokenizer,
    hasChatTemplate: facts.hasChatTemplate,
    license: facts.license,
    trouble: facts.unsupported === null ? null : { status: 'unsupported', reason: facts.unsupported.toShape() },
  }
}

/** Equal for folders with the same configuration and the same tensors by name, dtype, shape and size; contents are not read. */
export function fingerprintOf(facts: FolderFacts): string {
  const tensors = facts.tensors.map((tensor) => [tensor.name, tensor.dtype, tensor.shape, tensor.bytes]).toSorted()
  return createHash('sha256')
    .update(JSON.stringify([facts.config, tensors]))
    .digest('hex')
}

/** What the screens list of an entry. `missing`: its folder was not there when last looked at, which outweighs every other trouble. */
export function summarizeModel(record: ModelRecord, missing: boolean): ModelSummary {
  const { trouble, ...facts } = record.facts
  return {
    id: record.id,
    parentId: record.parentId,
    name: record.name,
    path: record.path,
    createdAt: record.createdAt,
    lastUsedAt: record.lastUsedAt,
    presetId: record.presetId,
    isSample: record.isSample,
    origin: record.origin,
    ...facts,
    ...(missing
      ? { status: 'missing', statusReason: folderGone(record.path).toShape() }
      : trouble === null
        ? { status: 'ready', statusReason: null }
        : { status: trouble.status, statusReason: trouble.reason }),
  }
}

function folderGone(path: string): LatheError {
  return new LatheError('checkpoint.not-found', `The folder is no longer at ${path}.`, 'Locate the folder, or remove the entry.')
}
