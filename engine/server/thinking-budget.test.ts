import { expect, test } from 'vitest'
import type { TokenMaskProvider } from '../runtime/types.ts'
import { limitThinking } from './thinking-budget.ts'

const OPEN = 5
const CLOSE = 40
const TAGS = { openId: OPEN, closeId: CLOSE, vocabulary: 64 }
const ONLY_CLOSE = Uint32Array.of(0, 1 << 8)

test('thinking that has used its budget must close, whether the prompt or the model opened it', () => {
  const inside = limitThinking(null, 'inside', 2, TAGS)
  expect([inside.mask(), inside.accept(1), inside.accept(2), inside.mask()]).toEqual([null, true, true, ONLY_CLOSE])
  expect([inside.accept(3), inside.accept(CLOSE), inside.mask(), inside.accept(3)]).toEqual([false, true, null, true])
  const possible = limitThinking(null, 'possible', 0, TAGS)
  expect([possible.mask(), possible.accept(OPEN), possible.mask()]).toEqual([null, true, ONLY_CLOSE])
  const direct = limitThinking(null, 'possible', 0, TAGS)
  expect([direct.accept(1), direct.mask()]).toEqual([true, null])
})

test('what it takes back was never thought, and a grammar behind it walks along', () => {
  const accepted: number[] = []
  const grammar: TokenMaskProvider = {
    mask: () => Uint32Array.of(7, 7),
    accept: (token) => accepted.push(token) > 0,
    rollback: (count) => void (accepted.length -= count),
  }
  const provider = limitThinking(grammar, 'inside', 2, TAGS)
  for (const token of [1, 2]) provider.accept(token)
  expect(provider.mask()).toEqual(ONLY_CLOSE)
  provider.rollback(1)
  expect([provider.mask(), accepted]).toEqual([Uint32Array.of(7, 7), [1]])
  for (const token of [2, CLOSE]) provider.accept(token)
  expect([provider.mask(), accepted]).toEqual([Uint32Array.of(7, 7), [1, 2, CLOSE]])
  provider.rollback(3)
  expect([provider.accept(1), provider.accept(9), provider.accept(9), accepted]).toEqual([true, true, false, [1, 9]])
})
