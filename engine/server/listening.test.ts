import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { checkAddress } from './listening.ts'

test('an address is tried before anything is loaded for it, and left free', async () => {
  const other = createServer()
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  const { port } = other.address() as AddressInfo
  await expect(checkAddress({ host: '127.0.0.1', port })).rejects.toMatchObject({
    code: 'request.invalid',
    message: `Port ${port} is in use.`,
    hint: expect.stringContaining(String(port + 1)),
  })
  await new Promise((resolve) => other.close(resolve))
  for (let time = 0; time < 2; time++) await checkAddress({ host: '127.0.0.1', port })
  // TEST-NET-1: an address that no machine has.
  await expect(checkAddress({ host: '192.0.2.1', port: 0 })).rejects.toMatchObject({
    code: 'request.invalid',
    message: '192.0.2.1 is no address of this machine.',
  })
})
