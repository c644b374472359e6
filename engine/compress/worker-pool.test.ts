import { createHash } from 'node:crypto'
import { expect, it } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import type { TensorTask } from './tensor-work.ts'
import { createWorkerPool } from './worker-pool.ts'

const KEEP: TensorTask = { kind: 'keep', name: 'a', dtype: 'F32', cols: 2 }

function sha256(...pieces: Uint8Array[]): string {
  const hash = createHash('sha256')
  for (const piece of pieces) hash.update(piece)
  return hash.digest('hex')
}

function bytes(fill: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(8).fill(fill)
}

it('passes kept bytes through, hashed in order, several tensors on one thread', async () => {
  await using pool = createWorkerPool(1)
  const [a, b] = [pool.open(KEEP), pool.open({ ...KEEP, name: 'b' })]
  const first = await a.block(bytes(1))
  await b.block(bytes(9))
  await a.block(bytes(2))
  expect(first).toEqual({ parts: [{ role: 'copy', bytes: bytes(1) }], spent: null })
  expect((await a.finish()).sourceSha256).toBe(sha256(bytes(1), bytes(2)))
  expect((await b.finish()).partSha256).toEqual({ copy: sha256(bytes(9)) })
})

it('hands back the buffer of quantized bytes', async () => {
  await using pool = createWorkerPool(1)
  const scheme = { kind: 'packed-int', bits: 8, symmetric: true, strategy: 'channel', groupSize: null } as const
  const work = pool.open({ kind: 'quantize', name: 'w', dtype: 'F32', cols: 4, scheme, observer: { kind: 'minmax' } })
  const { parts, spent } = await work.block(new Uint8Array(Float32Array.of(0, 1, -1, 0.5).buffer))
  expect([parts.map((part) => part.role), spent?.byteLength]).toEqual([['packed', 'scale'], 16])
  expect((await work.finish()).error?.source).toBe(2.25)
})

it('turns refusals into LatheErrors and defects into plain ones, and goes on', async () => {
  await using pool = createWorkerPool(1)
  const refused = pool.open(KEEP)
  const error: unknown = await refused.block(new Uint8Array(Float32Array.of(1, NaN).buffer)).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(LatheError)
  expect(error).toMatchObject({ code: 'checkpoint.non-finite', message: 'a holds NaN at element 1 (row 0, column 1).', data: { index: 1 } })
  // Its thread knows no such tensor any more.
  await expect(refused.finish()).rejects.toThrow('no open tensor')
  const next = pool.open(KEEP)
  await next.block(new Uint8Array(8))
  expect((await next.finish()).sourceSha256).toBe(sha256(new Uint8Array(8)))
})

it('rejects what waits when its threads end', async () => {
  const pool = createWorkerPool(1)
  const waiting = pool.open(KEEP).finish()
  const outcome = waiting.catch((error: unknown) => String(error))
  await pool[Symbol.asyncDispose]()
  expect(await outcome).toContain('a quantizing thread ended')
})
