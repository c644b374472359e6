/**
 * `node app/dev/icons.ts`: draws assets/icons/lathe.svg with Chromium at every size that the platforms want and packs the PNGs into .ico and .icns.
 * Run by hand when the drawing changes; the results are committed, because a build machine may have no browser.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { chromium } from '@playwright/test'
import { findChromium } from './bootstrap/browsers.mjs'
import { ROOT } from './tools.ts'

const FOLDER = join(ROOT, 'assets', 'icons')

/** Pixels of the PNGs inside each container. Linux reads the files themselves, named by size. */
export const LINUX_SIZES = [16, 32, 48, 64, 128, 256, 512] as const
export const ICO_SIZES = [16, 32, 48, 64, 256] as const
/** Type code of Apple's icon format → pixels; the @2x entries repeat a size under another code. */
export const ICNS_TYPES = { icp4: 16, icp5: 32, ic11: 32, ic12: 64, ic07: 128, ic08: 256, ic13: 256, ic09: 512, ic14: 512 } as const

/** ICO: a directory of 16-byte entries, then the PNGs. Size 256 is written as 0. All little-endian. */
export function packIco(images: ReadonlyMap<number, Buffer>): Buffer {
  const header = Buffer.alloc(6)
  header.writeUInt16LE(1, 2)
  header.writeUInt16LE(images.size, 4)
  let offset = header.length + 16 * images.size
  const entries = [...images].map(([size, png]) => {
    const entry = Buffer.alloc(16)
    entry.writeUInt8(size % 256, 0)
    entry.writeUInt8(size % 256, 1)
    entry.writeUInt16LE(1, 4) // colour planes
    entry.writeUInt16LE(32, 6) // bits per pixel
    entry.writeUInt32LE(png.length, 8)
    entry.writeUInt32LE(offset, 12)
    offset += png.length
    return entry
  })
  return Buffer.concat([header, ...entries, ...images.values()])
}

/** ICNS: "icns", total length, then chunks of type, length including the 8 bytes before the data, PNG. All big-endian. */
export function packIcns(chunks: readonly (readonly [type: string, png: Buffer])[]): Buffer {
  const body = chunks.map(([type, png]) => {
    const head = Buffer.alloc(8)
    head.write(type, 'latin1')
    head.writeUInt32BE(png.length + 8, 4)
    return Buffer.concat([head, png])
  })
  const head = Buffer.alloc(8)
  head.write('icns', 'latin1')
  head.writeUInt32BE(8 + body.reduce((sum, chunk) => sum + chunk.length, 0), 4)
  return Buffer.concat([head, ...body])
}

async function main(): Promise<void> {
  const executablePath = findChromium()
  if (executablePath === null) throw new Error('Drawing the icons needs Chromium; LATHE_CHROMIUM names one.')
  const browser = await chromium.launch({ executablePath, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] })
  const page = await browser.newPage()
  const svg = readFileSync(join(FOLDER, 'lathe.svg'), 'utf8')
  const images = new Map<number, Buffer>()
  for (const size of LINUX_SIZES) {
    await page.setViewportSize({ width: size, height: size })
    await page.setContent(`<style>*{margin:0}svg{display:block;width:${size}px;height:${size}px}</style>${svg}`)
    images.set(size, await page.screenshot({ omitBackground: true }))
  }
  await browser.close()
  const image = (size: number): Buffer => images.get(size) ?? Buffer.alloc(0)
  for (const size of LINUX_SIZES) writeFileSync(join(FOLDER, `${size}x${size}.png`), image(size))
  writeFileSync(join(FOLDER, 'lathe.ico'), packIco(new Map(ICO_SIZES.map((size) => [size, image(size)]))))
  writeFileSync(join(FOLDER, 'lathe.icns'), packIcns(Object.entries(ICNS_TYPES).map(([type, size]) => [type, image(size)])))
}

if (process.argv[1] === import.meta.filename) await main()
