/**
 * Memory of an adapter as the operating system reports it, since WebGPU reports none (specs/dawn-node.md §3). The source is always named;
 * where nobody knows, the figures are null. Never used to choose an adapter.
 */
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import os from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Adapter } from '../contract/hardware.ts'

export type AdapterMemory = Adapter['memory']

const run = promisify(execFile)
const MEBIBYTE = 2 ** 20
/** nvidia-smi wakes a sleeping driver, which takes seconds on some laptops; past this it is treated as absent. */
const NVIDIA_SMI_TIMEOUT_MS = 5000
const UNKNOWN: AdapterMemory = { totalBytes: null, freeBytes: null, source: 'not reported by this system' }

/** Memory of the device named by its driver. Integrated and software adapters share the host's. */
export async function memoryOf(name: string, type: Adapter['type']): Promise<AdapterMemory> {
  if (type === 'software') return { totalBytes: os.totalmem(), freeBytes: os.freemem(), source: 'host memory' }
  if (type === 'integrated') return { totalBytes: os.totalmem(), freeBytes: os.freemem(), source: 'shared with host memory' }
  if (/nvidia|geforce|quadro|tesla/i.test(name)) return (await nvidiaMemory(name)) ?? UNKNOWN
  return (await amdMemory()) ?? UNKNOWN
}

async function nvidiaMemory(name: string): Promise<AdapterMemory | null> {
  let text: string
  try {
    const query = ['--query-gpu=name,memory.total,memory.free', '--format=csv,noheader,nounits']
    text = (await run('nvidia-smi', query, { timeout: NVIDIA_SMI_TIMEOUT_MS })).stdout
  } catch {
    return null // no nvidia-smi, or no answer: memory is then unknown, which the caller shows
  }
  return parseNvidiaSmi(text, name)
}

/** Rows of `name, total MiB, free MiB`; the row whose name the adapter's contains, or the only row. */
export function parseNvidiaSmi(text: string, name: string): AdapterMemory | null {
  const rows = text
    .split('\n')
    .map((line) => line.split(',').map((field) => field.trim()))
    .filter((fields) => fields.length === 3)
  const row = rows.find(([gpu]) => gpu !== undefined && name.includes(gpu)) ?? (rows.length === 1 ? rows[0] : undefined)
  const total = Number(row?.[1])
  const free = Number(row?.[2])
  if (!Number.isFinite(total) || !Number.isFinite(free) || total <= 0) return null
  return { totalBytes: total * MEBIBYTE, freeBytes: free * MEBIBYTE, source: 'nvidia-smi' }
}

/** amdgpu's sysfs counters. With several cards the largest is reported: the integrated one's carve-out is small. */
async function amdMemory(root = '/sys/class/drm'): Promise<AdapterMemory | null> {
  if (process.platform !== 'linux') return null
  const cards = await readdir(root).catch(() => [])
  let best: AdapterMemory | null = null
  for (const card of cards.filter((entry) => /^card\d+$/.test(entry))) {
    const total = await readNumber(join(root, card, 'device/mem_info_vram_total'))
    const used = await readNumber(join(root, card, 'device/mem_info_vram_used'))
    if (total === null || used === null || total <= (best?.totalBytes ?? 0)) continue
    best = { totalBytes: total, freeBytes: Math.max(0, total - used), source: 'amdgpu sysfs' }
  }
  return best
}

async function readNumber(path: string): Promise<number | null> {
  const text = await readFile(path, 'utf8').catch(() => '')
  const value = Number(text.trim())
  return text.trim() !== '' && Number.isFinite(value) ? value : null
}
