import { expect, test } from 'vitest'
import type { ModelSummary } from '../../engine/contract/index.ts'
import { draftCandidates } from './draft-candidates.ts'

const model = (
  id: string,
  weightBytes: number,
  changes: { parentId?: string; vocabSize?: number | null; status?: string } = {},
): ModelSummary => {
  const { parentId = null, vocabSize = 32_000, status = 'ready' } = changes
  return { id, parentId, weightBytes, status, architecture: { vocabSize } } as unknown as ModelSummary
}

test('offers compressed variants of the same model first, then smaller ones of the same vocabulary', () => {
  const target = model('large', 16)
  const library = [
    target,
    model('tiny', 1),
    model('large-w4', 5, { parentId: 'large' }),
    model('large-w8', 9, { parentId: 'large' }),
    model('large-w3', 4, { parentId: 'large' }),
    model('other-words', 1, { vocabSize: 50_000 }),
    model('gone', 1, { status: 'missing' }),
  ]
  expect(draftCandidates(target, library).map((each) => [each.model.id, each.kind, each.share])).toEqual([
    ['large-w3', 'compressed', 4 / 16],
    ['large-w4', 'compressed', 5 / 16],
    ['large-w8', 'compressed', 9 / 16],
    ['tiny', 'smaller', 1 / 16],
  ])
  // A variant is offered its smaller sibling, never its original.
  expect(draftCandidates(library[3]!, library).map((each) => each.model.id)).toEqual(['large-w3', 'large-w4', 'tiny'])
  expect(draftCandidates(model('odd', 16, { vocabSize: null }), library)).toEqual([])
})
