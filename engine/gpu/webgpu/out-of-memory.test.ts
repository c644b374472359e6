/**
 * A driver that runs out of memory in the middle of a load: found by the error scope although WebGPU hands out a buffer all the same, told with
 * numbers, and nothing is kept. The device here is made up; what a real one refuses by its limits is in lifecycle.test.ts.
 */
import { expect, test } from 'vitest'
import { wrapDevice } from './device.ts'
import { Ledger } from './ledger.ts'

interface FakeBuffer {
  readonly size: number
  readonly label: string
  destroyed: boolean
  destroy(): void
}

/** Buffers beyond `memory` bytes are invalid: handed out, and reported to the innermost scope of that kind, as the specification says. */
function fakeDevice(memory: number) {
  const scopes: { readonly filter: string; error: { message: string } | null }[] = []
  const buffers: FakeBuffer[] = []
  const used = (): number => buffers.reduce((sum, { size, destroyed }) => sum + (destroyed ? 0 : size), 0)
  const device = {
    limits: { maxBufferSize: 1 << 30 },
    features: new Set<string>(),
    lost: new Promise(() => {}),
    addEventListener: () => {},
    pushErrorScope: (filter: string) => void scopes.push({ filter, error: null }),
    popErrorScope: () => Promise.resolve(scopes.pop()?.error ?? null),
    createBuffer({ size, label }: { size: number; label: string }): FakeBuffer {
      const full = used() + size > memory
      const buffer: FakeBuffer = {
        size,
        label,
        destroyed: full,
        destroy() {
          buffer.destroyed = true
        },
      }
      const scope = scopes.findLast(({ filter }) => filter === 'out-of-memory')
      if (full && scope !== undefined) scope.error ??= { message: 'VK_ERROR_OUT_OF_DEVICE_MEMORY' }
      buffers.push(buffer)
      return buffer
    },
    destroy: () => {},
  }
  const facts = {
    adapterId: 'made-up',
    software: false,
    profile: 'production',
    packedDot: false,
    subgroupSize: null,
    matrixConfigs: [],
  } as const
  return { gpu: wrapDevice(device as unknown as GPUDevice, facts), used, scopes }
}

const layer = (name: string, bytes: number) => ({ name, bytes, usage: 0 })

test('a load that the driver has no memory for fails with the numbers and gives everything back; a smaller one goes on', async () => {
  const { gpu, used, scopes } = fakeDevice(1000)
  const ledger = new Ledger(gpu, null)
  const resident = ledger.open('model:small')
  await resident.allocate([layer('weights', 400)])
  const large = ledger.open('model:large')
  await expect(large.allocate([layer('a', 300), layer('b', 200), layer('c', 200), layer('d', 100)])).rejects.toMatchObject({
    code: 'gpu.out-of-memory',
    message: expect.stringMatching(/4 buffers for model:large needs .* MiB, .* MiB are in use/) as string,
    hint: expect.stringMatching(/Unload another model, shorten the context, or choose a smaller format/) as string,
    data: { needBytes: 800, usedBytes: 400, budgetBytes: null },
  })
  expect([used(), large.bytes, ledger.bytesInUse, [...ledger.usage().keys()]]).toEqual([400, 0, 400, ['model:small']])
  await large.allocate([layer('a', 300), layer('b', 200)])
  expect([used(), ledger.bytesInUse, scopes.length]).toEqual([900, 900, 0])
})

test('of two loads at once, the one that does not fit is told, not the other', async () => {
  const { gpu, used } = fakeDevice(1000)
  const ledger = new Ledger(gpu, null)
  const [fits, tooMuch] = await Promise.allSettled([
    ledger.open('a').allocate([layer('weights', 600)]),
    ledger.open('b').allocate([layer('weights', 600)]),
  ])
  expect([fits.status, tooMuch.status, used()]).toEqual(['fulfilled', 'rejected', 600])
})
