/**
 * What is wrong with a compressed-tensors folder, by its own files alone (specs/compressed-tensors.md §11): the list that a result passes before
 * it gets its name. Every finding has the name of its check. Knows neither plan nor journal, so that it sees what another reader would see; bytes
 * and decoded values are compared in verify.ts.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDenseDtype, widenToF32 } from '../checkpoint/dtypes.ts'
import { classOf } from '../checkpoint/modules.ts'
import { openCheckpoint } from '../checkpoint/open.ts'
import { schemeFor, schemesFor } from '../checkpoint/quantization-config.ts'
import { INDEX_FILE } from '../checkpoint/safetensors-writer.ts'
import type { Checkpoint, QuantizationConfig, QuantizationGroup, TensorEntry } from '../checkpoint/types.ts'
import { LatheError } from '../contract/errors.ts'
import { SCALE_EPSILON } from './algorithms/integer-grid.ts'
import { compareNames, fusedKey, keptByDesign } from './module-roles.ts'
import { schemeFromArgs } from './scheme-args.ts'
import { columnsPerScale, schemeFormat } from './scheme.ts'
import type { Scheme } from './scheme.ts'

export type FindingCheck =
  | 'readable'
  | 'group-size'
  | 'fused-layers'
  | 'ignore-list'
  | 'zero-point'
  | 'weight-shape'
  | 'format'
  | 'global-scale'
  | 'config-keys'
  | 'tied-embedding'
  | 'leftover-weight'
  | 'index-size'
  | 'scales'

export interface Finding {
  readonly check: FindingCheck
  /** A server refuses or computes nonsense, or it works and somebody should know. */
  readonly severity: 'error' | 'warning'
  readonly text: string
}

/** Modules named in one finding. */
const NAMED = 3
/** Above this, groups without a value are more than padding: a layer of zeros computes nothing. */
const MANY_EMPTY_SCALES = 0.1
const SUFFIX = /\.(weight|weight_packed|weight_scale|weight_zero_point|weight_shape|weight_global_scale)$/

interface Module {
  readonly name: string
  readonly parts: ReadonlyMap<string, TensorEntry>
  /** What the config takes it for; null = left as it is. */
  readonly group: QuantizationGroup | null
  readonly scheme: Scheme | null
}

/** Errors first, each check once. Only what cannot be read at all ends the list early. */
export async function folderFindings(folder: string, signal?: AbortSignal): Promise<readonly Finding[]> {
  let opened: Checkpoint
  try {
    opened = await openCheckpoint(folder)
  } catch (cause) {
    if (!(cause instanceof LatheError)) throw cause
    return [{ check: cause.code === 'checkpoint.invalid-config' ? 'config-keys' : 'readable', severity: 'error', text: cause.message }]
  }
  await using checkpoint = opened
  const findings: Finding[] = [...sparsityKeys(checkpoint), ...tiedEmbedding(checkpoint), ...(await indexSize(checkpoint))]
  const config = checkpoint.quantization
  if (config !== null) {
    const modules = modulesOf(checkpoint, config)
    findings.push(
      ...leftovers(modules),
      ...ignoreList(config, modules, checkpoint),
      ...fusedLayers(modules),
      ...formats(config, modules),
      ...zeroPoints(modules),
      ...weightShapes(modules),
      ...(await groupSizes(checkpoint, modules)),
      ...(await globalScales(checkpoint, modules)),
      ...(await scales(checkpoint, modules, signal)),
    )
  }
  return findings.toSorted((a, b) => Number(a.severity === 'warning') - Number(b.severity === 'warning'))
}

function modulesOf(checkpoint: Checkpoint, config: QuantizationConfig): readonly Module[] {
  const parts = new Map<string, Map<string, TensorEntry>>()
  for (const tensor of checkpoint.tensors.values()) {
    const suffix = SUFFIX.exec(tensor.name)?.[1]
    if (suffix === undefined) continue
    const name = tensor.name.slice(0, -suffix.length - 1)
    const known = parts.get(name) ?? new Map<string, TensorEntry>()
    parts.set(name, known.set(suffix, tensor))
  }
  // Norms have a weight too, of one dimension.
  const matrices = [...parts].filter(([, each]) => each.size > 1 || each.get('weight')?.shape.length === 2)
  const named = matrices.map(([name]) => ({ name, className: classOf(name) }))
  const groups = schemesFor(config, named)
  return matrices
    .map(([name, each], i): Module => {
      const group = groups[i] ?? null
      const weights = group?.weights ?? null
      const read = weights === null ? null : schemeFromArgs({ ...weights, actorder: null }, group?.inputActivations ?? null)
      return { name, parts: each, group, scheme: read === null || 'reason' in read ? null : read }
    })
    .sort((a, b) => compareNames(a.name, b.name))
}

function isQuantized({ parts }: Module): boolean {
  return parts.has('weight_scale') || parts.has('weight_packed')
}

/** One finding for all modules that a check is about; none where there are none. */
function about(check: FindingCheck, severity: Finding['severity'], modules: readonly { readonly name: string }[], says: string): Finding[] {
  if (modules.length === 0) return []
  const names = modules.slice(0, NAMED).map(({ name }) => name)
  const more = modules.length > NAMED ? ` and ${modules.length - NAMED} more` : ''
  return [{ check, severity, text: `${names.join(', ')}${more}: ${says}` }]
}

function error(check: FindingCheck, modules: readonly { readonly name: string }[], says: string): Finding[] {
  return about(check, 'error', modules, says)
}

/** §11.7. Unknown keys of groups and arguments are refused when the folder is opened. */
function sparsityKeys({ config }: Checkpoint): Finding[] {
  const raw = config['quantization_config']
  if (typeof raw !== 'object' || raw === null) return []
  const sparsity: unknown = 'sparsity_config' in raw ? raw.sparsity_config : undefined
  if (typeof sparsity === 'object' && sparsity !== null && Object.keys(sparsity).length === 0) return []
  return [
    {
      check: 'config-keys',
      severity: 'error',
      text: 'quantization_config.sparsity_config is not {}, which some readers take for a sparse format',
    },
  ]
}

/** §11.8. */
function tiedEmbedding({ config, tensors }: Checkpoint): Finding[] {
  const twice = config['tie_word_embeddings'] === true && tensors.has('lm_head.weight') && tensors.has('model.embed_tokens.weight')
  if (!twice) return []
  return [
    {
      check: 'tied-embedding',
      severity: 'error',
      text: 'lm_head.weight is stored although the embedding is tied to it: the same weights twice',
    },
  ]
}

/** §11.8. */
async function indexSize({ folder, files, tensors }: Checkpoint): Promise<Finding[]> {
  if (!files.some(({ name }) => name === INDEX_FILE)) return []
  const index = JSON.parse(await readFile(join(folder, INDEX_FILE), 'utf8')) as { metadata?: { total_size?: unknown } }
  const bytes = [...tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0)
  const said = index.metadata?.total_size
  if (said === bytes) return []
  return [{ check: 'index-size', severity: 'error', text: `${INDEX_FILE} says ${String(said)} bytes, and the tensors have ${bytes}` }]
}

/** §11.8. */
function leftovers(modules: readonly Module[]): Finding[] {
  const both = modules.filter(({ parts }) => parts.has('weight') && parts.has('weight_packed'))
  return error('leftover-weight', both, 'the original weight lies beside the packed one')
}

/** §11.3 and §2.5. */
function ignoreList(config: QuantizationConfig, modules: readonly Module[], { tensors }: Checkpoint): Finding[] {
  const head = schemeFor(config, 'lm_head', 'Linear') !== null && !tensors.has('lm_head.weight_scale')
  const open = config.ignore.filter((entry) => entry.startsWith('re:') && !entry.endsWith('$')).map((name) => ({ name }))
  return [
    ...error(
      'ignore-list',
      modules.filter((each) => isQuantized(each) && each.group === null),
      'stored compressed, but the config leaves it out',
    ),
    ...error(
      'ignore-list',
      modules.filter((each) => !isQuantized(each) && each.scheme !== null),
      'stored as it was, but the config takes it for compressed',
    ),
    ...error(
      'ignore-list',
      modules.filter((each) => isQuantized(each) && keptByDesign(each.name) !== null),
      'routers, heads, embeddings and other towers stay as they are',
    ),
    ...(head ? error('ignore-list', [{ name: 'lm_head' }], 'not in the ignore list, so a server looks for its scales') : []),
    ...about('ignore-list', 'warning', open, 'the pattern has no $ at its end and also matches longer names'),
  ]
}

/** §11.2. */
function fusedLayers(modules: readonly Module[]): Finding[] {
  const sets = Map.groupBy(
    modules.filter(({ name }) => keptByDesign(name) === null),
    ({ name }) => fusedKey(name),
  )
  const odd = [...sets].flatMap(([key, members]) => {
    const stored = new Set(members.map((each) => JSON.stringify(isQuantized(each) ? [each.scheme, each.group?.format] : null)))
    return key === null || stored.size < 2 ? [] : [{ name: key }]
  })
  return error('fused-layers', odd, 'one layer to a server, but its parts are stored in different schemes')
}

/** §11.5, trap 1: readers go by the format, whatever the arguments would suggest. */
function formats(config: QuantizationConfig, modules: readonly Module[]): Finding[] {
  const wrong = modules.filter(({ scheme, group }) => scheme !== null && group !== null && schemeFormat(scheme) !== group.format)
  const used = new Set(modules.flatMap(({ scheme, group }) => (scheme === null || group === null ? [] : [group.format])))
  const top = used.size > 1 ? 'mixed-precision' : [...used][0]
  return [
    ...error('format', wrong, 'its group names a format that servers do not read this scheme from'),
    ...(top === undefined || top === config.format
      ? []
      : [{ check: 'format', severity: 'error', text: `the config's format is "${config.format}", and its groups are "${top}"` } as const]),
  ]
}

/** §11.4. */
function zeroPoints(modules: readonly Module[]): Finding[] {
  const has = (each: Module): boolean => each.parts.has('weight_zero_point')
  const integers = modules.filter(({ scheme }) => scheme?.kind === 'packed-int')
  const symmetric = (each: Module): boolean => each.group?.weights?.symmetric === true
  return [
    ...error(
      'zero-point',
      modules.filter((each) => symmetric(each) && has(each)),
      'symmetric, and yet there is a zero point that servers have no place for',
    ),
    ...error(
      'zero-point',
      integers.filter((each) => !symmetric(each) && !has(each) && isQuantized(each)),
      'asymmetric without a zero point',
    ),
  ]
}

function isShape(tensor: TensorEntry | undefined): boolean {
  return tensor?.dtype === 'I64' && tensor.shape.join() === '2'
}

/** §11.4. */
function weightShapes(modules: readonly Module[]): Finding[] {
  const packed = modules.filter(({ group, parts }) => group?.format === 'pack-quantized' && parts.has('weight_packed'))
  return [
    ...error(
      'weight-shape',
      packed.filter(({ parts }) => !isShape(parts.get('weight_shape'))),
      'packed without the I64 pair of its original shape',
    ),
    ...error(
      'weight-shape',
      modules.filter(({ group, parts }) => parts.has('weight_shape') && group?.format !== 'pack-quantized'),
      'has a weight_shape, which only pack-quantized stores',
    ),
  ]
}

/** §11.1. */
async function groupSizes(checkpoint: Checkpoint, modules: readonly Module[]): Promise<Finding[]> {
  const odd: Module[] = []
  for (const each of modules) {
    const { scheme, parts } = each
    const scale = parts.get('weight_scale')
    if (scheme === null || scale === undefined) continue
    const cols = await columnsOf(checkpoint, each)
    if (cols === null || scheme.kind === 'fp8') continue
    const group = columnsPerScale(scheme, cols)
    const columns = scale.shape.length < 2 ? 1 : scale.shape[1]
    const isOddFloat = (scheme.kind === 'nvfp4' || scheme.kind === 'mxfp4') && cols % 2 !== 0
    if (cols % group !== 0 || columns !== cols / group || isOddFloat) odd.push(each)
  }
  return error('group-size', odd, 'its columns are not as many whole groups as it has scales')
}

async function columnsOf(checkpoint: Checkpoint, { parts }: Module): Promise<number | null> {
  const shape = parts.get('weight_shape')
  if (shape?.dtype === 'I64' && shape.byteLength === 16) {
    const bytes = await checkpoint.open(shape.name).read(0, 16)
    return Number(new DataView(bytes.buffer, bytes.byteOffset).getBigInt64(8, true))
  }
  const packed = parts.get('weight_packed')
  // Two codes of four bits a byte.
  if (packed?.dtype === 'U8') return (packed.shape[1] ?? 0) * 2
  return parts.get('weight')?.shape[1] ?? null
}

/** §11.6: a divisor, 2688 over the largest magnitude, and one for all parts of a fused layer. */
async function globalScales(checkpoint: Checkpoint, modules: readonly Module[]): Promise<Finding[]> {
  const known: { readonly name: string; readonly value: number }[] = []
  for (const { name, parts } of modules) {
    const tensor = parts.get('weight_global_scale')
    if (tensor === undefined || !isDenseDtype(tensor.dtype)) continue
    known.push({ name, value: widenToF32(await checkpoint.open(tensor.name).read(0, tensor.byteLength), tensor.dtype)[0] ?? Number.NaN })
  }
  const sets = [...Map.groupBy(known, ({ name }) => fusedKey(name))]
  const differing = sets.flatMap(([key, members]) =>
    key !== null && new Set(members.map(({ value }) => value)).size > 1 ? [{ name: key }] : [],
  )
  const missing = modules.filter(
    ({ scheme, parts }) => scheme?.kind === 'nvfp4' && parts.has('weight_packed') && !parts.has('weight_global_scale'),
  )
  return [
    ...error(
      'global-scale',
      known.filter(({ value }) => !(value >= 1 && Number.isFinite(value))),
      'its global scale is no divisor: 2688 over the largest weight is never below 1',
    ),
    ...error('global-scale', differing, 'parts of one layer have different global scales'),
    ...error('global-scale', missing, 'has no global scale'),
  ]
}

/** §11.9. */
async function scales(checkpoint: Checkpoint, modules: readonly Module[], signal: AbortSignal | undefined): Promise<Finding[]> {
  const broken: Module[] = []
  const empty: Module[] = []
  const unrouted: Module[] = []
  for (const each of modules) {
    signal?.throwIfAborted()
    const tensor = each.parts.get('weight_scale')
    if (tensor === undefined) continue
    const bytes = await checkpoint.open(tensor.name).read(0, tensor.byteLength)
    // Powers of two are stored as exponents; 255 is not a number.
    const values =
      tensor.dtype === 'U8'
        ? Float32Array.from(bytes, (code) => (code === 255 ? Number.NaN : 2 ** (code - 127)))
        : widenToF32(bytes, tensor.dtype)
    if (!values.every((value) => Number.isFinite(value) && value >= 0)) broken.push(each)
    const none = values.reduce((count, value) => count + (isEmptyScale(value, tensor) ? 1 : 0), 0)
    if (none === values.length && /\.experts\./.test(each.name)) unrouted.push(each)
    else if (none > MANY_EMPTY_SCALES * values.length) empty.push(each)
  }
  return [
    ...error('scales', broken, 'holds scales that are negative or no numbers'),
    ...about('scales', 'warning', unrouted, 'no weight is left: an expert that calibration never reached, or that was never trained'),
    ...about('scales', 'warning', empty, `more than ${MANY_EMPTY_SCALES * 100} % of its groups are zeros`),
  ]
}

/** What stands for a group of zeros. */
function isEmptyScale(value: number, { dtype }: TensorEntry): boolean {
  if (dtype === 'U8') return value <= 2 ** -126
  return value === 0 || (isDenseDtype(dtype) && value === SCALE_EPSILON[dtype])
}
