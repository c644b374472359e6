/**
 * The files of a finished folder that hold no weights: config.json with its quantization_config, the source's side files copied as they
 * are, and which of the source's files stay behind. Knows the folder, not the tensors.
 */
import { constants, copyFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openFolder } from '../checkpoint/files.ts'
import type { ModelFolder } from '../checkpoint/files.ts'
import { serializeQuantizationConfig } from '../checkpoint/quantization-config.ts'
import { parseStrictJson } from '../checkpoint/strict-json.ts'
import type { QuantizationConfig } from '../checkpoint/types.ts'
import { LatheError } from '../contract/errors.ts'

export const RECIPE_FILE = 'recipe.yaml'
export const RUN_FILE = 'run.json'
export const CARD_FILE = 'README.md'
const CONFIG_FILE = 'config.json'

/** Written anew, or speaking of weights that are not in the result. */
const REPLACED = new Set([CONFIG_FILE, RECIPE_FILE, RUN_FILE, CARD_FILE])
const WEIGHTS = /\.(?:safetensors|bin|pt|pth|ckpt|h5|msgpack|gguf|onnx|onnx_data|tflite|ot|npz)$|\.index\.json$/i

function isLeft(name: string): boolean {
  return WEIGHTS.test(name) || name.startsWith('.')
}

export interface SideFiles {
  readonly copied: readonly { readonly name: string; readonly bytes: number }[]
  /** Old weights, hidden files: left behind. */
  readonly left: readonly string[]
}

export function sideFilesOf(files: readonly { readonly name: string; readonly bytes: number }[]): SideFiles {
  return {
    copied: files.filter(({ name }) => !REPLACED.has(name) && !isLeft(name)),
    left: files
      .filter(({ name }) => isLeft(name) && !name.endsWith('.safetensors') && !name.endsWith('.safetensors.index.json'))
      .map(({ name }) => name),
  }
}

/** Copies side files byte for byte; cheap where the file system can share blocks. */
export async function copySideFiles(sourceFolder: string, names: readonly string[], outFolder: string): Promise<void> {
  const source = await openFolder(sourceFolder)
  for (const name of names) {
    await copyFile(pathOf(source, name), join(outFolder, name), constants.COPYFILE_FICLONE)
  }
}

export async function readConfigBytes(sourceFolder: string): Promise<Uint8Array> {
  return readFile(pathOf(await openFolder(sourceFolder), CONFIG_FILE))
}

/** The source's own model card, if it has one. */
export async function readCard(sourceFolder: string): Promise<string | null> {
  const path = (await openFolder(sourceFolder)).realPathOf(CARD_FILE)
  return path === null ? null : readFile(path, 'utf8')
}

function pathOf(folder: ModelFolder, name: string): string {
  const path = folder.realPathOf(name)
  if (path === null)
    throw new LatheError('checkpoint.not-found', `${name} has gone from ${folder.path}.`, 'Restore the file and try again.')
  return path
}

/** Source text access of JSON (ES2026, in Node since 22), which TypeScript's library does not know yet. */
interface RawJson {
  parse(text: string, reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown): unknown
  rawJSON(text: string): unknown
}

/**
 * config.json with `quantization_config` and what else a recipe changes, indented by two. Numbers keep their spelling: 10000.0 stays a float for readers that tell it
 * from 10000.
 */
export function configWithQuantization(
  configBytes: Uint8Array,
  quantization: QuantizationConfig | null,
  changes: Readonly<Record<string, unknown>> = {},
): Uint8Array {
  // Strict parsing first: duplicate keys would be merged silently below.
  parseStrictJson(configBytes, { what: CONFIG_FILE, code: 'checkpoint.invalid-config' })
  const json = JSON as unknown as RawJson
  const config = json.parse(new TextDecoder().decode(configBytes), (_, value, { source }) =>
    typeof value === 'number' && source !== undefined ? json.rawJSON(source) : value,
  ) as Record<string, unknown>
  const written = {
    ...config,
    ...changes,
    ...(quantization === null ? {} : { quantization_config: serializeQuantizationConfig(quantization) }),
  }
  return new TextEncoder().encode(`${JSON.stringify(written, null, 2)}\n`)
}
