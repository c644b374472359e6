import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ICNS_TYPES, ICO_SIZES, LINUX_SIZES } from './icons.ts'
import { ROOT } from './tools.ts'

const file = (name: string): Buffer => readFileSync(join(ROOT, 'assets/icons', name))

/** Width and height from the IHDR chunk; throws for anything that is no PNG. */
function pngSize(bytes: Buffer): readonly [number, number] {
  expect(bytes.subarray(0, 8).toString('latin1')).toBe('\x89PNG\r\n\x1a\n')
  return [bytes.readUInt32BE(16), bytes.readUInt32BE(20)]
}

describe('the icons', () => {
  it('are PNGs of the size in their name', () => {
    for (const size of LINUX_SIZES) expect(pngSize(file(`${size}x${size}.png`))).toEqual([size, size])
  })

  it('are in the .ico, each where its entry says', () => {
    const ico = file('lathe.ico')
    expect([ico.readUInt16LE(0), ico.readUInt16LE(2), ico.readUInt16LE(4)]).toEqual([0, 1, ICO_SIZES.length])
    const sizes = ICO_SIZES.map((_size, index) => {
      const entry = ico.subarray(6 + 16 * index, 22 + 16 * index)
      const [length, offset] = [entry.readUInt32LE(8), entry.readUInt32LE(12)]
      const [width] = pngSize(ico.subarray(offset, offset + length))
      expect(entry.readUInt8(0)).toBe(width % 256)
      return width
    })
    expect(sizes).toEqual([...ICO_SIZES])
  })

  it('are in the .icns, each under the code of its size, with 512 pixels for macOS', () => {
    const icns = file('lathe.icns')
    expect(icns.toString('latin1', 0, 4)).toBe('icns')
    expect(icns.readUInt32BE(4)).toBe(icns.length)
    const found: Record<string, number> = {}
    for (let offset = 8; offset < icns.length; offset += icns.readUInt32BE(offset + 4)) {
      const length = icns.readUInt32BE(offset + 4)
      found[icns.toString('latin1', offset, offset + 4)] = pngSize(icns.subarray(offset + 8, offset + length))[0]
    }
    expect(found).toEqual(ICNS_TYPES)
  })
})
