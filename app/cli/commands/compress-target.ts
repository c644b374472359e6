/**
 * `--target`: automatic mixed precision from the command line. Measures what every layer loses, chooses a map for a size, bits per weight, this
 * GPU or a loss, shows it, and hands back an ordinary recipe.
 */
import { describeMap, recipeOfMap } from '../../../engine/compress/mixed-precision/scheme-map.ts'
import type { SchemeMap } from '../../../engine/compress/mixed-precision/scheme-map.ts'
import { schemeNamed } from '../../../engine/compress/authoring/scheme-names.ts'
import { GPTQ_DEFAULTS } from '../../../engine/compress/modifiers-yaml.ts'
import { schemeName } from '../../../engine/compress/scheme.ts'
import type { Recipe } from '../../../engine/compress/recipe.ts'
import type { CalibrationOptions } from '../../../engine/compress/types.ts'
import { LOSS_MEASURES, MAP_ALGORITHMS, LatheError, boundOfShare } from '../../../engine/contract/index.ts'
import type { MixedTarget } from '../../../engine/contract/index.ts'
import { targetInBytes } from '../../../engine/studio/fitting-bytes.ts'
import type { EnginePorts } from '../../../engine/studio/ports.ts'
import type { Arguments, OptionSpec } from '../arguments.ts'
import type { CommandContext } from '../command.ts'

/** From careful to small, with kernels in vLLM for all; as the screen has them chosen at first. */
const DEFAULT_SCHEMES = 'W8A16 g128,W6A16 g128,W4A16 g128,W3A16 g128'
/** What the studio's own settings begin with. */
const DEFAULT_CONTEXT = 8192
const UNITS = { B: 1, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 } as const

export const TARGET_OPTIONS: Readonly<Record<string, OptionSpec>> = {
  target: {
    type: 'string',
    value: 'TARGET',
    help: 'a scheme per layer, measured: a size ("2.1GB"), "4.5bits", "fits" or "fits:CONTEXT" on this adapter, "loss:NATS", "holds:99%"',
  },
  schemes: { type: 'string', value: 'A,B,…', help: `schemes that --target chooses from (${DEFAULT_SCHEMES})` },
  measure: {
    type: 'string',
    value: 'HOW',
    help: 'what --target measures: output (on the device, default) or weights (cheaper, needs no device)',
  },
  algorithm: {
    type: 'string',
    value: 'HOW',
    help: 'how --target stores: mse (scale search, default) or gptq (fitted to calibration text)',
  },
}

/** Throws what `invalid` makes of a text that is no target. */
export function parseTarget(text: string, invalid: (message: string, hint: string) => Error): MixedTarget {
  const trimmed = text.trim()
  const size = /^(\d+(?:\.\d+)?)\s*([KMGT]?B)$/i.exec(trimmed)
  if (size !== null) return { kind: 'bytes', bytes: Number(size[1]) * UNITS[(size[2] ?? 'B').toUpperCase() as keyof typeof UNITS] }
  const bits = /^(\d+(?:\.\d+)?)\s*bits?$/i.exec(trimmed)
  if (bits !== null && Number(bits[1]) > 0 && Number(bits[1]) <= 64) return { kind: 'bits-per-weight', bits: Number(bits[1]) }
  const fits = /^fits(?::(\d+))?$/i.exec(trimmed)
  if (fits !== null && fits[1] !== '0') return { kind: 'fits', contextTokens: Number(fits[1] ?? DEFAULT_CONTEXT) }
  const loss = /^loss:(\d*\.?\d+(?:e-?\d+)?)$/i.exec(trimmed)
  if (loss !== null) return { kind: 'loss', bound: Number(loss[1]) }
  const holds = /^holds:(\d+(?:\.\d+)?)\s*%$/i.exec(trimmed)
  if (holds !== null && Number(holds[1]) > 0 && Number(holds[1]) < 100) return { kind: 'loss', bound: boundOfShare(Number(holds[1]) / 100) }
  throw invalid(`--target can't be "${trimmed.slice(0, 60)}".`, 'Give a size (2.1GB), 4.5bits, fits, fits:8192, loss:0.01 or holds:99%.')
}

export interface FoundRecipe {
  readonly recipe: Recipe
  readonly map: SchemeMap
  /** Divergence that is to be checked at the end; null where the target promises none. */
  readonly holdsWithin: number | null
}

export async function findRecipe(
  args: Arguments,
  context: Pick<CommandContext, 'signal' | 'progress' | 'note'>,
  engine: Pick<EnginePorts, 'compressor' | 'checkpoint' | 'fit'>,
  folder: string,
  text: CalibrationOptions,
): Promise<FoundRecipe> {
  const target = parseTarget(args.required('target'), (message, hint) => args.invalid(message, hint))
  const measure = args.oneOf('measure', LOSS_MEASURES, 'output')
  const algorithm = args.oneOf('algorithm', MAP_ALGORITHMS, 'mse')
  const names = (args.text('schemes') ?? DEFAULT_SCHEMES).split(',').map((name) => name.trim())
  const table = await engine.compressor.losses(folder, {
    schemes: names.map((name) => schemeNamed(name)),
    measure,
    text,
    signal: context.signal,
    onProgress: (done, total, unit) => context.progress(`measuring layers: ${done} of ${total}, ${unit}`),
  })
  context.progress(null)
  const map = await engine.compressor.choose(folder, table, await targetInBytes(engine, folder, target))
  if (map.choices.every(({ scheme }) => scheme === null)) {
    throw target.kind === 'loss'
      ? new LatheError('compress.nothing-to-do', 'No layer can be smaller within this loss.', 'Allow more loss, or add schemes in between.')
      : new LatheError(
          'compress.nothing-to-do',
          'The model meets the target as it is.',
          'Nothing needs compressing; give a smaller target.',
        )
  }
  context.note(`Map: ${describeMap(map)}; predicted loss ${map.predictedLoss.toPrecision(3)}${map.exact ? '' : ' (near the optimum)'}.`)
  const observer = { kind: 'mse', maxShrink: 0.25, grid: 40, norm: 2 } as const
  const recipe = recipeOfMap(map, observer, algorithm === 'gptq' ? { kind: 'gptq', ...GPTQ_DEFAULTS } : { kind: 'quantization' })
  const holdsWithin = target.kind === 'loss' && measure === 'output' && target.bound > 0 ? target.bound : null
  return { recipe, map, holdsWithin }
}

/** The map as `--json` prints it. */
export function mapToJson(map: SchemeMap): Record<string, unknown> {
  return {
    bytes_out: map.bytes,
    bits_per_weight: map.bitsPerWeight,
    predicted_loss: map.predictedLoss,
    exact: map.exact,
    units: map.choices.map(({ unit, modules, scheme, bytes, loss }) => ({
      unit,
      modules,
      scheme: scheme === null ? null : schemeName(scheme),
      bytes,
      loss,
    })),
  }
}
