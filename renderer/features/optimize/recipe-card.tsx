/** The recipe of one's own: its card among the presets, and the editor with the form and the text of the same recipe side by side. */
import { useMutation, useQuery } from '@tanstack/react-query'
import { Trash2 } from 'lucide-react'
import { useId } from 'react'
import type { ModelSummary, PresetPrediction, RecipeAlgorithm, RecipeCheck, RecipeForm } from '../../../engine/contract/index.ts'
import { RECIPE_ALGORITHMS, shareHeld } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { useEmulation } from '../../data/use-emulated.ts'
import { formatPercent, plural } from '../../lib/format.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button, IconButton } from '../../ui/button.tsx'
import { Checkbox, Field, Select, TextInput } from '../../ui/controls.tsx'
import { DotList } from '../../ui/dot-list.tsx'
import { emulationSentence } from '../../ui/emulated-badge.tsx'
import { FitBar } from '../../ui/fit-bar.tsx'
import { ErrorCard, Notice } from '../../ui/state.tsx'
import { useDrafts, type RecipeDraft } from './drafts.ts'
import cards from './optimize.module.css'
import { Figures } from './preset-card.tsx'
import styles from './recipe.module.css'
import { YamlField } from './yaml-field.tsx'

const ALGORITHMS: Readonly<Record<RecipeAlgorithm, { readonly title: string; readonly hint: string }>> = {
  rtn: { title: 'Round to nearest', hint: 'no calibration' },
  mse: { title: 'MSE scale search', hint: 'no calibration' },
  imatrix: { title: 'Importance-weighted search', hint: 'calibrated' },
  gptq: { title: 'GPTQ', hint: 'calibrated' },
  awq: { title: 'AWQ', hint: 'calibrated' },
  smoothquant: { title: 'SmoothQuant', hint: 'calibrated' },
}

interface RecipeCardProps {
  readonly model: ModelSummary
  readonly predictions: readonly PresetPrediction[]
  readonly draft: RecipeDraft | undefined
  /** undefined while nothing has been checked. */
  readonly check: RecipeCheck | undefined
  /** The text has changed since the check. */
  readonly checking: boolean
}

export function RecipeCard({ model, predictions, draft, check, checking }: RecipeCardProps) {
  const { client } = useEngine()
  const titleId = useId()
  const setRecipe = useDrafts((state) => state.setRecipe)
  const begin = useMutation({
    mutationFn: (presetId: string) => client.optimize.presetRecipe({ presetId }),
    onSuccess: ({ title, yaml }) => setRecipe(model.id, { title: `${title}, my way`, yaml, chosen: true }),
  })
  const predicted = check?.recipe?.predicted ?? null
  const first = predictions.find((prediction) => prediction.preset.recommended) ?? predictions[0]
  if (draft === undefined) {
    return (
      <li className={cards.card} data-original aria-labelledby={titleId}>
        <span className={cards.check} />
        <div className={cards.body}>
          <h2 id={titleId} className={cards.title}>
            Custom
          </h2>
          <p className={cards.promise}>Your own recipe, as a form and as YAML that LLM Compressor reads too.</p>
          <div className={styles.begin}>
            <Button size="small" busy={begin.isPending} disabled={first === undefined} onClick={() => begin.mutate(first?.preset.id ?? '')}>
              Write a recipe
            </Button>
            <Select
              size="small"
              label="Start from a preset"
              prefix="Start from"
              value=""
              onChange={(presetId) => begin.mutate(presetId)}
              options={predictions.map(({ preset }) => ({ value: preset.id, title: preset.title }))}
            />
          </div>
          {begin.error !== null && <ErrorCard error={begin.error} />}
        </div>
      </li>
    )
  }
  const holdsWithin = draft.holdsWithin ?? null
  const change = (part: Partial<RecipeDraft>) => setRecipe(model.id, { ...draft, ...part })
  return (
    <li className={cards.card} data-chosen={draft.chosen || undefined} aria-labelledby={titleId}>
      <span className={cards.check}>
        <Checkbox label={draft.title || 'Custom'} checked={draft.chosen} onChange={() => change({ chosen: !draft.chosen })} />
      </span>
      <div className={cards.body}>
        <div className={cards.head}>
          <h2 id={titleId} className={cards.title}>
            {draft.title || 'Custom'}
          </h2>
          <Badge tone="outline">custom</Badge>
          {holdsWithin !== null && <Badge tone="accent">holds {formatPercent(shareHeld(holdsWithin), 1)}, checked</Badge>}
          <IconButton label="Throw this recipe away" icon={Trash2} size="small" onClick={() => setRecipe(model.id, null)} />
        </div>
        <DotList
          className={cards.facts}
          items={
            check?.recipe === undefined || check.recipe === null
              ? [checking ? 'checking…' : 'not a recipe yet']
              : [check.recipe.scheme || 'cannot be applied', check.recipe.needsCalibration ? 'needs calibration text' : 'no calibration']
          }
        />
      </div>
      {predicted !== null && (
        <>
          <Figures
            weightBytes={predicted.weightBytes}
            bitsPerWeight={predicted.bitsPerWeight}
            originalBytes={model.weightBytes}
            source={predicted.source}
          />
          <div className={cards.fit}>
            <FitBar fit={predicted.fit} />
          </div>
        </>
      )}
      <div className={styles.editor}>
        <RecipeEditor draft={draft} check={check} onChange={change} />
      </div>
    </li>
  )
}

interface RecipeEditorProps {
  readonly draft: RecipeDraft
  readonly check: RecipeCheck | undefined
  readonly onChange: (part: Partial<RecipeDraft>) => void
}

export function RecipeEditor({ draft, check, onChange }: RecipeEditorProps) {
  const { client } = useEngine()
  const write = useMutation({
    mutationFn: (form: RecipeForm) => client.optimize.writeRecipe(form),
    onSuccess: ({ yaml }) => onChange({ yaml }),
  })
  const recipe = check?.recipe ?? null
  return (
    <>
      <Field label="Name">
        {(control) => (
          <TextInput {...control} value={draft.title} maxLength={100} onChange={(event) => onChange({ title: event.target.value })} />
        )}
      </Field>
      {recipe !== null && recipe.form === null && (
        <Notice tone="info">This recipe says more than the form can: it is edited as text.</Notice>
      )}
      {recipe !== null && recipe.form !== null && <FormFields form={recipe.form} onChange={(form) => write.mutate(form)} />}
      {write.error !== null && <ErrorCard error={write.error} />}
      <YamlField label="Recipe as YAML" value={draft.yaml} error={check?.error ?? null} onChange={(yaml) => onChange({ yaml })} />
      {recipe?.blockedBy && <ErrorCard error={recipe.blockedBy} tone="warning" />}
      {recipe !== null && recipe.predicted !== null && recipe.predicted.skippedTensors.length > 0 && (
        <Notice tone="info" title={`${plural(recipe.predicted.skippedTensors.length, 'tensor stays', 'tensors stay')} as original`}>
          {recipe.predicted.skippedTensors
            .slice(0, 3)
            .map((tensor) => `${tensor.name}: ${tensor.reason}`)
            .join('. ')}
        </Notice>
      )}
      {recipe?.warnings.map((warning) => (
        <Notice key={warning} tone="warning">
          {warning}
        </Notice>
      ))}
    </>
  )
}

function sizeTitle(size: number | null): string {
  return size === null ? 'Whole row' : String(size)
}

function FormFields({ form, onChange }: { readonly form: RecipeForm; readonly onChange: (form: RecipeForm) => void }) {
  const { queries } = useEngine()
  const schemes = useQuery(queries.optimize.schemes.queryOptions()).data ?? []
  const scheme = schemes.find((candidate) => candidate.id === form.scheme)
  const sizes = scheme?.groupSizes ?? [form.groupSize]
  const emulation = useEmulation()
  const emulated = emulation(scheme?.inputElements ?? [])
  return (
    <div className={styles.form} role="group" aria-label="The common fields">
      <Field label="Algorithm">
        {({ id }) => (
          <Select
            id={id}
            label="Algorithm"
            value={form.algorithm}
            onChange={(algorithm) => onChange({ ...form, algorithm })}
            options={RECIPE_ALGORITHMS.map((value) => ({ value, ...ALGORITHMS[value] }))}
          />
        )}
      </Field>
      <Field
        label="Scheme"
        {...(emulated.elements.length > 0 ? { description: emulationSentence(emulated.elements, emulated.adapter) } : {})}
      >
        {({ id }) => (
          <Select
            id={id}
            label="Scheme"
            value={form.scheme}
            onChange={(next) => {
              const offered = schemes.find((candidate) => candidate.id === next)?.groupSizes ?? [null]
              onChange({ ...form, scheme: next, groupSize: offered.includes(form.groupSize) ? form.groupSize : (offered[0] ?? null) })
            }}
            options={schemes.map(({ id: value, bits, needsCalibration, inputElements }) => ({
              value,
              title: value,
              hint: `${bits} bit${needsCalibration ? ', calibrated' : ''}${emulation(inputElements).elements.length > 0 ? ', emulated' : ''}`,
            }))}
          />
        )}
      </Field>
      <Field label="Group size">
        {({ id }) => (
          <Select
            id={id}
            label="Group size"
            value={sizeTitle(form.groupSize)}
            onChange={(title) => onChange({ ...form, groupSize: sizes.find((size) => sizeTitle(size) === title) ?? null })}
            options={sizes.map((size) => ({ value: sizeTitle(size), title: sizeTitle(size) }))}
          />
        )}
      </Field>
      <Field label="Left as original" description="Modules, or patterns that begin with re:">
        {(control) => (
          // Written when it is left: half a pattern is no pattern.
          <TextInput
            {...control}
            key={form.ignore.join(', ')}
            defaultValue={form.ignore.join(', ')}
            className="mono"
            onBlur={(event) => {
              const ignore = event.target.value
                .split(',')
                .map((name) => name.trim())
                .filter((name) => name !== '')
              if (ignore.join() !== form.ignore.join()) onChange({ ...form, ignore })
            }}
          />
        )}
      </Field>
    </div>
  )
}
