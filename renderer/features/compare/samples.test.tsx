import { screen, waitFor, within } from '@testing-library/react'
import { expect, test } from 'vitest'
import type { FreeTextDrift } from '../../../engine/contract/index.ts'
import { RESULTS, SAMPLE, SAMPLE_W4 } from '../../test/fixtures.ts'
import { renderApp } from '../../test/render-app.tsx'
import { taskMetric } from './task-metrics.ts'

const DRIFT: FreeTextDrift = {
  baselineId: SAMPLE.id,
  n: 40,
  identical: 25,
  identicalShare: 0.625,
  identicalInterval: [0.4703, 0.7578],
  unit: 'tokens',
  firstDifferenceMedian: 13.5,
  editDistanceMean: 0.2146,
  editDistanceMedian: 0,
  cutItems: 0,
  // ln 1.5
  divergenceMarginMedian: 0.4055,
  divergenceMarginItems: 15,
}

/** The board whose last variant generated its completions. */
function renderDrift(drift: FreeTextDrift) {
  const results = RESULTS.map((result, index) =>
    index < 2
      ? result
      : { ...result, tasks: result.tasks.map((task) => (task.name === 'completion' ? { ...task, freeText: drift } : task)) },
  )
  return renderApp('/compare/m-pebble?task=completion', { results })
}

async function facts(): Promise<string[]> {
  const list = await screen.findByLabelText('Free text beside the original’s')
  return [...list.children].map((fact) => [...fact.children].map((part) => part.textContent).join(': '))
}

test('a task of generated answers says how many stayed the same, where the others part, and how near a tie was there', async () => {
  const { user } = renderDrift(DRIFT)
  expect(await facts()).toEqual([
    'Same text: 62.5 % 25 of 40; 95 %: 47–76 %',
    'The others part: token 14 median',
    'Lead there: 1.50× median',
    'To edit: 21.5 % mean',
  ])
  await user.click(screen.getByRole('button', { name: 'Lead there' }))
  expect(await screen.findByText(/Near 1× it was a tie that rounding alone can turn/)).toBeDefined()
})

test.each([
  ['more than any doubt', { divergenceMarginMedian: 9, divergenceMarginItems: 15 }, 'Lead there: > 1,000× median'],
  ['of some of the answers only', { divergenceMarginMedian: 3, divergenceMarginItems: 9 }, 'Lead there: 20.1× median of 9 of 15'],
  ['not kept', { divergenceMarginMedian: null, divergenceMarginItems: 0 }, 'Lead there: — not known of these answers'],
])('a lead that is %s', async (_, margin, text) => {
  renderDrift({ ...DRIFT, ...margin })
  expect((await facts())[2]).toBe(text)
})

test('where nothing differs there is no place to speak of; another baseline’s drift is not shown, nor that of tasks without answers', async () => {
  const same = {
    ...DRIFT,
    identical: 40,
    identicalShare: 1,
    firstDifferenceMedian: null,
    divergenceMarginMedian: null,
    divergenceMarginItems: 0,
  }
  const { user } = renderDrift({ ...same, identicalInterval: [0.912, 1], editDistanceMean: 0 })
  expect(await facts()).toEqual(['Same text: 100.0 % 40 of 40; 95 %: 91–100 %', 'To edit: 0.0 % mean'])
  await user.click(screen.getByRole('combobox', { name: 'Task' }))
  await user.click(await screen.findByRole('option', { name: 'Arithmetic' }))
  await waitFor(() => expect(screen.queryByLabelText('Free text beside the original’s')).toBeNull())
})

test('a figure says the same in its details; the interval of a group is not Wilson’s', () => {
  const [, , result] = RESULTS
  const sample = result!.tasks[0]!
  const read = (task: typeof sample) =>
    taskMetric(task.name, task.title, task).read({ model: SAMPLE_W4, result: { ...result!, tasks: [task] }, series: 2, isSource: false })
  expect(read({ ...sample, freeText: DRIFT })?.details).toMatchObject({
    'Same text': '62.5 % of 40 greedy answers',
    'Lead where the others part': '1.50×, median',
  })
  expect([read(sample)?.rangeMeaning, read({ ...sample, outputType: 'group' })?.rangeMeaning]).toEqual(['Wilson 95 %', '95 %'])
})

test('drift from another model than the board’s original is left out', async () => {
  renderDrift({ ...DRIFT, baselineId: 'm-other' })
  const heading = await screen.findByRole('heading', { name: 'The same items, both answers' })
  expect(within(heading.closest('section') ?? document.body).queryByText('Same text')).toBeNull()
})
