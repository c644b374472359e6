/**
 * Automatic mixed precision: measure what each layer loses in each scheme, then take the best schemes for a target. The result is a recipe of
 * one's own, to be looked at and changed before anything runs.
 */
import { useState } from 'react'
import { useQuery } from '@tanstack/react-query'
import {
  LOSS_MEASURES,
  MAP_ALGORITHMS,
  shareHeld,
  type LossMeasure,
  type MapAlgorithm,
  type MixedTarget,
  type ModelSummary,
} from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { useEmulation } from '../../data/use-emulated.ts'
import { formatBytes, formatPercent, formatSignificant } from '../../lib/format.ts'
import { Button } from '../../ui/button.tsx'
import { Checkbox, Field, TextInput } from '../../ui/controls.tsx'
import { EmulatedBadge } from '../../ui/emulated-badge.tsx'
import { ProgressBar } from '../../ui/progress.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { Segmented } from '../../ui/tabs.tsx'
import { targetOf, targetTitle, type TargetKind } from './plan.ts'
import styles from './recipe.module.css'
import { useAutomatic } from './use-automatic.ts'

/** From careful to small; what vLLM runs on most GPUs. */
const CANDIDATES = ['W8A16 g128', 'W8A16 channel', 'W6A16 g128', 'W4A16 g32', 'W4A16 g128', 'W3A16 g128', 'FP8_DYNAMIC'] as const
const CHOSEN_AT_FIRST: readonly string[] = ['W8A16 g128', 'W4A16 g128', 'W3A16 g128']

const FIELD_LABELS: Readonly<Record<TargetKind, string>> = {
  bytes: 'At most, MB',
  'bits-per-weight': 'At most, bits',
  loss: 'At most, in sum',
  fits: 'With a context of, tokens',
}

const ALGORITHMS: Readonly<Record<MapAlgorithm, { readonly title: string; readonly about: string }>> = {
  mse: { title: 'Scale search', about: 'Stored in seconds, without text.' },
  gptq: { title: 'GPTQ', about: 'Fitted to calibration text: better at the same size, and slower.' },
}

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
  loss: () => '0.01',
  fits: () => '8192',
}

export function AutomaticPanel({ model }: { readonly model: ModelSummary }) {
  const { queries } = useEngine()
  const { find, progress, stop } = useAutomatic(model)
  const emulation = useEmulation()
  const [kind, setKind] = useState<TargetKind>('bits-per-weight')
  const [values, setValues] = useState<Partial<Record<TargetKind, string>>>({})
  const [schemes, setSchemes] = useState(CHOSEN_AT_FIRST)
  const [measure, setMeasure] = useState<LossMeasure>('weights')
  const [algorithm, setAlgorithm] = useState<MapAlgorithm>('mse')
  const hardware = useQuery(queries.system.hardware.queryOptions()).data
  const typed = values[kind] ?? FIRST_VALUES[kind](model)
  const target = targetOf(kind, typed)
  const begin = (wanted: MixedTarget) =>
    find.mutate({
      request: { target: wanted, schemes: [...schemes], measure, algorithm },
      title: `Automatic, ${targetTitle(wanted)}`,
      // Only a loss that was measured on the output is a promise that can be checked.
      holdsWithin: wanted.kind === 'loss' && measure === 'output' && wanted.bound > 0 ? wanted.bound : null,
    })
  const found = find.data ?? null
  const infos = useQuery(queries.optimize.schemes.queryOptions()).data ?? []
  const elementsOf = (name: string) => infos.find(({ id }) => id === name || name.startsWith(`${id} `))?.inputElements ?? []
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
            { value: 'fits', title: 'Fits this GPU' },
            { value: 'loss', title: 'Most loss' },
          ]}
        />
        <Field label={FIELD_LABELS[kind]}>
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
      {kind === 'loss' && <LossNote measure={measure} bound={target?.kind === 'loss' ? target.bound : null} />}
      {(kind === 'bytes' || kind === 'fits') && budget !== null && (
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
            <EmulatedBadge {...emulation(elementsOf(scheme))} />
          </span>
        ))}
      </div>
      <div className={styles.choice}>
        <span aria-hidden>Measured on</span>
        <Segmented
          label="Measured on"
          value={measure}
          onChange={setMeasure}
          options={LOSS_MEASURES.map((value) => ({ value, title: MEASURES[value].title }))}
        />
        <p className={styles.note}>
          {MEASURES[measure].about} Losses of layers are taken to add up; staying as original is always a choice.
        </p>
      </div>
      <div className={styles.choice}>
        <span aria-hidden>Stored by</span>
        <Segmented
          label="Stored by"
          value={algorithm}
          onChange={setAlgorithm}
          options={MAP_ALGORITHMS.map((value) => ({ value, title: ALGORITHMS[value].title }))}
        />
        <p className={styles.note}>{ALGORITHMS[algorithm].about}</p>
      </div>
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
        <Button disabled={target === null || schemes.length === 0} busy={find.isPending} onClick={() => target !== null && begin(target)}>
          Find schemes
        </Button>
        {find.isPending && (
          <Button variant="ghost" onClick={stop}>
            Stop
          </Button>
        )}
      </div>
    </div>
  )
}

function LossNote({ measure, bound }: { readonly measure: LossMeasure; readonly bound: number | null }) {
  if (measure === 'weights')
    return <p className={styles.note}>The share of the weights’ energy that rounding may lose, all layers together.</p>
  return (
    <p className={styles.note}>
      In nats per token{bound === null ? '' : `: keeps ${formatPercent(shareHeld(bound), 1)} of the original’s certainty`}. It is checked on
      other text before the result is kept.
    </p>
  )
}
