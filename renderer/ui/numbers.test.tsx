import { cleanup, render, screen } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { afterEach, expect, test } from 'vitest'
import { PROVENANCE } from '../test/fixtures.ts'
import { Bytes, Delta, EstimateRange, Percent, Rate } from './numbers.tsx'

afterEach(cleanup)

test('an estimate looks and reads like one, and names its source', async () => {
  render(<Bytes value={3_200_000} estimate="formula" />)
  const button = screen.getByRole('button', { name: '≈ 3.20 MB' })
  await userEvent.click(button)
  expect((await screen.findByRole('dialog')).textContent).toBe('Estimate, not measured. Source: formula.')
})

test('a measurement shows where it comes from', async () => {
  render(<Rate value={71.3} measured={{ provenance: PROVENANCE, details: { Samples: '5 runs' } }} />)
  await userEvent.click(screen.getByRole('button', { name: '71.3 tok/s' }))
  const card = (await screen.findByRole('dialog')).textContent
  for (const fact of ['llvmpipe', 'software adapter', 'lavapipe 25.1', '5 runs', '0.1.0']) expect(card).toContain(fact)
})

test('missing is a dash, impossible says why', () => {
  const { container } = render(
    <>
      <Bytes value={null} />
      <Percent fraction={null} reason="the baseline has no tasks" />
    </>,
  )
  expect(container.textContent).toBe('—n/a')
  expect(screen.getByRole('button', { name: 'Not available: the baseline has no tasks' })).toBeDefined()
})

test('a difference is signed, and good or bad only where a direction is', () => {
  const { container } = render(
    <>
      <Delta value={-0.5} better="down" />
      <Delta value={0.5} better="down" />
      <Delta value={0.5} />
    </>,
  )
  expect([...container.children].map((child) => [child.textContent, /better|worse/.exec(child.className)?.[0]])).toEqual([
    ['−0.500', 'better'],
    ['+0.500', 'worse'],
    ['+0.500', undefined],
  ])
})

test('large ranges are compact, so that they fit where they stand', () => {
  render(<EstimateRange value={{ low: 1_432_000, high: 3_910_000 }} unit="tok/s" source="data sheet" />)
  expect(document.body.textContent).toContain('1.4 M–3.9 M tok/s')
})
