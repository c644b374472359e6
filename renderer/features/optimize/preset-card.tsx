/** One preset with its promise, its predicted weight and its fit at the chosen context; and the original, to measure them against. */
import { useQuery } from '@tanstack/react-query'
import { useId } from 'react'
import { Link } from 'wouter'
import type { ModelSummary, Preset, PresetPrediction } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { fitOf } from '../../lib/fit.ts'
import { formatPercent, plural } from '../../lib/format.ts'
import { Badge, type Tone } from '../../ui/badge.tsx'
import { Checkbox } from '../../ui/controls.tsx'
import { Disclosure } from '../../ui/disclosure.tsx'
import { DotList } from '../../ui/dot-list.tsx'
import { FitBar } from '../../ui/fit-bar.tsx'
import { Bytes, Delta, Significant } from '../../ui/numbers.tsx'
import { Term } from '../../ui/term.tsx'
import { kvBytesPerToken } from '../models/library.ts'
import styles from './optimize.module.css'

const QUALITY: Readonly<Record<Preset['qualityClass'], { readonly title: string; readonly tone: Tone }>> = {
  'near-lossless': { title: 'Near-lossless', tone: 'positive' },
  balanced: { title: 'Small loss', tone: 'accent' },
  small: { title: 'Visible loss', tone: 'warning' },
  experimental: { title: 'Experimental', tone: 'danger' },
}

export function OriginalCard({ model, contextTokens }: { readonly model: ModelSummary; readonly contextTokens: number }) {
  const { queries } = useEngine()
  const hardware = useQuery(queries.system.hardware.queryOptions()).data
  const settings = useQuery(queries.settings.get.queryOptions()).data
  return (
    <li className={styles.card} data-original>
      <span className={styles.check} />
      <div className={styles.body}>
        <div className={styles.head}>
          <h2 className={styles.title}>Original</h2>
          <Badge tone="outline">baseline</Badge>
        </div>
        <p className={styles.promise}>{model.scheme}, as it came. Everything is compared with this.</p>
      </div>
      <Figures weightBytes={model.weightBytes} bitsPerWeight={model.bitsPerWeight} />
      <div className={styles.fit}>
        {hardware !== undefined && settings !== undefined && (
          <FitBar
            fit={fitOf({
              weightBytes: model.weightBytes,
              kvBytesPerToken: kvBytesPerToken(model.architecture, settings.kvDtype),
              contextTokens,
              budgetBytes: hardware.gpuBudgetBytes,
            })}
          />
        )}
      </div>
    </li>
  )
}

interface PresetCardProps {
  readonly model: ModelSummary
  readonly prediction: PresetPrediction
  readonly chosen: boolean
  readonly onToggle: () => void
}

export function PresetCard({ model, prediction, chosen, onToggle }: PresetCardProps) {
  const { preset, predicted, blockedBy, existingVariantId } = prediction
  const titleId = useId()
  const quality = QUALITY[preset.qualityClass]
  return (
    <li className={styles.card} data-chosen={chosen || undefined} data-blocked={predicted === null || undefined} aria-labelledby={titleId}>
      <span className={styles.check}>
        <Checkbox label={preset.title} checked={chosen} disabled={predicted === null} onChange={onToggle} />
      </span>
      <div className={styles.body}>
        <div className={styles.head}>
          <h2 id={titleId} className={styles.title}>
            {/* The checkbox carries the name for assistive tools; a click anywhere on the title is a convenience for the pointer. */}
            {predicted === null ? (
              preset.title
            ) : (
              <button type="button" tabIndex={-1} className={styles.titleButton} onClick={onToggle}>
                {preset.title}
              </button>
            )}
          </h2>
          {preset.recommended && <Badge tone="accent">recommended</Badge>}
          <Badge tone={quality.tone === 'accent' ? 'neutral' : quality.tone}>{quality.title}</Badge>
        </div>
        <p className={styles.promise}>{preset.promise}</p>
        <DotList
          className={styles.facts}
          items={[preset.scheme, preset.algorithm, preset.fastOn, preset.needsCalibration ? 'needs calibration text' : 'no calibration']}
        />
        {blockedBy !== null && (
          <p className={styles.blocked} role="note">
            {blockedBy.message} {blockedBy.hint}
          </p>
        )}
        {existingVariantId !== null && (
          <p className={styles.facts}>
            Exists already: <Link href={`/models/${existingVariantId}`}>open it</Link> or{' '}
            <Link href={`/compare/${model.id}`}>compare it</Link>
          </p>
        )}
        {predicted !== null && predicted.skippedTensors.length > 0 && (
          <Disclosure
            title={`${plural(predicted.skippedTensors.length, 'tensor stays', 'tensors stay')} as ${predicted.skippedTensors.length === 1 ? 'it is' : 'they are'}`}
          >
            <ul className={styles.skipped}>
              {predicted.skippedTensors.map((tensor) => (
                <li key={tensor.name}>
                  <code>{tensor.name}</code>
                  <span>{tensor.reason}</span>
                </li>
              ))}
            </ul>
          </Disclosure>
        )}
      </div>
      {predicted !== null && (
        <>
          <Figures
            weightBytes={predicted.weightBytes}
            bitsPerWeight={predicted.bitsPerWeight}
            originalBytes={model.weightBytes}
            source={predicted.source}
          />
          <div className={styles.fit}>
            <FitBar fit={predicted.fit} />
          </div>
        </>
      )}
    </li>
  )
}

interface FiguresProps {
  readonly weightBytes: number
  readonly bitsPerWeight: number
  /** With these the size is a prediction, and shown against the original. */
  readonly originalBytes?: number
  readonly source?: string
}

export function Figures({ weightBytes, bitsPerWeight, originalBytes, source }: FiguresProps) {
  return (
    <dl className={styles.figures}>
      <div>
        <dt>Size</dt>
        <dd className={styles.size}>
          <Bytes value={weightBytes} estimate={source} />
        </dd>
      </div>
      <div>
        <dt>
          <Term name="bits-per-weight">Bits per weight</Term>
        </dt>
        <dd>
          <Significant value={bitsPerWeight} estimate={source} />
        </dd>
      </div>
      <div>
        <dt>Against original</dt>
        <dd>
          {originalBytes === undefined ? (
            '—'
          ) : (
            <Delta value={weightBytes / originalBytes - 1} format={(value) => formatPercent(value, 0)} />
          )}
        </dd>
      </div>
    </dl>
  )
}
