/** The presets at the left, what applies to all of them at the right. Every choice is in the address but what is too long for it (drafts.ts). */
import { keepPreviousData, useMutation, useQuery } from '@tanstack/react-query'
import { Play } from 'lucide-react'
import { useMemo, useState } from 'react'
import {
  DEFAULT_CALIBRATION,
  DEFAULT_SETTINGS,
  type Job,
  type ModelSummary,
  type StartCompression,
} from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { contextStepsUpTo, nearestStep } from '../../lib/context-steps.ts'
import { formatInteger, plural } from '../../lib/format.ts'
import { useQueryChoice, useQueryParameter } from '../../lib/url-state.ts'
import { useDebounced } from '../../lib/use-debounced.ts'
import { useDelayed } from '../../lib/use-now.ts'
import { useCommands } from '../../shell/commands.ts'
import { useViewStore } from '../../shell/view-store.ts'
import { Button } from '../../ui/button.tsx'
import { Field, Slider, Switch, TextInput } from '../../ui/controls.tsx'
import { Disclosure } from '../../ui/disclosure.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard, Notice } from '../../ui/state.tsx'
import { Term } from '../../ui/term.tsx'
import { showToast } from '../../ui/toast.tsx'
import { AutomaticPanel } from './automatic-panel.tsx'
import { CalibrationPanel } from './calibration-panel.tsx'
import { NO_CHANGES, useDrafts } from './drafts.ts'
import { CUSTOM_SUBJECT, LayersTable, type LayerSubject } from './layers-table.tsx'
import styles from './optimize.module.css'
import { ExpectedTimes } from './expected-times.tsx'
import { ChooseFolder, OutputFolder } from './output-folder.tsx'
import {
  EVALUATIONS,
  byBitsPerWeight,
  calibrationOf,
  chosenPresets,
  parseEvaluation,
  possibleEvaluation,
  serializeEvaluation,
  startLabel,
  togglePreset,
} from './plan.ts'
import { OriginalCard, PresetCard } from './preset-card.tsx'
import { RecipeCard } from './recipe-card.tsx'
import recipeStyles from './recipe.module.css'

/** Long enough not to ask for every letter, short enough to feel at once. */
const CHECK_AFTER_MS = 300

export function Workbench({ model }: { readonly model: ModelSummary }) {
  const { client, queries } = useEngine()
  const settings = useQuery(queries.settings.get.queryOptions()).data ?? DEFAULT_SETTINGS
  const [rawPresets, setPresets] = useQueryParameter('presets')
  const [rawContext, setContext] = useQueryParameter('context')
  const [rawEvaluate, setEvaluate] = useQueryParameter('evaluate')
  const [folder, setFolder] = useQueryParameter('folder')
  const [rawSeed, setSeed] = useQueryParameter('seed', '0')
  // The variant whose recipe was opened to be changed: what stays the same is taken over from it.
  const [base] = useQueryParameter('base')
  const [calibrationSource, setCalibrationSource] = useQueryChoice('calibration', ['bundled', 'file'], 'bundled')
  const [calibrationPath, setCalibrationPath] = useQueryParameter('text')
  const [samples, setSamples] = useQueryParameter('samples', String(DEFAULT_CALIBRATION.samples))
  const [sequenceLength, setSequenceLength] = useQueryParameter('seq', String(DEFAULT_CALIBRATION.sequenceLength))
  const draft = useDrafts((state) => state.recipes[model.id])
  const changes = useDrafts((state) => state.changes[model.id]) ?? NO_CHANGES
  const setJobsTrayOpen = useViewStore((state) => state.setJobsTrayOpen)

  const steps = contextStepsUpTo(model.architecture.contextLength)
  const asked = Number.parseInt(rawContext, 10)
  const step = nearestStep(steps, asked > 0 ? asked : settings.contextTokens)
  const contextTokens = steps[step] ?? settings.contextTokens
  const presets = useQuery({
    ...queries.optimize.presets.queryOptions({ input: { modelId: model.id, contextTokens } }),
    placeholderData: keepPreviousData,
  })
  const slow = useDelayed(presets.isPending, 150)
  const predictions = byBitsPerWeight(presets.data ?? [])
  const chosen = chosenPresets(predictions, rawPresets)
  const seed = Number.parseInt(rawSeed, 10)
  const runSeed = Number.isSafeInteger(seed) && seed >= 0 ? seed : 0
  const yaml = useDebounced(draft?.yaml ?? '', CHECK_AFTER_MS)
  const checked = useQuery({
    ...queries.optimize.checkRecipe.queryOptions({ input: { modelId: model.id, yaml, contextTokens } }),
    enabled: draft !== undefined && yaml !== '',
    placeholderData: keepPreviousData,
  })
  const checking = draft !== undefined && (draft.yaml !== yaml || checked.isFetching)
  const custom = draft?.chosen === true ? draft : null
  const customReady = custom === null || (!checking && custom.title.trim() !== '' && (checked.data?.recipe?.predicted ?? null) !== null)
  const calibrated =
    predictions.some(({ preset }) => preset.needsCalibration && chosen.includes(preset.id)) ||
    (custom !== null && (checked.data?.recipe?.needsCalibration === true || (custom.holdsWithin ?? null) !== null))
  const calibration = calibrationOf({ source: calibrationSource, path: calibrationPath, samples, sequenceLength }, runSeed)
  const lacksFile = calibrated && calibrationSource === 'file' && calibrationPath === ''
  const request: StartCompression = {
    modelId: model.id,
    presetIds: [...chosen],
    recipes:
      custom === null || !customReady ? [] : [{ title: custom.title.trim(), yaml: custom.yaml, holdsWithin: custom.holdsWithin ?? null }],
    overrides: Object.values(changes),
    calibration: calibrated && !lacksFile ? calibration : null,
    baseVariantId: custom === null || base === '' ? null : base,
    outputFolder: folder === '' ? null : folder,
    evaluate: possibleEvaluation(parseEvaluation(rawEvaluate, settings.evaluate), model.hasTokenizer),
    seed: runSeed,
  }
  const count = chosen.length + (custom === null ? 0 : 1)
  const preflight = useQuery({
    ...queries.optimize.preflight.queryOptions({ input: request }),
    enabled: chosen.length + request.recipes.length > 0,
    placeholderData: keepPreviousData,
    // Free disk space changes without an event.
    staleTime: 5000,
  })
  const subjects: LayerSubject[] = [
    ...(draft === undefined || (checked.data?.recipe ?? null) === null || checking
      ? []
      : [{ id: CUSTOM_SUBJECT, title: draft.title, choice: { yaml: draft.yaml } }]),
    // A map that is yet to be found has no layers to show.
    ...predictions
      .filter(({ preset }) => chosen.includes(preset.id) && preset.outcome !== 'holds')
      .map(({ preset }) => ({ id: preset.id, title: preset.title, choice: { presetId: preset.id } })),
  ]
  const undo = useMutation({ mutationFn: (jobs: readonly Job[]) => Promise.all(jobs.map((job) => client.jobs.cancel({ jobId: job.id }))) })
  const start = useMutation({
    mutationFn: () => client.optimize.start(request),
    onSuccess: (jobs) => {
      setPresets(null)
      // what was written stays to be changed and run again; it is only no longer chosen
      const { setRecipe, setChanges } = useDrafts.getState()
      // changes meant for these would otherwise apply to whatever is chosen next
      setChanges(model.id, NO_CHANGES)
      if (draft !== undefined) setRecipe(model.id, { ...draft, chosen: false })
      setJobsTrayOpen(true)
      showToast({
        title: jobs.length === 1 ? `Started ${jobs[0]?.title ?? ''}` : `Queued ${plural(jobs.length, 'variant')} of ${model.name}`,
        action: { title: 'Undo', onPress: () => undo.mutate(jobs) },
      })
    },
  })
  const ready = count > 0 && customReady && !lacksFile && preflight.data?.problems.length === 0 && !preflight.isPlaceholderData
  const { mutate: run, isPending: starting } = start
  useCommands(
    useMemo(
      () =>
        ready && !starting
          ? [
              {
                id: 'optimize.start',
                section: 'Optimize' as const,
                title: 'Start the chosen presets',
                icon: Play,
                shortcut: '$mod+Enter',
                run: () => run(),
              },
            ]
          : [],
      [ready, starting, run],
    ),
  )

  return (
    <div className={styles.workbench}>
      <section className={styles.presets} aria-label="Presets">
        {presets.error !== null && presets.data === undefined ? (
          <ErrorCard error={presets.error} onRetry={() => void presets.refetch()} />
        ) : presets.data === undefined ? (
          slow && <SkeletonLines label="Predicting sizes" lines={9} height="2.5rem" />
        ) : (
          <ul className={styles.list} aria-busy={presets.isPlaceholderData}>
            <OriginalCard model={model} contextTokens={contextTokens} />
            {predictions.map((prediction) => (
              <PresetCard
                key={prediction.preset.id}
                model={model}
                prediction={prediction}
                chosen={chosen.includes(prediction.preset.id)}
                onToggle={() => setPresets(togglePreset(chosen, prediction.preset.id))}
              />
            ))}
            <RecipeCard model={model} predictions={predictions} draft={draft} check={checked.data} checking={checking} />
          </ul>
        )}
        {presets.data !== undefined && (
          <div className={recipeStyles.section}>
            <Disclosure title="Automatic: a scheme for every layer">
              <AutomaticPanel model={model} />
            </Disclosure>
            <LayersDisclosure model={model} subjects={subjects} changed={Object.keys(changes).length} />
          </div>
        )}
      </section>
      <aside className={styles.options} aria-label="For all presets">
        <div className={styles.scroll}>
          <Slider
            label={<Term name="context">Context</Term>}
            value={step}
            min={0}
            max={Math.max(1, steps.length - 1)}
            format={(index) => `${formatInteger(steps[index] ?? contextTokens)} tokens`}
            onChange={(index) => setContext(String(steps[index] ?? contextTokens))}
          />
          <fieldset className={styles.group}>
            <legend>Measure afterwards</legend>
            {EVALUATIONS.map((evaluation) => (
              <Switch
                key={evaluation.id}
                label={evaluation.title}
                description={evaluation.description}
                checked={request.evaluate[evaluation.id]}
                disabled={evaluation.id !== 'throughput' && !model.hasTokenizer}
                onChange={(on) => setEvaluate(serializeEvaluation({ ...request.evaluate, [evaluation.id]: on }))}
              />
            ))}
            {!model.hasTokenizer && <Notice tone="info">Without a tokenizer nothing can be measured on text.</Notice>}
          </fieldset>
          {calibrated && (
            <CalibrationPanel
              model={model}
              choice={calibration}
              source={calibrationSource}
              path={calibrationPath}
              onSource={setCalibrationSource}
              onPath={setCalibrationPath}
              samples={samples}
              onSamples={setSamples}
              sequenceLength={sequenceLength}
              onSequenceLength={setSequenceLength}
            />
          )}
          <OutputFolder preflight={preflight.data} folder={folder} onChange={setFolder} />
          <Disclosure title="Advanced">
            <Field label="Seed" description="The same model, preset and seed give the same bytes.">
              {(control) => (
                <TextInput
                  {...control}
                  inputMode="numeric"
                  value={rawSeed}
                  onChange={(event) => setSeed(event.target.value.replace(/\D/g, ''))}
                  className="numeric"
                />
              )}
            </Field>
          </Disclosure>
        </div>
        <div className={styles.footer}>
          {preflight.error !== null && <ErrorCard error={preflight.error} onRetry={() => void preflight.refetch()} />}
          {preflight.data?.problems.map((problem) => (
            <ErrorCard
              key={`${problem.code} ${problem.message}`}
              error={problem}
              actions={problem.code.startsWith('disk.') && <ChooseFolder onChange={setFolder} label="Choose another folder…" />}
            />
          ))}
          {preflight.data?.warnings.map((warning) => (
            <Notice key={warning} tone="warning">
              {warning}
            </Notice>
          ))}
          {start.error !== null && <ErrorCard error={start.error} />}
          <ExpectedTimes times={count === 0 ? [] : (preflight.data?.times ?? [])} />
          <Button variant="primary" size="large" icon={Play} disabled={!ready} busy={starting} onClick={() => run()}>
            {startLabel(request)}
          </Button>
          <p className={styles.note}>
            {count === 0
              ? 'Choose at least one preset, or write a recipe.'
              : lacksFile
                ? 'Choose the calibration file, or use the bundled text.'
                : `${count === 1 ? 'One job' : `${count} jobs, one after the other`}. Close Lathe whenever you like: it resumes.`}
          </p>
        </div>
      </aside>
    </div>
  )
}

/** Closed until it is asked for: reading the layers of a large model for nobody would be waste. */
function LayersDisclosure({
  model,
  subjects,
  changed,
}: {
  readonly model: ModelSummary
  readonly subjects: readonly LayerSubject[]
  readonly changed: number
}) {
  const [open, setOpen] = useState(changed > 0)
  return (
    <Disclosure title={changed === 0 ? 'Layers' : `Layers: ${plural(changed, 'change')}`} open={open} onToggle={setOpen}>
      {open && <LayersTable model={model} subjects={subjects} />}
    </Disclosure>
  )
}
