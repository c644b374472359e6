/** "Fits" in bytes: the budget's good share, less what the context, the runtime and the driver take. */
import { expect, it } from 'vitest'
import type { Fit } from '../contract/index.ts'
import { targetInBytes } from './fitting-bytes.ts'

function portsWith(fit: Partial<Fit>): Parameters<typeof targetInBytes>[0] {
  const full: Fit = {
    weightBytes: 0,
    kvBytes: 1e9,
    activationBytes: 2e8,
    reserveBytes: 5e8,
    budgetBytes: 8e9,
    contextTokens: 4096,
    verdict: 'fits',
    ...fit,
  }
  return {
    checkpoint: {
      inspect: () => Promise.resolve({} as never),
      tensorStats: () => Promise.reject(new Error('unused')),
      hashTensor: () => Promise.reject(new Error('unused')),
    },
    fit: { fit: (_facts, weightBytes) => Promise.resolve({ ...full, weightBytes }) },
  }
}

it('leaves room for what else is on the device', async () => {
  const fits = { kind: 'fits', contextTokens: 4096 } as const
  expect(await targetInBytes(portsWith({}), 'model', fits)).toEqual({ kind: 'bytes', bytes: 0.8 * 8e9 - 1e9 - 2e8 - 5e8 })
  expect(await targetInBytes(portsWith({}), 'model', { kind: 'loss', bound: 1 })).toEqual({ kind: 'loss', bound: 1 })
  await expect(targetInBytes(portsWith({ budgetBytes: null }), 'model', fits)).rejects.toThrow('does not say how much memory')
  await expect(targetInBytes(portsWith({ kvBytes: 9e9 }), 'model', fits)).rejects.toThrow('A context of 4096 tokens alone fills the 8.0 GB')
})
