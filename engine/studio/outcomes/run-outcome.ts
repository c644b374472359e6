/**
 * Presets that promise an outcome: candidates are compressed one after another into folders beside the output, each is measured against the
 * original on held-out text, the best is recorded with all figures and gets the output's name. What can be shared is: the device with its
 * compiled kernels, the text as tokens, and everything that an interrupted run had finished.
 *
 *   <parent>/.<name>.candidates/state.json          outcome-state.ts
 *   <parent>/.<name>.candidates/<id>/<name>/        a finished candidate; the chosen one becomes <parent>/<name>
 */
import { rename, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { openFolder } from '../../checkpoint/files.ts'
import { openCheckpoint } from '../../checkpoint/open.ts'
import { syncFolder } from '../../checkpoint/safetensors-writer.ts'
import { addOutcomeToCard } from '../../compress/model-card.ts'
import { recipeToYaml } from '../../compress/recipe-yaml.ts'
import type { Recipe } from '../../compress/recipe.ts'
import type { PresetOutcome } from '../../compress/presets.ts'
import { recordOutcome } from '../../compress/run-record.ts'
import { sha256 } from '../../compress/sha256.ts'
import type { CompressOptions, CompressProgress, CompressReport } from '../../compress/types.ts'
import { LatheError, boundOfShare, shareHeld } from '../../contract/index.ts'
import type { Outcome, OutcomeCandidate } from '../../contract/index.ts'
import { HELD_OUT_DOCUMENTS, splitText } from './held-out-bench.ts'
import type { TextSplit } from './held-out-bench.ts'
import { describeDivergence, exists, tryCandidate } from './candidate.ts'
import type { OutcomeParts, OutcomeRun, TriedCandidate } from './candidate.ts'
import { discardCandidates, openState } from './outcome-state.ts'
import { smallestHolding } from './smallest-holding.ts'

/** A preset's own outcome, or a recipe whose loss is only checked. */
export type WantedOutcome = PresetOutcome | { readonly kind: 'check'; readonly recipe: Recipe; readonly bound: number }

/** Throws what `compress` throws, and `compress.verification-failed` where no candidate gives numbers. */
export async function compressForOutcome(options: CompressOptions, wanted: WantedOutcome, parts: OutcomeParts): Promise<CompressReport> {
  const started = performance.now()
  const { signal } = options
  try {
    signal?.throwIfAborted()
    await refuseExisting(options.outFolder)
    if (options.calibration === undefined) {
      throw new LatheError(
        'compress.invalid-recipe',
        'This preset measures its result on text, and none was given.',
        'Choose calibration text (--calibration), or the preset Quick 4-bit.',
      )
    }
    const calibration = { ...options.calibration, holdOut: HELD_OUT_DOCUMENTS }
    const text = await splitText(options.sourceFolder, calibration, signal)
    const store = await openState(options.outFolder, await subjectOf(options, wanted, text), options.resume)
    const resumed = store.state.candidates.length > 0 || Object.keys(store.state.losses).length > 0
    await using backend = await (options.openBackend ?? parts.openBackend)()
    let last: CompressProgress | null = null
    const run: OutcomeRun = {
      options: {
        ...options,
        onProgress: (progress) => {
          last = progress
          options.onProgress?.(progress)
        },
      },
      parts,
      store,
      text,
      calibration,
      backend,
      resumed,
      stage: (stage) => options.onProgress?.({ ...(last ?? NOTHING_YET), layer: null, stage }),
    }
    const tried = await tryAll(run, wanted)
    const bound = wanted.kind === 'check' ? wanted.bound : wanted.kind === 'holds' ? boundOfShare(wanted.share) : null
    const chosen = chooseCandidate(tried, bound)
    const outcome = outcomeOf(tried, chosen, text, bound)
    await recordOutcome(chosen.folder, outcome)
    await addOutcomeToCard(chosen.folder, outcome)
    for (const line of describeOutcome(outcome)) options.onLog?.({ level: outcome.held === false ? 'warn' : 'info', text: line })
    signal?.throwIfAborted()
    await refuseExisting(options.outFolder)
    const out = resolve(options.outFolder)
    await rename(chosen.folder, out)
    await syncFolder(dirname(out))
    await discardCandidates(options.outFolder)
    const missed = outcome.held === false ? describeOutcome(outcome).slice(-1) : []
    return {
      ...chosen.report,
      outFolder: out,
      seconds: (performance.now() - started) / 1000,
      resumed: resumed || chosen.report.resumed,
      warnings: [...chosen.report.warnings, ...missed],
      outcome,
    }
  } catch (error) {
    if (signal?.aborted === true && !(error instanceof LatheError && error.code !== 'job.cancelled' && error.code !== 'runtime.aborted')) {
      throw new LatheError('job.cancelled', 'The compression was cancelled.', 'Resume it to continue with what is finished.')
    }
    throw error
  }
}

const NOTHING_YET: CompressProgress = {
  phases: [],
  current: 'quantize',
  currentTensor: null,
  tensorsDone: 0,
  tensorsTotal: 0,
  bytesPerSecond: null,
  rssBytes: 0,
}

async function tryAll(run: OutcomeRun, wanted: WantedOutcome): Promise<readonly TriedCandidate[]> {
  switch (wanted.kind) {
    case 'best-of': {
      const tried: TriedCandidate[] = []
      for (const [index, { id, title, recipe }] of wanted.candidates.entries())
        tried.push(await tryCandidate(run, { id, title, recipe, predictedLoss: null }, index, wanted.candidates.length))
      return tried
    }
    case 'holds':
      return await smallestHolding(run, wanted)
    case 'check':
      return [await tryCandidate(run, { id: 'recipe', title: 'Your recipe', recipe: wanted.recipe, predictedLoss: null }, 0, 1)]
  }
}

/** With a bound the smallest that stays within it, else the nearest to the original. Ties go to the earlier one. */
export function chooseCandidate(tried: readonly TriedCandidate[], bound: number | null): TriedCandidate {
  const usable = tried.filter(({ measured }) => Number.isFinite(measured.kldMean))
  const holding = bound === null ? [] : usable.filter(({ measured }) => measured.kldMean <= bound)
  const chosen = least(holding, ({ report }) => report.bytesOut) ?? least(usable, ({ measured }) => measured.kldMean)
  if (chosen !== undefined) return chosen
  throw new LatheError(
    'compress.verification-failed',
    'No candidate gives finite probabilities on held-out text.',
    'Nothing was published. Choose a scheme with more bits; if it happens again, report it.',
  )
}

function least(list: readonly TriedCandidate[], key: (each: TriedCandidate) => number): TriedCandidate | undefined {
  return list.toSorted((a, b) => key(a) - key(b))[0]
}

function outcomeOf(tried: readonly TriedCandidate[], chosen: TriedCandidate, text: TextSplit, bound: number | null): Outcome {
  const candidates = tried
    .filter(({ measured }) => Number.isFinite(measured.kldMean))
    .map((each): OutcomeCandidate => ({
      id: each.plan.id,
      title: each.plan.title,
      kldMean: each.measured.kldMean,
      kldStandardError: each.measured.kldStandardError,
      top1Agreement: each.measured.top1Agreement,
      bytes: each.report.bytesOut,
      predictedLoss: each.plan.predictedLoss,
      chosen: each === chosen,
    }))
  return {
    kind: bound === null ? 'best-of' : 'holds',
    heldOut: text.facts,
    candidates,
    bound,
    held: bound === null ? null : chosen.measured.kldMean <= bound,
  }
}

/** What was chosen and why, in sentences; the last one is the verdict. */
export function describeOutcome({ candidates, heldOut, bound, held }: Outcome): readonly string[] {
  const chosen = candidates.find((candidate) => candidate.chosen)
  if (chosen === undefined) return []
  const where = `on ${heldOut.tokens} held-out tokens of ${heldOut.source}`
  if (bound === null || held === null) {
    const others = candidates.filter((candidate) => !candidate.chosen).map(({ title, kldMean }) => `${title} ${kldMean.toPrecision(3)}`)
    return [`Kept ${chosen.title}: ${describeDivergence(chosen)} ${where}; ${others.join(', ')}.`]
  }
  const verdict = `holds ${percentHeld(chosen.kldMean)} of the original's next-token probability ${where} (${describeDivergence(chosen)})`
  return [
    held
      ? `Kept ${chosen.title}: it ${verdict}.`
      : `${chosen.title} only ${verdict}, less than the ${percentHeld(bound)} that were promised.`,
  ]
}

function percentHeld(kldMean: number): string {
  return `${(shareHeld(kldMean) * 100).toFixed(2)} %`
}

async function subjectOf(options: CompressOptions, wanted: WantedOutcome, text: TextSplit): Promise<string> {
  const folder = await openFolder(options.sourceFolder)
  await using source = await openCheckpoint(options.sourceFolder)
  const files = await Promise.all(
    source.files.map(async ({ name, bytes }) => {
      const path = folder.realPathOf(name)
      return [name, bytes, path === null ? 0 : (await stat(path)).mtimeMs]
    }),
  )
  const recipes =
    wanted.kind === 'best-of'
      ? wanted.candidates.map(({ id, recipe }) => [id, recipeToYaml(recipe)])
      : wanted.kind === 'check'
        ? [recipeToYaml(wanted.recipe), wanted.bound]
        : [wanted.share, wanted.schemes]
  return sha256(JSON.stringify([files, recipes, options.recipe.presetId ?? null, options.seed, text.sha256]))
}

async function refuseExisting(outFolder: string): Promise<void> {
  if (!(await exists(resolve(outFolder)))) return
  throw new LatheError('checkpoint.already-exists', `${resolve(outFolder)} exists already.`, 'Open it, or choose another output folder.')
}
