/**
 * MB/s of everything that touches each weight of a compression, beside a plain copy of the same bytes in memory and through the file
 * system. Run: node engine/checkpoint/bench/conversions.ts [MB]. The compressor aims at half the speed of a file copy, so the sum of these
 * per-byte costs has to stay below the copy's. MB = 10^6 source bytes.
 */
import { copyFile, mkdtemp, open, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { asBytes, asInt32, findNonFinite, narrowFromF32, widenToF32 } from '../dtypes.ts'
import { packRows, unpackRows } from '../packing.ts'
import { openCheckpoint } from '../open.ts'
import { createSafetensorsWriter, planSafetensors, writeWholeFile } from '../safetensors-writer.ts'

const megabytes = Number(process.argv[2] ?? 64)
const REPEATS = 5
const CHUNK_BYTES = 4 << 20

function best(run: () => void): number {
  let seconds = Infinity
  for (let i = 0; i < REPEATS; i++) {
    const start = performance.now()
    run()
    seconds = Math.min(seconds, (performance.now() - start) / 1000)
  }
  return seconds
}

async function bestOfFew(run: () => Promise<void>): Promise<number> {
  let seconds = Infinity
  for (let i = 0; i < 3; i++) {
    const start = performance.now()
    await run()
    seconds = Math.min(seconds, (performance.now() - start) / 1000)
  }
  return seconds
}

function print(what: string, bytes: number, seconds: number): void {
  console.log(`${what.padEnd(44)} ${(bytes / 1e6 / seconds).toFixed(0).padStart(7)} MB/s`)
}

const count = Math.floor((megabytes * 1e6) / 2 / 1024) * 1024
const halves = new Uint8Array(count * 2)
const values = new Float32Array(count)
// A cheap deterministic spread of finite values.
for (let i = 0; i < count; i++) values[i] = Math.sin(i * 12.9898) * 0.05
narrowFromF32(values, 'BF16', halves)
const bytes = halves.byteLength
console.log(`${(bytes / 1e6).toFixed(0)} MB of BF16, best of ${REPEATS}; rates are per BF16 source byte\n`)

const target = new Uint8Array(bytes)
print(
  'memory copy',
  bytes,
  best(() => target.set(halves)),
)
print(
  'BF16 → F32',
  bytes,
  best(() => widenToF32(halves, 'BF16', values)),
)
print(
  'F32 → BF16',
  bytes,
  best(() => narrowFromF32(values, 'BF16', target)),
)
const f16 = narrowFromF32(values, 'F16').slice()
print(
  'F16 → F32',
  bytes,
  best(() => widenToF32(f16, 'F16', values)),
)
print(
  'F32 → F16',
  bytes,
  best(() => narrowFromF32(values, 'F16', target)),
)
const fp8 = new Uint8Array(count)
print(
  'F32 → F8_E4M3',
  bytes,
  best(() => narrowFromF32(values, 'F8_E4M3', fp8)),
)
print(
  'F8_E4M3 → F32',
  bytes,
  best(() => widenToF32(fp8, 'F8_E4M3', values)),
)
print(
  'NaN/Inf scan BF16',
  bytes,
  best(() => findNonFinite(halves, 'BF16')),
)
print(
  'NaN/Inf scan F32',
  bytes,
  best(() => findNonFinite(asBytes(values), 'F32')),
)
const codes = new Int8Array(count)
const rows = count / 1024
for (const bits of [8, 4, 3, 2]) {
  for (let i = 0; i < count; i++) codes[i] = ((i * 37) % 2 ** bits) - 2 ** (bits - 1)
  const words = packRows(codes, rows, 1024, bits)
  print(
    `pack ${bits} bits`,
    bytes,
    best(() => packRows(codes, rows, 1024, bits, words)),
  )
  print(
    `unpack ${bits} bits`,
    bytes,
    best(() => unpackRows(words, rows, 1024, bits, codes)),
  )
}
if (asInt32(target).length === 0) throw new Error('nothing was measured')

const folder = await mkdtemp(join(tmpdir(), 'lathe-bench-'))
try {
  const plan = planSafetensors([{ name: 'weight', dtype: 'BF16', shape: [rows, 1024] }])
  const write = async (): Promise<void> => {
    await rm(join(folder, 'model.safetensors'), { force: true })
    await using writer = await createSafetensorsWriter({ folder, plan })
    for (let at = 0; at < bytes; at += CHUNK_BYTES) await writer.write('weight', halves.subarray(at, at + CHUNK_BYTES))
    await writer.finish()
  }
  print('\nsafetensors writer, fsync included', bytes, await bestOfFew(write))
  const source = join(folder, 'model.safetensors')
  const copy = async (): Promise<void> => {
    await rm(join(folder, 'copy'), { force: true })
    await copyFile(source, join(folder, 'copy'))
    await using handle = await open(join(folder, 'copy'))
    await handle.sync()
  }
  print('plain file copy, fsync included', (await stat(source)).size, await bestOfFew(copy))
  await writeWholeFile(folder, 'config.json', new TextEncoder().encode('{"model_type":"bench"}'))
  const read = async (): Promise<void> => {
    await using checkpoint = await openCheckpoint(folder)
    const tensor = checkpoint.open('weight')
    for (let at = 0; at < bytes; at += CHUNK_BYTES) await tensor.read(at, Math.min(CHUNK_BYTES, bytes - at))
  }
  print('ranged reads of 4 MiB (cached file)', bytes, await bestOfFew(read))
} finally {
  await rm(folder, { recursive: true, force: true })
}
