/** The checkpoint port over engine/checkpoint and engine/model: what a folder's headers and side files say, in the contract's words. */
import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isForeignMethod } from '../../checkpoint/foreign-packing.ts'
import { architectureOf } from '../../checkpoint/hf-config.ts'
import { storedLinears } from '../../checkpoint/modules.ts'
import type { StoredLinear } from '../../checkpoint/modules.ts'
import { openCheckpoint } from '../../checkpoint/open.ts'
import { tensorStats } from '../../checkpoint/tensor-stats.ts'
import type { Checkpoint, QuantizationArgs, TensorEntry } from '../../checkpoint/types.ts'
import { schemeFromArgs } from '../../compress/scheme-args.ts'
import { inputElementsOf, schemeName } from '../../compress/scheme.ts'
import { LatheError } from '../../contract/index.ts'
import type { InputElement, TensorInfo, TensorStats } from '../../contract/index.ts'
import { type StepParts, stepPartsOf } from '../../gpu/step-costs.ts'
import { DEFAULT_KV_DTYPE } from '../../gpu/kv-format.ts'
import { kvBytesPerToken } from '../../model/memory.ts'
import { buildProgram } from '../../model/program-builder.ts'
import { namedCacheType } from '../../model/key-value-scales.ts'
import { describeModel } from '../../model/spec.ts'
import { supportOf } from '../../model/support.ts'
import type { FolderFacts } from '../ports.ts'

const HASH_BLOCK_BYTES = 4 << 20
/** A model card's front matter is a few lines; more than this is not looked at. */
const MAX_CARD_BYTES = 256 * 1024
/** tokenizer_config.json of large vocabularies reaches a few megabytes. */
const MAX_TOKENIZER_CONFIG_BYTES = 16 * 1024 * 1024

/** Throws what `openCheckpoint` throws; an architecture that can't be run is a fact, not an error. */
export async function inspectModelFolder(folder: string): Promise<FolderFacts> {
  await using checkpoint = await openCheckpoint(folder, { inspectOnly: true })
  const tensors = Array.from(checkpoint.tensors.values(), toTensorInfo)
  const { linears, trouble } = await readLinears(checkpoint)
  const parameters = countParameters(checkpoint, linears)
  const weightBytes = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0)
  const card = await readCard(folder)
  const kvCacheDtype = namedCacheType(checkpoint)
  const fileNames = new Set(checkpoint.files.map((file) => file.name))
  return {
    architecture: { ...architectureOf(checkpoint.config), ...(kvCacheDtype !== null && { kvCacheDtype }) },
    parameters,
    weightBytes,
    diskBytes: checkpoint.files.reduce((sum, file) => sum + file.bytes, 0),
    scheme: schemeOf(checkpoint, tensors, linears),
    inputElements: inputElementsIn(linears),
    bitsPerWeight: parameters === 0 ? 0 : (weightBytes * 8) / parameters,
    hasTokenizer: fileNames.has('tokenizer.json'),
    hasChatTemplate: fileNames.has('chat_template.jinja') || (await namesChatTemplate(folder)),
    license: card.license,
    title: card.title,
    config: checkpoint.config,
    files: checkpoint.files.map(({ name, bytes }) => ({ name, bytes })),
    tensors,
    bytesByDtype: sumBytes(tensors, (tensor) => tensor.dtype),
    bytesByKind: sumBytes(tensors, (tensor) => tensor.kind),
    unsupported: trouble ?? unsupportedReason(checkpoint),
    kvBytesPerToken: kvBytesOf(checkpoint),
    hasKvScales: checkpoint.tensors.has('model.layers.0.self_attn.k_scale'),
    kvCacheDtype,
    stepParts: trouble === null && unsupportedReason(checkpoint) === null ? partsOf(checkpoint) : null,
  }
}

/** Reads one tensor's weights, in blocks. */
export async function readTensorStats(folder: string, name: string, signal: AbortSignal): Promise<TensorStats> {
  await using checkpoint = await openCheckpoint(folder)
  // Awaited here: the folder closes when this function returns.
  return await tensorStats(checkpoint, name, { signal })
}

/** In blocks, so that a large tensor costs no memory. */
export async function hashTensor(folder: string, name: string): Promise<string> {
  await using checkpoint = await openCheckpoint(folder, { inspectOnly: true })
  const source = checkpoint.open(name)
  const hash = createHash('sha256')
  for (let at = 0; at < source.byteLength; at += HASH_BLOCK_BYTES) {
    hash.update(await source.read(at, Math.min(HASH_BLOCK_BYTES, source.byteLength - at)))
  }
  return hash.digest('hex')
}

/** Which part of a decoder a tensor belongs to, by the names that all supported families use. */
export function tensorKind(name: string): string {
  if (/(^|[._])(norm|layernorm|ln_[\df]|ln)([._]|$)|norm\.|layernorm/.test(name)) return 'norm'
  if (/embed|wte\.|wpe\./.test(name)) return 'embedding'
  if (/(^|\.)(lm_head|output_head)\./.test(name)) return 'head'
  if (/attn|attention/.test(name)) return 'attention'
  if (/mlp|feed_forward|experts|ffn/.test(name)) return 'mlp'
  return 'other'
}

export function tensorLayer(name: string): number | null {
  const match = /(?:^|\.)(?:layers|h|blocks)\.(\d+)\./.exec(name)
  return match === null ? null : Number(match[1])
}

function toTensorInfo(entry: TensorEntry): TensorInfo {
  const { name, dtype, shape, byteLength: bytes, file } = entry
  return { name, dtype, shape: [...shape], bytes, file, kind: tensorKind(name), layer: tensorLayer(name) }
}

/** Tensors that contradict the quantization config make a model that can be looked at, not run. */
async function readLinears(checkpoint: Checkpoint): Promise<{ linears: readonly StoredLinear[]; trouble: LatheError | null }> {
  try {
    return { linears: await storedLinears(checkpoint), trouble: null }
  } catch (error) {
    if (!(error instanceof LatheError)) throw error
    return { linears: [], trouble: error }
  }
}

/** Weights that the model has, however they are packed. Scales, zero points and shapes are storage, not parameters. */
function countParameters(checkpoint: Checkpoint, linears: readonly StoredLinear[]): number {
  const storage = new Set<string>()
  let parameters = 0
  for (const linear of linears) {
    parameters += linear.rows * linear.cols
    const { weight, packed, scale, zeroPoint, groupIndex, extras } = linear.tensors
    for (const entry of [weight, packed, scale, zeroPoint, groupIndex, ...Object.values(extras)]) {
      if (entry !== null) storage.add(entry.name)
    }
    storage.add(`${linear.name}.weight_shape`)
  }
  for (const entry of checkpoint.tensors.values()) {
    if (!storage.has(entry.name)) parameters += entry.shape.reduce((product, extent) => product * extent, 1)
  }
  return parameters
}

/** "BF16", "W4A16 g128", "mixed": what a person calls it. */
function schemeOf(checkpoint: Checkpoint, tensors: readonly TensorInfo[], linears: readonly StoredLinear[]): string {
  if (checkpoint.quantization === null) {
    const foreign = checkpoint.config['quantization_config']
    if (typeof foreign === 'object' && foreign !== null && 'quant_method' in foreign) return String(foreign.quant_method)
    const byDtype = Object.entries(sumBytes(tensors, (tensor) => tensor.dtype)).toSorted((a, b) => b[1] - a[1])
    return byDtype[0]?.[0] ?? 'empty'
  }
  const names = new Set(linears.flatMap(({ args, group }) => (args === null ? [] : [schemeText(args, group?.inputActivations ?? null)])))
  const stored = checkpoint.config['quantization_config']
  const method = typeof stored === 'object' && stored !== null && 'quant_method' in stored ? stored.quant_method : null
  if (names.size === 0) return 'compressed-tensors'
  const name = names.size === 1 ? [...names].join('') : 'mixed'
  return isForeignMethod(method) ? `${method.toUpperCase()} ${name}` : name
}

/** What a scheme of ours rounds inputs to; foreign combinations run weight-only. */
function inputElementsIn(linears: readonly StoredLinear[]): readonly InputElement[] {
  const found = linears.flatMap(({ args, group }) => {
    const scheme = args === null ? null : schemeFromArgs({ ...args, actorder: null }, group?.inputActivations ?? null)
    return scheme === null || 'reason' in scheme ? [] : inputElementsOf(scheme)
  })
  return [...new Set(found)]
}

/** "W4A16 g128", "FP8_DYNAMIC", "NVFP4A16"; what no scheme of ours is, by its bits. */
function schemeText(weights: QuantizationArgs, activations: QuantizationArgs | null): string {
  const scheme = schemeFromArgs({ ...weights, actorder: null }, activations)
  if (!('reason' in scheme)) return schemeName(scheme)
  const unit = weights.groupSize === null || weights.strategy === 'channel' ? weights.strategy : `g${weights.groupSize}`
  const float = weights.type === 'float' ? ` FP${weights.numBits}` : ''
  return `W${weights.numBits}A${activations?.numBits ?? 16}${float} ${unit}${weights.symmetric ? '' : ' asymmetric'}`
}

function unsupportedReason(checkpoint: Checkpoint): LatheError | null {
  const support = supportOf(checkpoint.config)
  if (support.supported) return null
  return new LatheError(
    'model.unsupported-architecture',
    `Lathe can't run this model yet. Missing: ${support.missing.join('; ')}.`,
    'It can be inspected. Running needs Llama, Mistral, Qwen2, Qwen3 or Phi-3 with dense weights or those of compressed-tensors, GPTQ and AWQ.',
    { data: { missing: support.missing } },
  )
}

function kvBytesOf(checkpoint: Checkpoint): number | null {
  try {
    return kvBytesPerToken(describeModel(checkpoint.config, checkpoint.generationConfig), DEFAULT_KV_DTYPE)
  } catch (error) {
    if (error instanceof LatheError) return null
    throw error
  }
}

/** null where the tensors are not what the architecture needs: loading says what is wrong. Only headers are read. */
function partsOf(checkpoint: Checkpoint): StepParts | null {
  try {
    return stepPartsOf(buildProgram(describeModel(checkpoint.config, checkpoint.generationConfig), checkpoint, 1))
  } catch (error) {
    if (error instanceof LatheError) return null
    throw error
  }
}

async function namesChatTemplate(folder: string): Promise<boolean> {
  const text = await readText(join(folder, 'tokenizer_config.json'), MAX_TOKENIZER_CONFIG_BYTES)
  if (text === null) return false
  try {
    const config: unknown = JSON.parse(text)
    return typeof config === 'object' && config !== null && 'chat_template' in config && config.chat_template !== null
  } catch {
    // the tokenizer reader explains a damaged file when the tokenizer is used
    return false
  }
}

/** `license:` of the model card's front matter, and its first heading. */
async function readCard(folder: string): Promise<{ readonly license: string | null; readonly title: string | null }> {
  const card = (await readText(join(folder, 'README.md'), MAX_CARD_BYTES)) ?? ''
  const frontMatter = /^---\r?\n([\s\S]*?)\r?\n---/.exec(card)?.[1] ?? ''
  const license = /^license:[ \t]*["']?([^"'\r\n]+?)["']?[ \t]*$/m.exec(frontMatter)?.[1]
  const title = /^# +(.+?)[ \t]*$/m.exec(card)?.[1]
  return { license: license ?? null, title: title ?? null }
}

async function readText(path: string, maxBytes: number): Promise<string | null> {
  try {
    const info = await stat(path)
    return info.isFile() && info.size <= maxBytes ? await readFile(path, 'utf8') : null
  } catch {
    // a side file that is absent or unreadable only means that there is less to say
    return null
  }
}

function sumBytes(tensors: readonly TensorInfo[], keyOf: (tensor: TensorInfo) => string): Record<string, number> {
  const sums: Record<string, number> = {}
  for (const tensor of tensors) {
    const key = keyOf(tensor)
    sums[key] = (sums[key] ?? 0) + tensor.bytes
  }
  return sums
}
