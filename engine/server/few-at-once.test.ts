import { expect, test } from 'vitest'
import { fewAtOnce } from './few-at-once.ts'

test('never more at once than allowed, all of them, in order', async () => {
  let running = 0
  let most = 0
  const results = await fewAtOnce([...Array(50).keys()], 7, async (item, index) => {
    most = Math.max(most, ++running)
    for (let turn = 0; turn <= item % 5; turn++) await Promise.resolve()
    running--
    return [item, index]
  })
  expect(most).toBe(7)
  expect(results).toEqual([...Array(50).keys()].map((item) => [item, item]))
  expect(await fewAtOnce([], 3, async () => 1)).toEqual([])
})

test('after a failure nothing more is started', async () => {
  const started: number[] = []
  const failing = fewAtOnce([0, 1, 2, 3, 4, 5], 2, async (item) => {
    started.push(item)
    await Promise.resolve()
    if (item === 1) throw new Error('no')
  })
  await expect(failing).rejects.toThrow('no')
  await Promise.resolve()
  expect(started.length).toBeLessThan(5)
})
