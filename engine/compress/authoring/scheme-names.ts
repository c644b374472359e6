/**
 * Schemes by name, for people and screens: every name that `schemeName` gives to a scheme of the list can be given back. The list is LLM
 * Compressor's presets and their usual group sizes; what else a recipe may spell out has a name, but is not offered.
 */
import { LatheError } from '../../contract/errors.ts'
import type { SchemeInfo } from '../../contract/index.ts'
import { nearestName } from '../nearest-name.ts'
import { PRESET_SCHEMES, columnsPerScale, inputElementsOf, isPlainInt8, schemeName, schemeNeeds } from '../scheme.ts'
import type { Scheme } from '../scheme.ts'

/** null = a whole row shares one scale. 128 first: the size that every server has kernels for. */
const GROUP_SIZES: readonly (number | null)[] = [128, 64, 32, null]

/** "INT8" is another name of W8A8. */
const SYNONYMS: readonly string[] = ['INT8']

/** The scheme of a preset name in groups of another size. Sizes that the scheme does not have leave it as it is. */
export function withGroupSize(scheme: Scheme, groupSize: number | null): Scheme {
  if (scheme.kind !== 'packed-int' || isPlainInt8(scheme)) return scheme
  return groupSize === null ? { ...scheme, strategy: 'channel', groupSize: null } : { ...scheme, strategy: 'group', groupSize }
}

export function groupSizeOf(scheme: Scheme): number | null {
  if (scheme.kind === 'packed-int') return scheme.groupSize
  // A row that is not grouped has as many columns per scale as columns.
  const size = columnsPerScale(scheme, Number.POSITIVE_INFINITY)
  return Number.isFinite(size) ? size : null
}

function groupSizesOf(scheme: Scheme): readonly (number | null)[] {
  return scheme.kind === 'packed-int' && !isPlainInt8(scheme) ? GROUP_SIZES : [groupSizeOf(scheme)]
}

function bitsOf(scheme: Scheme): number {
  if (scheme.kind === 'packed-int') return scheme.bits
  return scheme.kind === 'nvfp4' || scheme.kind === 'mxfp4' ? 4 : 8
}

const OFFERED: readonly { readonly id: string; readonly scheme: Scheme }[] = Object.entries(PRESET_SCHEMES)
  .filter(([id]) => !SYNONYMS.includes(id))
  .map(([id, scheme]) => ({ id, scheme }))

export const SCHEME_INFOS: readonly SchemeInfo[] = OFFERED.map(({ id, scheme }) => ({
  id,
  bits: bitsOf(scheme),
  groupSizes: [...groupSizesOf(scheme)],
  needsCalibration: schemeNeeds(scheme).inputMaximum,
  inputElements: [...inputElementsOf(scheme)],
}))

const BY_NAME: ReadonlyMap<string, Scheme> = new Map(
  OFFERED.flatMap(({ scheme }) =>
    groupSizesOf(scheme).map((size) => {
      const sized = withGroupSize(scheme, size)
      return [schemeName(sized), sized] as const
    }),
  ),
)

/** What a layer may be raised or lowered to without calibration of its inputs: few enough for a list, from small to large. */
export const OVERRIDE_SCHEMES: readonly Scheme[] = [
  'W2A16 g32',
  'W3A16 g128',
  'W3A16 g32',
  'NVFP4A16',
  'MXFP4A16',
  'W4A16 channel',
  'W4A16 g128',
  'W4A16 g64',
  'W4A16 g32',
  'W4A16 g32 asymmetric',
  'W5A16 g128',
  'W6A16 g128',
  'W8A16 channel',
  'W8A16 g128',
  'W8A8',
  'FP8_DYNAMIC',
  'MXFP8A16',
].map((name) => schemeNamed(name))

/** Throws `compress.invalid-recipe` with the nearest name. */
export function schemeNamed(name: string): Scheme {
  const found = BY_NAME.get(name) ?? PRESET_SCHEMES[name.toUpperCase()]
  if (found !== undefined) return found
  const nearest = nearestName(name, [...BY_NAME.keys()])
  throw new LatheError(
    'compress.invalid-recipe',
    `There is no scheme "${name.slice(0, 60)}".`,
    nearest === null ? `Known are ${[...BY_NAME.keys()].join(', ')}.` : `Did you mean "${nearest}"?`,
  )
}

/** The id of SCHEME_INFOS that a scheme belongs to whatever its group size; null for one that is not offered. */
export function schemeId(scheme: Scheme): string | null {
  const name = schemeName(scheme)
  return (
    OFFERED.find((offered) => groupSizesOf(offered.scheme).some((size) => schemeName(withGroupSize(offered.scheme, size)) === name))?.id ??
    null
  )
}

/** The scheme of an id and one of its group sizes. Throws `compress.invalid-recipe`. */
export function schemeOf(id: string, groupSize: number | null): Scheme {
  const offered = OFFERED.find((candidate) => candidate.id === id)
  if (offered === undefined) return schemeNamed(id)
  const sizes = groupSizesOf(offered.scheme)
  if (!sizes.includes(groupSize)) {
    const known = sizes.map((size) => (size === null ? 'a whole row' : String(size))).join(', ')
    throw new LatheError('compress.invalid-recipe', `${id} has no group size ${groupSize ?? 'of a whole row'}.`, `Possible: ${known}.`)
  }
  return withGroupSize(offered.scheme, groupSize)
}

/** The next step when a layer loses too much: 8 bits in the same groups, then as it is (null). */
export function nextHigher(scheme: Scheme): Scheme | null {
  if (scheme.kind === 'packed-int') {
    if (scheme.bits >= 8) return null
    return { ...scheme, bits: 8, symmetric: true }
  }
  if (scheme.kind === 'nvfp4' || scheme.kind === 'mxfp4') return scheme.activations ? schemeNamed('FP8_DYNAMIC') : schemeNamed('MXFP8A16')
  return null
}
