import { expect, test } from 'vitest'
import { splitThinking } from './thinking.ts'

test.each([
  ['Plain.', { thought: null, answer: 'Plain.', open: false }],
  ['<think>\nhm\n</think>\n\nYes.', { thought: 'hm', answer: 'Yes.', open: false }],
  ['<think>hm', { thought: 'hm', answer: '', open: true }],
  ['<think>\n\n</think>\n\nYes.', { thought: null, answer: 'Yes.', open: false }],
  ['[THINK]hm[/THINK]Yes.', { thought: 'hm', answer: 'Yes.', open: false }],
  ['Tags like <think> are text here.', { thought: null, answer: 'Tags like <think> are text here.', open: false }],
])('%j', (text, expected) => {
  expect(splitThinking(text)).toEqual(expected)
})
