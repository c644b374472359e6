/** `lathe compress`: one compression of a folder into another, with the studio's own presets or a recipe file. */
import { readFile } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { toCliReport } from '../../../engine/compress/cli-report.ts'
import { listPresets, presetById } from '../../../engine/compress/presets.ts'
import { parseRecipeYaml } from '../../../engine/compress/recipe-yaml.ts'
import { isLayered } from '../../../engine/compress/recipe.ts'
import { CALIBRATION_DEFAULTS, bundledCalibration } from '../../../engine/compress/calibration/defaults.ts'
import type { CalibrationOptions, CompressOptions, CompressReport } from '../../../engine/compress/types.ts'
import { LatheError } from '../../../engine/contract/index.ts'
import { nearestName } from '../../../engine/compress/nearest-name.ts'
import { resolveModelFolder } from '../../../engine/studio/library.ts'
import { openBackend } from '../../../engine/gpu/webgpu/backend.ts'
import type { Arguments } from '../arguments.ts'
import type { Command } from '../command.ts'
import { formatBytes, formatFacts, formatSeconds } from '../format.ts'
import { assetsFolder, latheVersion } from '../assets.ts'

export const compress: Command = {
  usage:
    'lathe compress <folder> --preset <name> | --recipe <file> --out <folder> [--calibration <jsonl|txt>] [--samples N] [--seq N] [--seed N] [--base <folder>] [--resume]',
  summary: 'make a smaller model folder',
  options: {
    preset: {
      type: 'string',
      value: 'NAME',
      help: listPresets()
        .map((preset) => preset.id)
        .join(', '),
    },
    recipe: { type: 'string', value: 'FILE', help: 'recipe.yaml in LLM Compressor’s form, instead of a preset' },
    out: { type: 'string', value: 'FOLDER', help: 'the folder to make; must not exist' },
    seed: { type: 'string', value: 'N', help: 'chooses calibration samples and anything else that is drawn; recorded (0)' },
    resume: { type: 'boolean', help: 'continue an interrupted compression' },
    calibration: {
      type: 'string',
      value: 'FILE',
      help: 'text for recipes that need it: .jsonl of {"text"} or {"messages"}, or .txt (bundled text)',
    },
    base: {
      type: 'string',
      value: 'FOLDER',
      help: 'an earlier result of the same model: what would come out the same is taken over from it',
    },
    samples: { type: 'string', value: 'N', help: `calibration samples (${CALIBRATION_DEFAULTS.samples})` },
    seq: { type: 'string', value: 'N', help: `tokens per calibration sample (${CALIBRATION_DEFAULTS.sequenceLength})` },
  },
  async run(args, context) {
    const sourceFolder = await resolveModelFolder(resolve(args.onlyPositional('model folder')))
    const recipe = await readRecipe(args)
    const calibration = await readCalibration(args, recipe, sourceFolder)
    const { compressor } = await context.engine()
    const report = await compressor.compress({
      sourceFolder,
      outFolder: resolve(args.required('out')),
      recipe,
      ...(calibration === null ? {} : { calibration, openBackend: () => openBackend(args.text('adapter')) }),
      ...baseOf(args),
      seed: args.integer('seed', { min: 0 }) ?? 0,
      resume: args.flag('resume'),
      latheVersion: latheVersion(),
      signal: context.signal,
      onLog: (line) => context.note(line.text),
      onProgress: (progress) => {
        const { layer = null } = progress
        if (layer !== null) {
          const left = layer.secondsLeft === null ? '' : `, about ${formatSeconds(layer.secondsLeft)} left`
          context.progress(`layer ${layer.layer + 1} of ${layer.layers}: ${layer.note}${left}`)
          return
        }
        const phase = progress.phases.find((candidate) => candidate.id === progress.current)
        if (phase === undefined) return
        const rate = progress.bytesPerSecond === null ? '' : `, ${formatBytes(progress.bytesPerSecond)}/s`
        context.progress(
          `${phase.id}: ${formatBytes(phase.doneBytes)} of ${formatBytes(phase.totalBytes)}${rate} ${progress.currentTensor ?? ''}`,
        )
      },
    })
    context.progress(null)
    return { json: { ...toCliReport(report) }, text: describe(report) }
  },
}

function baseOf(args: Arguments): Pick<CompressOptions, 'base'> {
  const folder = args.text('base')
  return folder === null ? {} : { base: { folder: resolve(folder), name: basename(resolve(folder)) } }
}

async function readRecipe(args: Arguments): Promise<CompressOptions['recipe']> {
  const preset = args.text('preset')
  const file = args.text('recipe')
  if ((preset === null) === (file === null)) throw args.invalid('Give either --preset or --recipe.')
  if (preset !== null) {
    const known = listPresets().map((candidate) => candidate.id)
    if (known.includes(preset)) return { presetId: preset }
    const nearest = nearestName(preset, known)
    throw new LatheError(
      'compress.invalid-recipe',
      `There is no preset "${preset}".`,
      `${nearest === null ? '' : `Did you mean ${nearest}? `}The presets are ${known.join(', ')}.`,
    )
  }
  const text = await readFile(resolve(file ?? ''), 'utf8').catch((error: unknown) => {
    throw new LatheError('compress.invalid-recipe', `The recipe ${file} can't be read.`, 'Check the path.', { cause: error })
  })
  return { recipe: parseRecipeYaml(text) }
}

/** null for a data-free recipe, which options for calibration are refused with: ignoring them would give another result than the one asked for. */
async function readCalibration(
  args: Arguments,
  recipe: CompressOptions['recipe'],
  sourceFolder: string,
): Promise<CalibrationOptions | null> {
  if (!isLayered('recipe' in recipe ? recipe.recipe : presetById(recipe.presetId).recipe)) {
    const given = ['calibration', 'samples', 'seq'].find((name) => args.text(name) !== null)
    if (given === undefined) return null
    throw new LatheError('compress.invalid-recipe', `--${given} is for calibrated recipes; this one is data-free.`, 'Leave it out.')
  }
  const file = args.text('calibration')
  return {
    path: file === null ? await bundledCalibration(assetsFolder(), sourceFolder) : resolve(file),
    samples: args.integer('samples', { min: 1 }) ?? CALIBRATION_DEFAULTS.samples,
    sequenceLength: args.integer('seq', { min: 2 }) ?? CALIBRATION_DEFAULTS.sequenceLength,
    seed: args.integer('seed', { min: 0 }) ?? 0,
  }
}

function describe(report: CompressReport): string {
  const worst = report.tensors
    .filter((tensor) => tensor.sqnrDb !== null)
    .toSorted((a, b) => (a.sqnrDb ?? 0) - (b.sqnrDb ?? 0))
    .slice(0, 3)
    .map((tensor) => `${tensor.name} ${tensor.sqnrDb?.toFixed(1)} dB`)
  const ratio = report.bytesIn === 0 ? 1 : report.bytesOut / report.bytesIn
  const facts: [string, string][] = [
    ['Written', report.outFolder],
    [
      'Size',
      `${formatBytes(report.bytesIn)} → ${formatBytes(report.bytesOut)} (${(ratio * 100).toFixed(1)} %), ${report.bitsPerWeight.toFixed(2)} bits per weight`,
    ],
    ['Time', `${formatSeconds(report.seconds)}, ${formatBytes(report.bytesIn / report.seconds)}/s${report.resumed ? ', resumed' : ''}`],
    ['Peak memory', formatBytes(report.peakRssBytes)],
    ['Compressed', `${report.tensors.length} matrices as ${report.scheme}`],
  ]
  const { takenOver = null } = report
  if (takenOver !== null)
    facts.push([
      'Taken over',
      `${takenOver.layers.length} of ${takenOver.ofLayers} layers, ${takenOver.tensors} of ${takenOver.ofTensors} tensors, from ${takenOver.from}`,
    ])
  if (worst.length > 0) facts.push(['Largest error', worst.join(', ')])
  if (report.ignored.length > 0)
    facts.push([
      'Kept as they were',
      `${report.ignored.length}: ${report.ignored
        .map((entry) => `${entry.name} (${entry.reason})`)
        .slice(0, 4)
        .join('; ')}`,
    ])
  return formatFacts(facts)
}
