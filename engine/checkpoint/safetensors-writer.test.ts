import { readFile, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DTYPE_BYTES, asBytes } from './dtypes.ts'
import { parseSafetensorsHeader } from './safetensors-reader.ts'
import type { TensorLayout } from './safetensors-writer.ts'
import { INDEX_FILE, createSafetensorsWriter, planSafetensors } from './safetensors-writer.ts'
import { REFERENCE_FILE } from './test/reference-file.ts'
import { hex, latheError, temporaryFolder } from './test/fixtures.ts'

const SEED = 20_261_123

const TENSORS = [
  { name: 'b.weight', dtype: 'F32', shape: [2, 3], data: asBytes(Float32Array.of(0, 1, 2, 3, 4, 5)) },
  { name: 'a.codes', dtype: 'I8', shape: [3], data: asBytes(Int8Array.of(-1, 0, 1)) },
  { name: 'z.shape', dtype: 'I64', shape: [2], data: asBytes(BigInt64Array.of(2n, 3n)) },
  { name: 'a.scale', dtype: 'F16', shape: [2], data: asBytes(Uint16Array.of(0x3e00, 0xc000)) },
  { name: 'k.words', dtype: 'I32', shape: [1, 2], data: asBytes(Int32Array.of(1, -1)) },
  { name: 'm.u8', dtype: 'U8', shape: [1], data: Uint8Array.of(255) },
  { name: 'empty', dtype: 'F32', shape: [0, 4], data: new Uint8Array(0) },
] as const

describe('bytes', () => {
  it('are those of the reference writer, whatever the order and pieces', async () => {
    const plan = planSafetensors(TENSORS)
    for (const order of [TENSORS, TENSORS.toReversed()]) {
      const folder = await temporaryFolder()
      await using writer = await createSafetensorsWriter({ folder, plan })
      for (const { name, data } of order) {
        for (let i = 0; i < data.byteLength; i += 5) await writer.write(name, data.subarray(i, i + 5))
        expect(writer.isComplete(name)).toBe(true)
      }
      expect(await writer.finish()).toEqual([{ name: 'model.safetensors', bytes: REFERENCE_FILE.byteLength }])
      expect(hex(await readFile(join(folder, 'model.safetensors')))).toBe(hex(REFERENCE_FILE))
    }
  })

  it('keep every tensor aligned to its element size', () => {
    const layout = fc.array(fc.record({ dtype: fc.constantFrom('F32', 'BF16', 'I8', 'I64', 'I32', 'U8' as const), size: fc.nat(9) }), {
      maxLength: 12,
    })
    fc.assert(
      fc.property(layout, fc.integer({ min: 1, max: 60 }), (tensors, maxShardBytes) => {
        const named = tensors.map(({ dtype, size }, i) => ({ name: `t${i}`, dtype, shape: [size] }))
        const plan = planSafetensors(named, { maxShardBytes })
        const seen: string[] = []
        for (const file of plan.files) {
          const parsed = parseSafetensorsHeader(Buffer.concat([file.header]), file.byteLength, file.name)
          expect(parsed.dataOffset % 8).toBe(0)
          for (const tensor of parsed.tensors) {
            expect(tensor.offset % DTYPE_BYTES[tensor.dtype]).toBe(0)
            seen.push(tensor.name)
          }
          const bytes = file.byteLength - file.header.byteLength
          expect(bytes <= maxShardBytes || parsed.tensors.filter((tensor) => tensor.byteLength > 0).length === 1).toBe(true)
        }
        expect(seen.sort()).toEqual(named.map((tensor) => tensor.name).sort())
      }),
      { seed: SEED },
    )
  })
})

describe('shards', () => {
  const layout: TensorLayout[] = ['a', 'b', 'c', 'd'].map((name) => ({ name, dtype: 'U8', shape: [10] }))

  it('fill in order, with an index of where everything is', async () => {
    const folder = await temporaryFolder()
    const plan = planSafetensors(layout, { maxShardBytes: 25 })
    await using writer = await createSafetensorsWriter({ folder, plan })
    for (const { name } of layout) await writer.write(name, new Uint8Array(10).fill(name.charCodeAt(0)))
    await writer.finish()
    expect(await readdir(folder)).toEqual(['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors', INDEX_FILE])
    const index = await readFile(join(folder, INDEX_FILE), 'utf8')
    expect(JSON.parse(index)).toEqual({
      metadata: { total_size: 40 },
      weight_map: {
        a: 'model-00001-of-00002.safetensors',
        b: 'model-00001-of-00002.safetensors',
        c: 'model-00002-of-00002.safetensors',
        d: 'model-00002-of-00002.safetensors',
      },
    })
    const sizes = await Promise.all((await readdir(folder)).map(async (name) => (await stat(join(folder, name))).size))
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(plan.fileBytes)
  })

  it.each<[string, TensorLayout[]]>([
    ['a name twice', [layout[0]!, layout[0]!]],
    ['the reserved name', [{ name: '__metadata__', dtype: 'U8', shape: [1] }]],
    ['a shape that overflows', [{ name: 'x', dtype: 'U8', shape: [2 ** 40, 2 ** 40] }]],
    ['a negative shape', [{ name: 'x', dtype: 'U8', shape: [-1] }]],
  ])('refuse %s', async (_, tensors) => {
    expect((await latheError(() => planSafetensors(tensors))).code).toBe('checkpoint.invalid-tensor')
  })
})

function content(name: string): Uint8Array {
  return new Uint8Array(10).fill(name.charCodeAt(0))
}

async function contents(folder: string): Promise<string[]> {
  return Promise.all((await readdir(folder)).map(async (name) => `${name} ${hex(await readFile(join(folder, name)))}`))
}

describe('interruption', () => {
  const layout: TensorLayout[] = ['a', 'b', 'c', 'd'].map((name) => ({ name, dtype: 'U8', shape: [10] }))
  const plan = planSafetensors(layout, { maxShardBytes: 25 })

  const uninterrupted = async (): Promise<string[]> => {
    const folder = await temporaryFolder()
    await using writer = await createSafetensorsWriter({ folder, plan })
    for (const { name } of layout) await writer.write(name, content(name))
    await writer.finish()
    return contents(folder)
  }

  it('resumes after any tensor, half-written ones included, to the same bytes', async () => {
    const expected = await uninterrupted()
    for (let done = 0; done <= layout.length; done++) {
      const folder = await temporaryFolder()
      {
        await using writer = await createSafetensorsWriter({ folder, plan })
        for (const { name } of layout.slice(0, done)) await writer.write(name, content(name))
        const next = layout[done]
        if (next !== undefined) await writer.write(next.name, Uint8Array.of(1, 2, 3))
        await writer.flush()
      }
      const finished = new Set(layout.slice(0, done).map((tensor) => tensor.name))
      await using writer = await createSafetensorsWriter({ folder, plan, resume: { finished } })
      for (const { name } of layout.slice(done)) await writer.write(name, content(name))
      await writer.finish()
      expect(await contents(folder)).toEqual(expected)
    }
  })

  it('starts a file over that was not laid out yet, but not one that should hold finished tensors', async () => {
    const expected = await uninterrupted()
    const folder = await temporaryFolder({ 'model-00001-of-00002.safetensors': 'torn' })
    await latheError(() => createSafetensorsWriter({ folder, plan, resume: { finished: new Set(['a']) } }), 'checkpoint.invalid-header')
    await using writer = await createSafetensorsWriter({ folder, plan, resume: { finished: new Set() } })
    for (const { name } of layout) await writer.write(name, content(name))
    await writer.finish()
    expect(await contents(folder)).toEqual(expected)
  })
})

describe('misuse', () => {
  const plan = planSafetensors([{ name: 'a', dtype: 'U8', shape: [4] }])

  it('never overwrites an existing file', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'model.safetensors'), 'precious')
    await latheError(() => createSafetensorsWriter({ folder, plan }), 'checkpoint.already-exists')
    expect(await readFile(join(folder, 'model.safetensors'), 'utf8')).toBe('precious')
  })

  it('refuses too many bytes, unknown names and an early finish', async () => {
    const folder = await temporaryFolder()
    await using writer = await createSafetensorsWriter({ folder, plan })
    await expect(writer.write('nope', new Uint8Array(1))).rejects.toThrow(RangeError)
    await expect(writer.write('a', new Uint8Array(5))).rejects.toThrow(RangeError)
    await writer.write('a', new Uint8Array(3))
    expect(writer.isComplete('a')).toBe(false)
    expect((await latheError(() => writer.finish(), 'checkpoint.missing-tensor')).message).toMatch(/3 of 4/)
  })

  it('says which disk operation failed', async () => {
    const error = await latheError(() => createSafetensorsWriter({ folder: '/nonexistent/nowhere', plan }), 'disk.io')
    expect(error.message).toMatch(/creating the model files/)
  })
})
