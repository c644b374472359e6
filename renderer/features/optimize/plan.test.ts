import { expect, test } from 'vitest'
import { LIBRARY, SAMPLE, predictionsOf } from '../../test/fixtures.ts'
import {
  NONE,
  byBitsPerWeight,
  chosenPresets,
  parseEvaluation,
  possibleEvaluation,
  serializeEvaluation,
  startLabel,
  togglePreset,
} from './plan.ts'

const fresh = predictionsOf(SAMPLE, 1024, [SAMPLE], null)
const all = { perplexity: true, tasks: true, throughput: true }

test('the recommended preset is chosen until the user chooses, unless it exists already', () => {
  expect(chosenPresets(fresh, '')).toEqual(['balanced-4bit'])
  expect(chosenPresets(predictionsOf(SAMPLE, 1024, LIBRARY, null), '')).toEqual([])
  expect(chosenPresets(fresh, NONE)).toEqual([])
})

test('presets that do not exist or cannot be applied are dropped from a link', () => {
  expect(chosenPresets(fresh, 'fine-4bit,made-up')).toEqual(['fine-4bit'])
  const variant = LIBRARY.find((model) => model.parentId === SAMPLE.id)!
  expect(chosenPresets(predictionsOf(variant, 1024, LIBRARY, null), 'balanced-4bit')).toEqual([])
})

test('toggling the last one off is remembered as a choice', () => {
  expect(togglePreset(['a'], 'b')).toBe('a,b')
  expect(togglePreset(['a', 'b'], 'a')).toBe('b')
  expect(togglePreset(['a'], 'a')).toBe(NONE)
})

test('evaluation choices survive the address', () => {
  for (const evaluate of [all, { ...all, tasks: false }, { perplexity: false, tasks: false, throughput: false }]) {
    expect(parseEvaluation(serializeEvaluation(evaluate), all)).toEqual(evaluate)
  }
  expect(parseEvaluation('', { ...all, tasks: false })).toEqual({ ...all, tasks: false })
})

test('the button says what will happen', () => {
  const none = { perplexity: false, tasks: false, throughput: false }
  expect([
    startLabel({ presetIds: ['a'], recipes: [], evaluate: all }),
    startLabel({ presetIds: ['a'], recipes: [], evaluate: none }),
    startLabel({ presetIds: ['a', 'b'], recipes: [{ title: 'c', yaml: '' }], evaluate: all }),
    startLabel({ presetIds: ['a', 'b'], recipes: [], evaluate: none }),
  ]).toEqual(['Run and compare', 'Start', 'Run 3 and compare', 'Start 2'])
})

test('cards go from many bits to few', () => {
  expect(byBitsPerWeight(fresh).map((prediction) => prediction.preset.id)).toEqual(['near-lossless-8bit', 'fine-4bit', 'balanced-4bit'])
})

test('a model without a tokenizer is measured for speed only', () => {
  expect(possibleEvaluation(all, false)).toEqual({ perplexity: false, tasks: false, throughput: true })
  expect(possibleEvaluation(all, true)).toEqual(all)
})
