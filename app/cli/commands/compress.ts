/** `lathe compress`: one compression of a folder into another, with the studio's own presets or a recipe file. */
import { readFile, writeFile } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { toCliReport } from '../../../engine/compress/cli-report.ts'
import { listPresets, recipeOfChoice } from '../../../engine/compress/presets.ts'
import { parseRecipeYaml, recipeToYaml } from '../../../engine/compress/recipe-yaml.ts'
import { inputElementsOf } from '../../../engine/compress/scheme.ts'
import { isLayered } from '../../../engine/compress/recipe.ts'
import { CALIBRATION_DEFAULTS, bundledCalibration } from '../../../engine/compress/calibration/defaults.ts'
import type { CalibrationOptions, CompressOptions, CompressReport } from '../../../engine/compress/types.ts'
import { LatheError } from '../../../engine/contract/index.ts'
import type { InputElement } from '../../../engine/contract/index.ts'
import type { EnginePorts } from '../../../engine/studio/ports.ts'
import { nearestName } from '../../../engine/compress/nearest-name.ts'
import { resolveModelFolder } from '../../../engine/studio/model-folder.ts'
import { openBackend } from '../../../engine/gpu/webgpu/backend.ts'
import type { Arguments } from '../arguments.ts'
import type { Command, CommandOutput } from '../command.ts'
import { formatBytes, formatFacts, formatSeconds } from '../format.ts'
import { assetsFolder, latheVersion } from '../assets.ts'
import { TARGET_OPTIONS, findRecipe, mapToJson } from './compress-target.ts'
import type { FoundRecipe } from './compress-target.ts'

export const compress: Command = {
  usage:
    'lathe compress <folder> --preset <name> | --target <target> | --recipe <file> --out <folder> | --write-recipe <file> [--calibration <jsonl|txt>] [--samples N] [--seq N] [--seed N] [--base <folder>] [--resume]',
  summary: 'make a smaller model folder',
  options: {
    preset: {
      type: 'string',
      value: 'NAME',
      help: `one of ${listPresets()
        .map((preset) => preset.id)
        .join(', ')}`,
    },
    recipe: { type: 'string', value: 'FILE', help: 'recipe.yaml in LLM Compressor’s form, instead of a preset' },
    ...TARGET_OPTIONS,
    'write-recipe': {
      type: 'string',
      value: 'FILE',
      help: 'write the recipe that would run, to be changed and given to --recipe, and stop',
    },
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
    // Before anything is measured for minutes.
    const out = args.text('write-recipe') === null ? resolve(args.required('out')) : ''
    const engine = await context.engine()
    const { compressor } = engine
    const text = await calibrationText(args, sourceFolder)
    const found = args.text('target') === null ? null : await findRecipe(args, context, engine, sourceFolder, text)
    const recipe = found === null ? await readRecipe(args) : { recipe: found.recipe }
    const written = args.text('write-recipe')
    if (written !== null) return await writeRecipe(resolve(written), recipe, sourceFolder, found, engine)
    const holdsWithin = found?.holdsWithin ?? null
    const calibration = needsText(args, recipe, holdsWithin) ? text : null
    const emulated = await emulatedElements(recipe, engine)
    const report = await compressor.compress({
      sourceFolder,
      outFolder: out,
      recipe,
      holdsWithin,
      ...(calibration === null ? {} : { calibration, openBackend: () => openBackend(args.text('adapter')) }),
      ...baseOf(args),
      seed: args.integer('seed', { min: 0 }) ?? 0,
      resume: args.flag('resume'),
      latheVersion: latheVersion(),
      signal: context.signal,
      onLog: (line) => context.note(line.text),
      onProgress: (progress) => {
        const { layer = null, stage } = progress
        const where = stage === undefined ? '' : `${stage.title}: `
        if (stage !== undefined && stage.id !== 'candidate') {
          context.progress(`${where}${stage.done} of ${stage.of}`)
          return
        }
        if (layer !== null) {
          const left = layer.secondsLeft === null ? '' : `, about ${formatSeconds(layer.secondsLeft)} left`
          context.progress(`${where}layer ${layer.layer + 1} of ${layer.layers}: ${layer.note}${left}`)
          return
        }
        const phase = progress.phases.find((candidate) => candidate.id === progress.current)
        if (phase === undefined) return
        const rate = progress.bytesPerSecond === null ? '' : `, ${formatBytes(progress.bytesPerSecond)}/s`
        context.progress(
          `${where}${phase.id}: ${formatBytes(phase.doneBytes)} of ${formatBytes(phase.totalBytes)}${rate} ${progress.currentTensor ?? ''}`,
        )
      },
    })
    context.progress(null)
    return {
      json: { ...toCliReport(report), emulated, ...(found === null ? {} : { map: mapToJson(found.map) }) },
      text: describe(report, emulated),
    }
  },
}

function baseOf(args: Arguments): Pick<CompressOptions, 'base'> {
  const folder = args.text('base')
  return folder === null ? {} : { base: { folder: resolve(folder), name: basename(resolve(folder)) } }
}

async function readRecipe(args: Arguments): Promise<CompressOptions['recipe']> {
  const preset = args.text('preset')
  const file = args.text('recipe')
  if ((preset === null) === (file === null)) throw args.invalid('Give either --preset, --recipe or --target.')
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

/** Whether calibration text is used. Options for it are refused where it is not: ignoring them would give another result than the one asked for. */
function needsText(args: Arguments, choice: CompressOptions['recipe'], holdsWithin: number | null): boolean {
  if (holdsWithin !== null || isLayered(recipeOfChoice(choice).recipe)) return true
  const given = ['calibration', 'samples', 'seq'].find((name) => args.text(name) !== null)
  // The search for a map reads text too.
  if (given === undefined || args.text('target') !== null) return false
  throw new LatheError('compress.invalid-recipe', `--${given} is for calibrated recipes; this one is data-free.`, 'Leave it out.')
}

async function calibrationText(args: Arguments, sourceFolder: string): Promise<CalibrationOptions> {
  const file = args.text('calibration')
  return {
    path: file === null ? await bundledCalibration(assetsFolder(), sourceFolder) : resolve(file),
    samples: args.integer('samples', { min: 1 }) ?? CALIBRATION_DEFAULTS.samples,
    sequenceLength: args.integer('seq', { min: 2 }) ?? CALIBRATION_DEFAULTS.sequenceLength,
    seed: args.integer('seed', { min: 0 }) ?? 0,
  }
}

/** What would run, without running it. A preset that tries several shows the first. */
async function writeRecipe(
  path: string,
  choice: CompressOptions['recipe'],
  sourceFolder: string,
  found: FoundRecipe | null,
  { compressor }: Pick<EnginePorts, 'compressor'>,
): Promise<CommandOutput> {
  const { recipe } = recipeOfChoice(choice)
  const plan = await compressor.plan(sourceFolder, recipe)
  await writeFile(path, recipeToYaml(recipe))
  const map = found === null ? null : mapToJson(found.map)
  return {
    json: {
      recipe: path,
      scheme: plan.scheme,
      bytes_out: plan.weightBytes,
      bits_per_weight: plan.bitsPerWeight,
      map,
      warnings: plan.warnings,
    },
    text: formatFacts([
      ['Recipe', path],
      ['Would store', `${formatBytes(plan.weightBytes)} as ${plan.scheme}, ${plan.bitsPerWeight.toFixed(2)} bits per weight`],
    ]),
  }
}

/** What inputs are rounded to that the adapter has no arithmetic for. */
async function emulatedElements(choice: CompressOptions['recipe'], { gpu }: Pick<EnginePorts, 'gpu'>): Promise<readonly InputElement[]> {
  const { recipe } = recipeOfChoice(choice)
  const elements = new Set(
    recipe.steps.flatMap((step) => ('groups' in step ? step.groups.flatMap(({ scheme }) => inputElementsOf(scheme)) : [])),
  )
  if (elements.size === 0) return []
  const selected = (await gpu.state()).adapters.find((adapter) => adapter.selected)
  return [...elements].filter((element) => selected?.emulates.includes(element) === true)
}

const ARITHMETIC: Readonly<Record<InputElement, string>> = { int8: '8-bit integer', e4m3: '8-bit float', e2m1: '4-bit float' }

function describe(report: CompressReport, emulated: readonly InputElement[]): string {
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
  if (emulated.length > 0) {
    const names = emulated.map((element) => ARITHMETIC[element]).join(' and ')
    facts.push([
      'Runs here',
      `emulated: this adapter has no ${names} products, so inputs are rounded the same way and multiplied in floats`,
    ])
  }
  const chosen = report.outcome?.candidates.map(
    ({ title, kldMean, chosen: kept }) => `${title} ${kldMean.toPrecision(3)} nats${kept ? ' (kept)' : ''}`,
  )
  if (chosen !== undefined) facts.push(['Measured', `${chosen.join(', ')} on ${report.outcome?.heldOut.tokens} held-out tokens`])
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
