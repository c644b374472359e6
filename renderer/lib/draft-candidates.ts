/**
 * Which models of the library can propose tokens for another (speculative decoding): of the same vocabulary, and enough smaller to pay. The answers
 * are the larger model's own whichever is chosen; only their speed differs, and the runtime stops asking a draft that does not pay.
 */
import type { ModelSummary } from '../../engine/contract/index.ts'

export interface DraftCandidate {
  readonly model: ModelSummary
  /** `compressed`: of the same origin, so it nearly always agrees. `smaller`: another model of the same tokenizer. */
  readonly kind: 'compressed' | 'smaller'
  /** Its weights as a share of the larger model's: what a proposed token costs where memory bounds both. */
  readonly share: number
}

/**
 * With four proposals a step of which nine in ten are right, a draft pays up to three quarters of the cost of its model; beside that there is the
 * verification itself.
 */
const MOST_SHARE = 0.6

/** Best first: compressed ones of the same origin, then other smaller ones, each by size. */
export function draftCandidates(target: ModelSummary, library: readonly ModelSummary[]): readonly DraftCandidate[] {
  const { vocabSize } = target.architecture
  if (vocabSize === null) return []
  return library
    .filter((model) => model.id !== target.id && model.status === 'ready' && model.architecture.vocabSize === vocabSize)
    .map((model): DraftCandidate => {
      const kind = originOf(model) === originOf(target) ? 'compressed' : 'smaller'
      return { model, kind, share: model.weightBytes / target.weightBytes }
    })
    .filter(({ share }) => share <= MOST_SHARE)
    .toSorted((a, b) => a.kind.localeCompare(b.kind) || a.share - b.share)
}

function originOf(model: ModelSummary): string {
  return model.parentId ?? model.id
}
