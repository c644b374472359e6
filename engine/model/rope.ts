/**
 * Rotary position embedding as a cos/sin table in f64: default, linear and llama3 scaling, with partial rotation. Other forms (yarn, longrope,
 * dynamic) are refused by name, never approximated. NeoX pairing is the kernel's business.
 * Sources: RoFormer (arXiv 2104.09864); the llama3 rule as Meta published it with Llama 3.1 (wavelength bands).
 */
import type { RopeParameters } from '../checkpoint/hf-config.ts'
import type { RopeTable } from '../gpu/program.ts'

export interface RopeSpec {
  /** Leading dimensions of each head that turn; even. */
  readonly rotaryDim: number
  readonly parameters: Exclude<RopeParameters, { type: 'other' }>
}

/** Radians per position of each pair, [rotaryDim/2]. */
export function ropeFrequencies({ rotaryDim, parameters }: RopeSpec): Float64Array {
  const pairs = rotaryDim / 2
  return Float64Array.from({ length: pairs }, (_, i) => scaled(parameters.theta ** (-i / pairs), parameters))
}

function scaled(frequency: number, parameters: RopeSpec['parameters']): number {
  if (parameters.type === 'default') return frequency
  if (parameters.type === 'linear') return frequency / parameters.factor
  // Turns that this pair makes over the context of the original training: many are kept, few are stretched, a linear blend between.
  const turns = (parameters.originalMaxPositionEmbeddings * frequency) / (2 * Math.PI)
  const { factor, lowFreqFactor, highFreqFactor } = parameters
  if (turns > highFreqFactor) return frequency
  if (turns < lowFreqFactor) return frequency / factor
  const kept = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)
  return kept * frequency + (1 - kept) * (frequency / factor)
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
