/**
 * Schemes as the arguments that config.json and recipes carry, both ways (specs/compressed-tensors.md §2.3, §2.6). What no scheme of ours
 * means is refused with the reason, never approximated.
 */
import { UNSET_ARGS } from '../checkpoint/quantization-config.ts'
import type { QuantizationArgs } from '../checkpoint/types.ts'
import type { ActivationScheme, IntegerBits, Scheme } from './scheme.ts'
import { FP8_BLOCK, INTEGER_BITS, MX_GROUP, NVFP4_GROUP } from './scheme.ts'

const NVFP4_ARGS: QuantizationArgs = {
  ...UNSET_ARGS,
  numBits: 4,
  type: 'float',
  strategy: 'tensor_group',
  groupSize: NVFP4_GROUP,
  scaleDtype: 'torch.float8_e4m3fn',
}

function mxArgs(numBits: 4 | 8): QuantizationArgs {
  return { ...UNSET_ARGS, numBits, type: 'float', strategy: 'group', groupSize: MX_GROUP, scaleDtype: 'torch.uint8' }
}

/** `weights` of the scheme's config group. */
export function weightArgs(scheme: Scheme): QuantizationArgs {
  switch (scheme.kind) {
    case 'packed-int': {
      const { bits, symmetric, strategy, groupSize } = scheme
      return { ...UNSET_ARGS, numBits: bits, symmetric, strategy, groupSize }
    }
    case 'fp8':
      return {
        ...UNSET_ARGS,
        type: 'float',
        strategy: scheme.strategy,
        blockStructure: scheme.strategy === 'block' ? [FP8_BLOCK, FP8_BLOCK] : null,
      }
    case 'nvfp4':
      return NVFP4_ARGS
    case 'mxfp4':
      return mxArgs(4)
    case 'mxfp8':
      return mxArgs(8)
  }
}

/** `input_activations` of the scheme's config group; null where inputs stay in 16 bits. */
export function inputArgs(scheme: Scheme): QuantizationArgs | null {
  const activations = scheme.activations ?? null
  if (activations === null) return null
  switch (activations.element) {
    case 'int8':
    case 'fp8': {
      const type = activations.element === 'int8' ? 'int' : 'float'
      if (activations.scale === 'group128') return { ...UNSET_ARGS, type, strategy: 'group', groupSize: FP8_BLOCK, dynamic: true }
      return { ...UNSET_ARGS, type, strategy: activations.scale, dynamic: activations.scale === 'token' }
    }
    case 'nvfp4':
      return { ...NVFP4_ARGS, dynamic: 'local' }
    case 'mxfp4':
      return { ...mxArgs(4), dynamic: true }
    case 'mxfp8':
      return { ...mxArgs(8), dynamic: true }
  }
}

/** Why no scheme means these arguments. `field` is the argument's own name in files. */
export interface SchemeRefusal {
  readonly side: 'weights' | 'input_activations'
  readonly field: string
  readonly reason: string
}

/** The scheme that a config group describes, or what stands against it. */
export function schemeFromArgs(weights: QuantizationArgs, inputs: QuantizationArgs | null): Scheme | SchemeRefusal {
  const activations = inputs === null ? null : activationsFromArgs(inputs)
  if (activations !== null && 'reason' in activations) return activations
  const scheme = weightsFromArgs(weights)
  if ('reason' in scheme) return scheme
  if (activations === null) return scheme
  const both = { ...scheme, activations }
  return mismatch(both) ?? both
}

function refused(side: SchemeRefusal['side'], field: string, reason: string): SchemeRefusal {
  return { side, field, reason }
}

function weightsFromArgs(args: QuantizationArgs): Scheme | SchemeRefusal {
  const { numBits, type, symmetric, strategy, groupSize, blockStructure } = args
  if (args.dynamic !== false) return refused('weights', 'dynamic', 'weights cannot be dynamic')
  if (args.actorder === 'group') return refused('weights', 'actorder', 'groups in activation order are read, not written')
  if (type === 'int') {
    const bits = INTEGER_BITS.find((each): each is IntegerBits => each === numBits)
    if (bits === undefined) return refused('weights', 'num_bits', `is ${numBits}; 2 to 8 can be stored`)
    if (strategy === 'channel') return { kind: 'packed-int', bits, symmetric, strategy, groupSize: null }
    if (strategy === 'group' && groupSize !== null) return { kind: 'packed-int', bits, symmetric, strategy, groupSize }
    return refused('weights', 'strategy', `is "${strategy}"; integers can be stored per "channel" or per "group"`)
  }
  if (!symmetric) return refused('weights', 'symmetric', 'is false, but floating-point codes have no zero points')
  if (numBits === 8 && strategy === 'block') {
    const square = blockStructure?.every((size) => size === FP8_BLOCK) === true
    return square ? { kind: 'fp8', strategy } : refused('weights', 'block_structure', `is not [${FP8_BLOCK}, ${FP8_BLOCK}]`)
  }
  if (numBits === 8 && (strategy === 'tensor' || strategy === 'channel')) return { kind: 'fp8', strategy }
  if (numBits === 8 && groupSize === MX_GROUP && args.scaleDtype === 'torch.uint8') return { kind: 'mxfp8' }
  if (numBits === 4 && groupSize === NVFP4_GROUP) return { kind: 'nvfp4' }
  if (numBits === 4 && groupSize === MX_GROUP) return { kind: 'mxfp4' }
  return refused('weights', 'strategy', `is "${strategy}" with groups of ${groupSize}; no ${numBits}-bit float format has that`)
}

function activationsFromArgs(args: QuantizationArgs): ActivationScheme | SchemeRefusal {
  const { numBits, type, strategy, groupSize, dynamic } = args
  if (!args.symmetric) return refused('input_activations', 'symmetric', 'is false; inputs with a zero point are not supported')
  if (type === 'int') {
    if (numBits !== 8) return refused('input_activations', 'num_bits', `is ${numBits}; integer inputs have 8 bits`)
    if (strategy === 'token') return { element: 'int8', scale: 'token' }
    if (strategy === 'tensor' && dynamic === false) return { element: 'int8', scale: 'tensor' }
    return refused(
      'input_activations',
      'strategy',
      `is ${dynamic === false ? 'a static' : 'a dynamic'} "${strategy}"; integer inputs are scaled per token, or statically`,
    )
  }
  if (numBits === 8) {
    if (strategy === 'token') return { element: 'fp8', scale: 'token' }
    if (strategy === 'tensor' && dynamic === false) return { element: 'fp8', scale: 'tensor' }
    if (strategy === 'group' && dynamic === true && groupSize === FP8_BLOCK) return { element: 'fp8', scale: 'group128' }
    if (strategy === 'group' && dynamic === true && groupSize === MX_GROUP) return { element: 'mxfp8', scale: 'group' }
  } else {
    if (strategy === 'tensor_group' && dynamic === 'local' && groupSize === NVFP4_GROUP) return { element: 'nvfp4', scale: 'group' }
    if (strategy === 'group' && dynamic === true && groupSize === MX_GROUP) return { element: 'mxfp4', scale: 'group' }
  }
  return refused(
    'input_activations',
    'strategy',
    `is ${dynamic === false ? 'a static' : 'a dynamic'} "${strategy}" of ${numBits}-bit floats, which no format has`,
  )
}

/** Weights and inputs that no kernel multiplies with each other. */
function mismatch(scheme: Scheme): SchemeRefusal | null {
  const { kind, activations } = scheme
  if (activations === null || activations === undefined) return null
  const { element } = activations
  if (kind === 'packed-int') {
    if (element !== 'int8' && element !== 'fp8')
      return refused('input_activations', 'type', `${element} inputs do not go with integer weights`)
    if (element === 'int8' && !scheme.symmetric)
      return refused('weights', 'symmetric', 'is false, but weights for int8 inputs must be symmetric')
    return null
  }
  const expected = kind === 'fp8' ? 'fp8' : kind
  return element === expected ? null : refused('input_activations', 'type', `${element} inputs do not go with ${kind} weights`)
}
