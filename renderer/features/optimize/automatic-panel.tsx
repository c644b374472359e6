/**
 * Automatic mixed precision: measure what each layer loses in each scheme, then take the best schemes for a target. The result is a recipe of
 * one's own, to be looked at and changed before anything runs.
 */
import { useEffect, useRef, useState } from 'react'
import { useMutation, useQuery } from '@tanstack/react-query'
import { LOSS_MEASURES, type LossMeasure, type MixedTarget, type ModelSummary } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { formatBytes, formatSignificant } from '../../lib/format.ts'
import { Button } from '../../ui/button.tsx'
import { Checkbox, Field, TextInput } from '../../ui/controls.tsx'
import { ProgressBar } from '../../ui/progress.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { Segmented } from '../../ui/tabs.tsx'
import { NO_CHANGES, useDrafts } from './drafts.ts'
import { targetOf, targetTitle, type TargetKind } from './plan.ts'
import styles from './recipe.module.css'

/** From careful to small; what vLLM runs on most GPUs. */
const CANDIDATES = ['W8A16 g128', 'W8A16 channel', 'W6A16 g128', 'W4A16 g32', 'W4A16 g128', 'W3A16 g128', 'FP8_DYNAMIC'] as const
const CHOSEN_AT_FIRST: readonly string[] = ['W8A16 g128', 'W4A16 g128', 'W3A16 g128']

const MEASURES: Readonly<Record<LossMeasure, { readonly title: string; readonly about: string }>> = {
  weights: { title: 'Weights', about: 'Seconds to minutes: what rounding loses of the weights of each layer. Needs no GPU.' },
  output: {
    title: 'Output',
    about: 'Slow and better: what the model’s answers lose when only that layer is rounded, measured on the GPU.',
  },
}

/** What is typed is MB, bits or a loss. */
const FIRST_VALUES: Readonly<Record<TargetKind, (model: ModelSummary) => string>> = {
  bytes: (model) => String(Math.ceil((model.weightBytes / 1e6) * 0.35)),
  'bits-per-weight': () => '5',
  loss: () => '0.05',
  fits: () => '8192',
}

interface Found {
  readonly weightBytes: number
  readonly bitsPerWeight: number
  readonly predictedLoss: number
  readonly exact: boolean
}

export function AutomaticPanel({ model }: { readonly model: ModelSummary }) {
  const { client, queries } = useEngine()
  const { setRecipe, setChanges, setLosses } = useDrafts()
  const [kind, setKind] = useState<TargetKind>('bits-per-weight')
  const [values, setValues] = useState<Partial<Record<TargetKind, string>>>({})
  const [schemes, setSchemes] = useState(CHOSEN_AT_FIRST)
  const [measure, setMeasure] = useState<LossMeasure>('weights')
  const [progress, setProgress] = useState<{ readonly done: number; readonly total: number; readonly unit: string } | null>(null)
  const stop = useRef<AbortController | null>(null)
  useEffect(() => () => stop.current?.abort(), [])
  const hardware = useQuery(queries.system.hardware.queryOptions()).data
  const typed = values[kind] ?? FIRST_VALUES[kind](model)
  const target = targetOf(kind, typed)
  const find = useMutation({
    mutationFn: async (wanted: MixedTarget): Promise<Found | null> => {
      const controller = new AbortController()
      stop.current = controller
      const request = { modelId: model.id, target: wanted, schemes: [...schemes], measure }
      try {
        for await (const event of await client.optimize.automatic(request, { signal: controller.signal })) {
          if (event.kind === 'progress') {
            setProgress(event)
            continue
          }
          setRecipe(model.id, { title: `Automatic, ${targetTitle(wanted)}`, yaml: event.yaml, chosen: true })
          setChanges(model.id, NO_CHANGES)
          setLosses(model.id, Object.fromEntries(event.map.units.flatMap((unit) => (unit.loss === null ? [] : [[unit.id, unit.loss]]))))
          return { ...event.map, predictedLoss: event.predictedLoss, exact: event.exact }
        }
        return null
      } catch (error) {
        if (controller.signal.aborted) return null
        throw error
      } finally {
        setProgress(null)
      }
    },
  })
  const found = find.data ?? null
  const budget = hardware?.gpuBudgetBytes ?? null
  return (
    <div className={styles.automatic}>
      <div className={styles.targetRow}>
        <Segmented
          label="Target"
          value={kind}
          onChange={setKind}
          options={[
            { value: 'bits-per-weight', title: 'Bits per weight' },
            { value: 'bytes', title: 'Size' },
            { value: 'loss', title: 'Most loss' },
          ]}
        />
        <Field label={kind === 'bytes' ? 'At most, MB' : kind === 'loss' ? 'At most, in sum' : 'At most, bits'}>
          {(control) => (
            <TextInput
              {...control}
              inputMode="decimal"
              className="numeric"
              value={typed}
              aria-invalid={target === null}
              onChange={(event) => setValues({ ...values, [kind]: event.target.value })}
            />
          )}
        </Field>
      </div>
      {kind === 'bytes' && budget !== null && (
        <p className={styles.note}>This GPU has {formatBytes(budget, 'memory')} for weights and context together.</p>
      )}
      <div role="group" aria-label="Schemes to choose from" className={styles.candidates}>
        {CANDIDATES.map((scheme) => (
          <span key={scheme} className={styles.candidate}>
            <Checkbox
              label={scheme}
              checked={schemes.includes(scheme)}
              onChange={(on) => setSchemes(on ? [...schemes, scheme] : schemes.filter((other) => other !== scheme))}
            />
            <span aria-hidden>{scheme}</span>
          </span>
        ))}
      </div>
      <Segmented
        label="Measured on"
        value={measure}
        onChange={setMeasure}
        options={LOSS_MEASURES.map((value) => ({ value, title: MEASURES[value].title }))}
      />
      <p className={styles.note}>{MEASURES[measure].about} Losses of layers are taken to add up; staying as original is always a choice.</p>
      {progress !== null && (
        <>
          <ProgressBar label="Measuring layers" value={progress.done / Math.max(1, progress.total)} />
          <p className={styles.note}>
            {progress.done} of {progress.total}: <code>{progress.unit}</code>
          </p>
        </>
      )}
      {find.error !== null && <ErrorCard error={find.error} />}
      {found !== null && !find.isPending && (
        <p role="status">
          Found {formatBytes(found.weightBytes)}, {formatSignificant(found.bitsPerWeight)} bits per weight, with a predicted loss of{' '}
          {formatSignificant(found.predictedLoss, 2)}
          {found.exact ? '' : ' (near the optimum: the search was thinned)'}. It is the custom recipe now; its layers are below.
        </p>
      )}
      <div className={styles.begin}>
        <Button
          disabled={target === null || schemes.length === 0}
          busy={find.isPending}
          onClick={() => target !== null && find.mutate(target)}
        >
          Find schemes
        </Button>
        {find.isPending && (
          <Button variant="ghost" onClick={() => stop.current?.abort()}>
            Stop
          </Button>
        )}
      </div>
    </div>
  )
}
