/**
 * Rotary position embedding: which variant a config asks for, and its cos/sin table in f64. Variants: default, linear and llama3 scaling, with
 * partial rotation. Others (yarn, longrope, dynamic) are named as missing, never approximated. NeoX pairing is the kernel's business.
 * Sources: RoFormer (arXiv 2104.09864); the llama3 rule as Meta published it with Llama 3.1 (wavelength bands).
 */
import type { RopeTable } from '../gpu/program.ts'
import { type Config, has, readInteger, readNumber, readObject, readString } from './config-fields.ts'

export type RopeScaling =
  | { readonly kind: 'default' }
  /** All frequencies divided by `factor`. */
  | { readonly kind: 'linear'; readonly factor: number }
  /** Long wavelengths divided by `factor`, short ones kept, a linear blend between. */
  | {
      readonly kind: 'llama3'
      readonly factor: number
      readonly lowFrequencyFactor: number
      readonly highFrequencyFactor: number
      readonly originalContext: number
    }

export interface RopeSpec {
  readonly theta: number
  /** Leading dimensions of each head that turn; even. */
  readonly rotaryDim: number
  readonly scaling: RopeScaling
}

/** θ of the original paper and the default of transformers' config classes. */
const DEFAULT_THETA = 10_000
const FACTOR = { min: 1, max: 1e6 } as const
const CONTEXT = { min: 1, max: 2 ** 31 } as const

/** Name of the variant that a config asks for: transformers 5 keeps all in `rope_parameters`, older ones in `rope_scaling`. */
export function ropeTypeOf(config: Config): string {
  const parameters = ropeParameters(config)
  return readString(parameters, 'rope_type') ?? readString(parameters, 'type') ?? 'default'
}

export function isSupportedRope(type: string): boolean {
  return type === 'default' || type === 'linear' || type === 'llama3'
}

/** Throws `checkpoint.invalid-config`; the caller has checked the type with `isSupportedRope`. */
export function readRope(config: Config, headDim: number): RopeSpec {
  const parameters = ropeParameters(config)
  const fraction = { min: 0, max: 1, fallback: 1 } as const
  const outer = readNumber(config, 'partial_rotary_factor', fraction)
  const rotated = headDim * readNumber(parameters, 'partial_rotary_factor', { ...fraction, fallback: outer })
  return {
    theta: readNumber(has(parameters, 'rope_theta') ? parameters : config, 'rope_theta', { min: 1, max: 1e12, fallback: DEFAULT_THETA }),
    // Truncated to a whole number as transformers does, then to whole pairs.
    rotaryDim: Math.max(2, Math.floor(Math.floor(rotated) / 2) * 2),
    scaling: readScaling(parameters, ropeTypeOf(config)),
  }
}

function readScaling(parameters: Config, type: string): RopeScaling {
  if (type === 'linear') return { kind: 'linear', factor: readNumber(parameters, 'factor', FACTOR) }
  if (type !== 'llama3') return { kind: 'default' }
  return {
    kind: 'llama3',
    factor: readNumber(parameters, 'factor', FACTOR),
    lowFrequencyFactor: readNumber(parameters, 'low_freq_factor', { min: 1e-6, max: 1e6 }),
    highFrequencyFactor: readNumber(parameters, 'high_freq_factor', { min: 1e-6, max: 1e6 }),
    originalContext: readInteger(parameters, 'original_max_position_embeddings', CONTEXT),
  }
}

function ropeParameters(config: Config): Config {
  return readObject(config, 'rope_parameters') ?? readObject(config, 'rope_scaling') ?? {}
}

/** Radians per position of each pair, [rotaryDim/2]. */
export function ropeFrequencies(rope: RopeSpec): Float64Array {
  const pairs = rope.rotaryDim / 2
  return Float64Array.from({ length: pairs }, (_, i) => scaled(rope.theta ** (-i / pairs), rope.scaling))
}

function scaled(frequency: number, scaling: RopeScaling): number {
  if (scaling.kind === 'default') return frequency
  if (scaling.kind === 'linear') return frequency / scaling.factor
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalContext } = scaling
  const turns = (originalContext * frequency) / (2 * Math.PI)
  if (turns > highFrequencyFactor) return frequency
  if (turns < lowFrequencyFactor) return frequency / factor
  const blend = (turns - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor)
  return blend * frequency + (1 - blend) * (frequency / factor)
}

/** cos and sin for positions 0 … positions − 1, [positions, rotaryDim/2] each. */
export function ropeTable(rope: RopeSpec, positions: number, id = 0): RopeTable {
  const frequencies = ropeFrequencies(rope)
  const pairs = frequencies.length
  const angles = new Float64Array(positions * pairs)
  for (let position = 0; position < positions; position++) {
    for (const [i, frequency] of frequencies.entries()) angles[position * pairs + i] = position * frequency
  }
  return { id, positions, rotaryDim: rope.rotaryDim, cos: angles.map(Math.cos), sin: angles.map(Math.sin) }
}
