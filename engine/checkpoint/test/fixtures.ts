/** Test helpers: temporary folders, hand-made safetensors bytes (not through our writer), and the shared test data where it is present. */
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished } from 'vitest'
import type { ErrorCode } from '../../contract/errors.ts'
import { LatheError } from '../../contract/errors.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))
export const DEMO_MODEL = join(root, 'assets/demo-model')
const shared = join(root, '../shared/data')

/** Path inside the shared test data, or null (with a printed reason) where it is absent. */
export function sharedData(path: string): string | null {
  const full = join(shared, path)
  if (existsSync(full)) return full
  process.stderr.write(`skipped: ../shared/data/${path} is not beside this checkout\n`)
  return null
}

/** A new folder, removed when the test ends. */
export async function temporaryFolder(files: Readonly<Record<string, string | Uint8Array>> = {}): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'lathe-checkpoint-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content)
  return folder
}

/** The smallest config.json that is one. */
export const CONFIG = JSON.stringify({ architectures: ['LlamaForCausalLM'], model_type: 'llama' })

/** A safetensors file from its header and data as given, right or wrong. */
export function safetensors(header: unknown, data: Uint8Array | number = 0): Uint8Array {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header))
  const bytes = typeof data === 'number' ? new Uint8Array(data) : data
  const file = new Uint8Array(8 + json.byteLength + bytes.byteLength)
  new DataView(file.buffer).setBigUint64(0, BigInt(json.byteLength), true)
  file.set(json, 8)
  file.set(bytes, 8 + json.byteLength)
  return file
}

/** A well-formed file of named tensors in the given order. */
export function tensorFile(tensors: readonly { name: string; dtype: string; shape: readonly number[]; data: Uint8Array }[]): Uint8Array {
  const header: Record<string, unknown> = {}
  const data = Buffer.concat(tensors.map((tensor) => tensor.data))
  let at = 0
  for (const { name, dtype, shape, data: bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.byteLength] }
    at += bytes.byteLength
  }
  return safetensors(header, data)
}

/** The LatheError that a call throws; fails for anything else, for an empty message or hint. */
export async function latheError(run: () => unknown, code?: ErrorCode): Promise<LatheError> {
  let thrown: unknown = 'nothing was thrown'
  try {
    await run()
  } catch (error) {
    thrown = error
  }
  expect(thrown).toBeInstanceOf(LatheError)
  const error = thrown as LatheError
  if (code !== undefined) expect({ code: error.code, message: error.message }).toEqual({ code, message: error.message })
  expect(error.message.length).toBeGreaterThan(10)
  expect(error.hint.length).toBeGreaterThan(10)
  return error
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex').toUpperCase()
}

export function fromHex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))
}
