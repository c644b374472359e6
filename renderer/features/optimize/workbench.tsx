/** The presets at the left, what applies to all of them at the right. Every choice is in the address. */
import { keepPreviousData, useMutation, useQuery } from '@tanstack/react-query'
import { FolderOpen, Play } from 'lucide-react'
import { useMemo } from 'react'
import {
  DEFAULT_CALIBRATION,
  DEFAULT_SETTINGS,
  type Job,
  type ModelSummary,
  type Preflight,
  type StartCompression,
} from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { contextStepsUpTo, nearestStep } from '../../lib/context-steps.ts'
import { formatInteger, plural } from '../../lib/format.ts'
import { useQueryParameter } from '../../lib/url-state.ts'
import { useDelayed } from '../../lib/use-now.ts'
import { useCommands } from '../../shell/commands.ts'
import { useFolderPicker } from '../../shell/use-folder-picker.ts'
import { useViewStore } from '../../shell/view-store.ts'
import { Button } from '../../ui/button.tsx'
import { Field, Slider, Switch, TextInput } from '../../ui/controls.tsx'
import { Disclosure } from '../../ui/disclosure.tsx'
import { Bytes } from '../../ui/numbers.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard, Notice } from '../../ui/state.tsx'
import { Term } from '../../ui/term.tsx'
import { showToast } from '../../ui/toast.tsx'
import styles from './optimize.module.css'
import {
  EVALUATIONS,
  byBitsPerWeight,
  chosenPresets,
  parseEvaluation,
  possibleEvaluation,
  serializeEvaluation,
  startLabel,
  togglePreset,
} from './plan.ts'
import { OriginalCard, PresetCard } from './preset-card.tsx'

export function Workbench({ model }: { readonly model: ModelSummary }) {
  const { client, queries } = useEngine()
  const settings = useQuery(queries.settings.get.queryOptions()).data ?? DEFAULT_SETTINGS
  const [rawPresets, setPresets] = useQueryParameter('presets')
  const [rawContext, setContext] = useQueryParameter('context')
  const [rawEvaluate, setEvaluate] = useQueryParameter('evaluate')
  const [folder, setFolder] = useQueryParameter('folder')
  const [rawSeed, setSeed] = useQueryParameter('seed', '0')
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
  const request: StartCompression = {
    modelId: model.id,
    presetIds: [...chosen],
    recipes: [],
    overrides: [],
    calibration: DEFAULT_CALIBRATION,
    outputFolder: folder === '' ? null : folder,
    evaluate: possibleEvaluation(parseEvaluation(rawEvaluate, settings.evaluate), model.hasTokenizer),
    seed: Number.isSafeInteger(seed) && seed >= 0 ? seed : 0,
  }
  const preflight = useQuery({
    ...queries.optimize.preflight.queryOptions({ input: request }),
    enabled: chosen.length > 0,
    placeholderData: keepPreviousData,
    // Free disk space changes without an event.
    staleTime: 5000,
  })
  const undo = useMutation({ mutationFn: (jobs: readonly Job[]) => Promise.all(jobs.map((job) => client.jobs.cancel({ jobId: job.id }))) })
  const start = useMutation({
    mutationFn: () => client.optimize.start(request),
    onSuccess: (jobs) => {
      setPresets(null)
      setJobsTrayOpen(true)
      showToast({
        title: jobs.length === 1 ? `Started ${jobs[0]?.title ?? ''}` : `Queued ${plural(jobs.length, 'variant')} of ${model.name}`,
        action: { title: 'Undo', onPress: () => undo.mutate(jobs) },
      })
    },
  })
  const ready = chosen.length > 0 && preflight.data?.problems.length === 0 && !preflight.isPlaceholderData
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
          </ul>
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
          <Button variant="primary" size="large" icon={Play} disabled={!ready} busy={starting} onClick={() => run()}>
            {startLabel(request)}
          </Button>
          <p className={styles.note}>
            {chosen.length === 0
              ? 'Choose at least one preset.'
              : `${chosen.length === 1 ? 'One job' : `${chosen.length} jobs, one after the other`}. Close Lathe whenever you like: it resumes.`}
          </p>
        </div>
      </aside>
    </div>
  )
}

function OutputFolder({
  preflight,
  folder,
  onChange,
}: {
  readonly preflight: Preflight | undefined
  readonly folder: string
  readonly onChange: (folder: string | null) => void
}) {
  return (
    <div className={styles.group}>
      <h2 className={styles.groupTitle}>Write to</h2>
      <p className={styles.folder} title={preflight?.outputFolder}>
        {preflight?.outputFolder ?? (folder === '' ? 'The studio’s own folder' : folder)}
      </p>
      <p className={styles.disk}>
        {preflight === undefined ? (
          <span className={styles.quiet}>Choose a preset to see how much room it takes.</span>
        ) : (
          <>
            Needs <Bytes value={preflight.needBytes} />, <Bytes value={preflight.freeBytes} /> free
          </>
        )}
      </p>
      <div className={styles.row}>
        <ChooseFolder onChange={onChange} label="Change…" />
        {folder !== '' && (
          <Button size="small" variant="ghost" onClick={() => onChange(null)}>
            Use the default
          </Button>
        )}
      </div>
    </div>
  )
}

function ChooseFolder({ label, onChange }: { readonly label: string; readonly onChange: (folder: string) => void }) {
  const pickFolder = useFolderPicker()
  const choose = async () => {
    const path = await pickFolder({ title: 'Where should variants go?', confirm: 'Use this folder', note: null, startPath: null })
    if (path !== null) onChange(path)
  }
  return (
    <Button size="small" icon={FolderOpen} onClick={() => void choose()}>
      {label}
    </Button>
  )
}
