/** From a model folder's headers, or from a published configuration, to what the planner needs. Exact bytes win over formulas. */
import type { PlanSubject } from '../capacity/planner.ts'
import { modelShapeOf, parametersOf } from '../capacity/model-shape.ts'
import type { ModelShape } from '../capacity/model-shape.ts'
import { findPublishedModel, PUBLISHED_MODELS } from '../capacity/published-models.ts'
import { BF16, STORAGE_SCHEMES, findScheme, matrixBytes, weightPartsOf } from '../capacity/storage-schemes.ts'
import type { StorageSchemeSpec, WeightParts } from '../capacity/storage-schemes.ts'
import { nearestName } from '../compress/nearest-name.ts'
import { LatheError } from '../contract/index.ts'
import type { FolderFacts } from './ports.ts'

/** Throws `checkpoint.invalid-config` where the config lacks a field that planning needs. */
export function subjectOfFolder(title: string, facts: FolderFacts, measured: PlanSubject['measured'] = null): PlanSubject {
  const shape = modelShapeOf(facts.config)
  const weights = weightsOf(facts, shape)
  return {
    title,
    shape,
    parameters: facts.parameters,
    stored: {
      title: facts.scheme,
      scheme: nearestScheme(facts.scheme, shape, weights),
      weights,
      parts: facts.stepParts ?? null,
      inputs: facts.inputElements,
    },
    measured,
    kvElement: facts.kvCacheDtype ?? null,
  }
}

/** Throws `request.invalid` naming the nearest one where there is no such configuration. */
export function subjectOfPublished(id: string): PlanSubject {
  const model = findPublishedModel(id)
  if (model === null) {
    const nearest = nearestName(
      id,
      PUBLISHED_MODELS.map((candidate) => candidate.id),
    )
    throw new LatheError(
      'request.invalid',
      `There is no published configuration "${id}".`,
      nearest === null ? `There are ${PUBLISHED_MODELS.map((candidate) => candidate.id).join(', ')}.` : `Did you mean "${nearest}"?`,
    )
  }
  const shape = modelShapeOf(model.config)
  return {
    title: model.name,
    shape,
    parameters: parametersOf(shape),
    stored: { title: BF16.title, scheme: BF16, weights: weightPartsOf(shape, BF16) },
    measured: null,
  }
}

/** Sums of the headers; experts get the share of the linears' bytes that they have of their weights. */
function weightsOf({ weightBytes, bytesByKind }: FolderFacts, shape: ModelShape): WeightParts {
  const embedding = bytesByKind['embedding'] ?? 0
  const head = bytesByKind['head'] ?? 0
  const other = bytesByKind['norm'] ?? 0
  const linear = weightBytes - embedding - head - other
  const sum = (routed: boolean): number =>
    shape.matrices
      .filter((matrix) => matrix.routed === routed)
      .reduce((total, matrix) => total + matrix.stored * matrixBytes(matrix, BF16), 0)
  const routedShare = sum(true) / Math.max(1, sum(true) + sum(false))
  return { dense: linear * (1 - routedShare), routed: linear * routedShare, embedding, head, other }
}

/** Bits per linear weight above which a mixture behaves like 16, and above which like 8 bits. */
const SIXTEEN_FROM = 12
const EIGHT_FROM = 6

/** The scheme of that name; for a mixture, the plain one nearest in bits, whose kernels stand for it. */
function nearestScheme(title: string, shape: ModelShape, weights: WeightParts): StorageSchemeSpec {
  const named = STORAGE_SCHEMES.find((scheme) => scheme.title === title)
  if (named !== undefined) return named
  const bits = ((weights.dense + weights.routed) * 8) / Math.max(1, shape.linearParameters)
  const id = bits > SIXTEEN_FROM ? 'bf16' : bits > EIGHT_FROM ? 'w8a16' : 'w4a16-g128'
  return findScheme(id) ?? BF16
}
