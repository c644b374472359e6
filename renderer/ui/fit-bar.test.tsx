import { cleanup, render, screen } from '@testing-library/react'
import { afterEach, expect, test } from 'vitest'
import type { Fit } from '../../engine/contract/index.ts'
import { FitBar, FitDot } from './fit-bar.tsx'

afterEach(cleanup)

const fit: Fit = { weightBytes: 600, kvBytes: 300, activationBytes: 0, budgetBytes: 1000, contextTokens: 512, verdict: 'tight' }

test('segments take their share of the budget and the verdict is spoken', () => {
  render(<FitBar fit={fit} />)
  const bar = screen.getByRole('img', { name: /^Tight\. Needs 900 B of 1,000 B with 512 tokens of context/ })
  expect([...bar.children].map((child) => (child as HTMLElement).style.width)).toEqual(['60%', '30%'])
})

test('parts that are not computed say where they are from', () => {
  const full: Fit = { ...fit, kvBytes: 100, overheadBytes: 30, overheadLoads: 3, reserveBytes: 50 }
  const { container } = render(<FitBar fit={full} detail="full" />)
  expect(screen.getByRole('img', { name: /Needs 780 B of/ })).toBeDefined()
  expect(container.textContent).toContain('Overhead30 B(measured here over 3 loads)')
  expect(container.textContent).toContain('Reserve50 B(assumed)')
})

test('what does not fit is marked beyond the limit', () => {
  render(<FitBar fit={{ ...fit, kvBytes: 1400, verdict: 'context' }} />)
  const bar = screen.getByRole('img', { name: /^Context too long/ })
  const [weights, kv, over, limit] = [...bar.children].map((child) => (child as HTMLElement).style)
  expect([weights?.width, kv?.width, over?.width, limit?.left]).toEqual(['30%', '70%', '50%', '50%'])
})

test('an unknown budget fills the bar with what is known, and the dot says so', () => {
  render(<FitDot fit={{ ...fit, budgetBytes: null, verdict: 'unknown' }} />)
  expect(screen.getByRole('img', { name: /does not say how much memory it has/ })).toBeDefined()
})
