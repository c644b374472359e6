/**
 * Published limits of GPUs that people plan for. Data only; sources and their trust are with each row (specs/benchmark.md §8, §8.1).
 * Tensor figures are dense: vendors' structured-sparse numbers are twice these and unreachable in this stack. `shader` is what plain
 * WGSL can reach and `tensor` what vLLM reaches, so a local estimate and a cluster estimate of one card differ, as they should.
 * A figure that is not known is null, never a guess.
 */

export type Confidence =
  /** Vendor data sheet or a tool that carries measured values. */
  | 'high'
  /** Derived from clocks and unit counts, or a single independent listing. */
  | 'medium'
  /** Press reports or community measurements; treat as ±20 %. */
  | 'low'

export interface Device {
  readonly id: string
  readonly name: string
  readonly vendor: 'nvidia' | 'amd' | 'intel' | 'apple' | 'qualcomm'
  /** Usable bytes, not the number on the box. */
  readonly memoryBytes: number
  /** True where the CPU shares the memory and the system takes its part. */
  readonly unified: boolean
  readonly gigabytesPerSecond: number
  /** TFLOP/s of f32 in ordinary shaders. */
  readonly shaderTeraflops: number | null
  /** Dense TFLOP/s or TOP/s of matrix units; null = no such path. */
  readonly tensor: { readonly bf16: number | null; readonly fp8: number | null; readonly int8: number | null; readonly fp4: number | null }
  readonly watts: number | null
  readonly confidence: Confidence
  /** Where its figures are from. */
  readonly source: string
}

const GIB = 2 ** 30
const MIB = 2 ** 20

type Row = readonly [
  id: string,
  name: string,
  vendor: Device['vendor'],
  memoryBytes: number,
  gigabytesPerSecond: number,
  shaderTeraflops: number | null,
  bf16: number | null,
  fp8: number | null,
  int8: number | null,
  fp4: number | null,
  watts: number | null,
  confidence: Confidence,
]

const UNIFIED = new Set(['gb10', 'strix-halo', 'm2-ultra', 'm3-ultra', 'm4', 'm4-pro', 'm4-max', 'm5', 'm5-pro', 'm5-max', 'x-elite'])

// prettier-ignore
const ROWS: readonly Row[] = [
  // GDDR cards of data centres keep a sixteenth of their memory for error correction: 24 and 16 GB are not all there (nvidia-smi's totals).
  // id, name, vendor, usable memory, GB/s, shader f32, bf16, fp8, int8, fp4, W, confidence
  ['b300', 'B300 SXM', 'nvidia', 275 * GIB, 7750, null, 2250, 4500, 153, 14000, 1400, 'medium'],
  ['gb200', 'GB200 (per GPU)', 'nvidia', 189471 * MIB, 8000, null, 2500, 5000, 5000, 10000, 1200, 'medium'],
  ['b200', 'B200 SXM', 'nvidia', 180 * GIB, 7700, null, 2250, 4500, 4500, 9000, 1000, 'high'],
  ['h200', 'H200 SXM', 'nvidia', 143771 * MIB, 4800, 67, 989, 1979, 1979, null, 700, 'high'],
  ['h100', 'H100 SXM', 'nvidia', 79.19 * GIB, 3350, 67, 989, 1979, 1979, null, 700, 'high'],
  ['h100-pcie', 'H100 PCIe', 'nvidia', 79.19 * GIB, 2000, 51, 756, 1513, 1513, null, 350, 'high'],
  ['a100', 'A100 SXM 80 GB', 'nvidia', 80 * GIB, 2039, 19.5, 312, null, 624, null, 400, 'high'],
  ['a100-pcie', 'A100 PCIe 80 GB', 'nvidia', 80 * GIB, 1935, 19.5, 312, null, 624, null, 300, 'high'],
  ['a30', 'A30', 'nvidia', 24 * GIB, 933, 10.3, 165, null, 330, null, 165, 'high'],
  ['l40s', 'L40S', 'nvidia', 46068 * MIB, 864, 91.6, 362, 733, 733, null, 350, 'high'],
  ['l4', 'L4', 'nvidia', 23034 * MIB, 300, 30.3, 121, 242, 242, null, 72, 'high'],
  ['a10', 'A10', 'nvidia', 23028 * MIB, 600, 31.2, 125, null, 250, null, 150, 'medium'],
  ['t4', 'T4', 'nvidia', 15360 * MIB, 320, 8.1, 65, null, 130, null, 70, 'medium'],
  ['rtx-pro-6000', 'RTX PRO 6000 Blackwell', 'nvidia', 96 * GIB, 1792, 120, 468, 936, 936, 1871, 600, 'medium'],
  ['a6000', 'RTX A6000', 'nvidia', 48 * GIB, 768, 38.7, 155, null, 310, null, 300, 'medium'],
  ['rtx-5090', 'RTX 5090', 'nvidia', 32 * GIB, 1792, 105, 210, 419, 838, 1676, 575, 'medium'],
  ['rtx-5080', 'RTX 5080', 'nvidia', 16 * GIB, 960, 56, 113, 225, 450, 900, 360, 'medium'],
  ['rtx-5070-ti', 'RTX 5070 Ti', 'nvidia', 16 * GIB, 896, 44, 88, 176, 351, 703, 300, 'medium'],
  ['rtx-4090', 'RTX 4090', 'nvidia', 24564 * MIB, 1008, 82.6, 165, 330, 661, null, 450, 'high'],
  ['rtx-4080', 'RTX 4080', 'nvidia', 16 * GIB, 717, 48.7, 97, 195, 390, null, 320, 'medium'],
  ['rtx-4060-ti', 'RTX 4060 Ti 16 GB', 'nvidia', 16 * GIB, 288, 22, 44, 88, 177, null, 165, 'medium'],
  ['rtx-3090', 'RTX 3090', 'nvidia', 24 * GIB, 936, 35.6, 71, null, 285, null, 350, 'medium'],
  ['rtx-3060', 'RTX 3060', 'nvidia', 12 * GIB, 360, 12.7, 25.5, null, 102, null, 170, 'medium'],
  ['gb10', 'DGX Spark (GB10)', 'nvidia', 128 * GIB, 273, 31, null, null, null, 500, 140, 'low'],
  ['mi300x', 'MI300X', 'amd', 192 * GIB, 5300, 163, 1307, 2615, 2615, null, 750, 'high'],
  ['mi325x', 'MI325X', 'amd', 256 * GIB, 6000, 163, 1307, 2615, 2615, null, 1000, 'medium'],
  ['mi355x', 'MI355X', 'amd', 288 * GIB, 8000, 157, 2500, 5000, 5000, 10000, 1400, 'low'],
  ['rx-7900-xtx', 'RX 7900 XTX', 'amd', 24 * GIB, 960, 61, 123, null, 123, null, 355, 'medium'],
  ['rx-9070-xt', 'RX 9070 XT', 'amd', 16 * GIB, 640, 48.7, 195, 389, 389, null, 304, 'medium'],
  ['strix-halo', 'Ryzen AI Max+ 395', 'amd', 128 * GIB, 256, 29.7, 59.4, null, 59.4, null, 120, 'low'],
  ['arc-b580', 'Arc B580', 'intel', 12 * GIB, 456, 13.7, 109, null, 219, null, 190, 'low'],
  ['arc-b60', 'Arc Pro B60', 'intel', 24 * GIB, 456, 12.3, 98, null, 197, null, 200, 'medium'],
  ['m2-ultra', 'M2 Ultra', 'apple', 192 * GIB, 800, 27.2, null, null, null, null, 150, 'medium'],
  ['m3-ultra', 'M3 Ultra', 'apple', 512 * GIB, 819, 28.4, null, null, null, null, 180, 'medium'],
  ['m4', 'M4', 'apple', 32 * GIB, 120, 4.6, null, null, null, null, 22, 'medium'],
  ['m4-pro', 'M4 Pro', 'apple', 64 * GIB, 273, 9.2, null, null, null, null, 45, 'medium'],
  ['m4-max', 'M4 Max', 'apple', 128 * GIB, 546, 18.4, null, null, null, null, 100, 'medium'],
  ['m5', 'M5', 'apple', 32 * GIB, 154, 5.7, null, null, null, null, 25, 'low'],
  ['m5-pro', 'M5 Pro', 'apple', 64 * GIB, 307, 11.4, null, null, null, null, 50, 'low'],
  ['m5-max', 'M5 Max', 'apple', 128 * GIB, 614, 22.8, null, null, null, null, 110, 'low'],
  ['x-elite', 'Snapdragon X Elite', 'qualcomm', 64 * GIB, 135, 4.6, null, null, null, null, 80, 'low'],
]

const DATA_CENTRE = new Set([
  'b300',
  'gb200',
  'b200',
  'h200',
  'h100',
  'h100-pcie',
  'a100',
  'a100-pcie',
  'a30',
  'l40s',
  'l4',
  'rtx-pro-6000',
  'arc-b60',
])

/** specs/benchmark.md §8.1. */
function sourceOf(id: string, vendor: Device['vendor']): string {
  if (DATA_CENTRE.has(id)) return 'aiconfigurator system files, which carry measured values, and vendor data sheets'
  if (id === 'gb10' || id === 'strix-halo') return 'community measurements, ±20 %'
  if (id === 'mi355x') return 'press reports of vendor slides'
  if (id.startsWith('rtx-')) return 'vendor data sheet; matrix units from clock and unit count at boost'
  if (vendor === 'apple') return 'vendor data and huggingface.js hardware list'
  return 'vendor data sheet'
}

export const DEVICES: readonly Device[] = ROWS.map(
  ([id, name, vendor, memoryBytes, gigabytesPerSecond, shaderTeraflops, bf16, fp8, int8, fp4, watts, confidence]) => ({
    id,
    name,
    vendor,
    memoryBytes,
    unified: UNIFIED.has(id),
    gigabytesPerSecond,
    shaderTeraflops,
    tensor: { bf16, fp8, int8, fp4 },
    watts,
    confidence,
    source: sourceOf(id, vendor),
  }),
)

/** Words of a device name without vendor noise: "NVIDIA GeForce RTX 4090" → rtx, 4090. Whole words, so that a "GT 430" is no T4. */
function wordsOf(text: string): string[] {
  const noise = new Set(['nvidia', 'geforce', 'amd', 'radeon', 'intel', 'apple', ''])
  return text
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .filter((word) => !noise.has(word))
}

function containsRun(words: readonly string[], run: readonly string[]): boolean {
  return words.some((_, start) => run.every((word, index) => words[start + index] === word))
}

/**
 * The device a driver or a person names ("NVIDIA GeForce RTX 4090", "h200"): exact name first, then the longest id whose words all appear
 * in a row. null when none matches: a wrong card is worse than none.
 */
export function findDevice(text: string): Device | null {
  const words = wordsOf(text)
  const exact = DEVICES.find((device) => wordsOf(device.name).join(' ') === words.join(' '))
  if (exact !== undefined) return exact
  const contained = DEVICES.filter((device) => containsRun(words, wordsOf(device.id)))
  return contained.toSorted((a, b) => b.id.length - a.id.length)[0] ?? null
}
