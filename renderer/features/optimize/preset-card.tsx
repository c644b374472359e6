/** One preset with its promise, its predicted weight and its fit at the chosen context; and the original, to measure them against. */
import { useQuery } from '@tanstack/react-query'
import { Ruler } from 'lucide-react'
import { useId } from 'react'
import { Link } from 'wouter'
import type { ModelSummary, Predicted, Preset, PresetPrediction } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { useEmulation } from '../../data/use-emulated.ts'
import { fitOf } from '../../lib/fit.ts'
import { formatPercent, plural } from '../../lib/format.ts'
import { Badge, type Tone } from '../../ui/badge.tsx'
import { Checkbox } from '../../ui/controls.tsx'
import { Disclosure } from '../../ui/disclosure.tsx'
import { DotList } from '../../ui/dot-list.tsx'
import { EmulatedBadge } from '../../ui/emulated-badge.tsx'
import { FitBar } from '../../ui/fit-bar.tsx'
import { Info } from '../../ui/info.tsx'
import { Bytes, Delta, Significant } from '../../ui/numbers.tsx'
import { Term } from '../../ui/term.tsx'
import { kvBytesPerToken } from '../models/library.ts'
import { MeasureFirst } from './measure-first.tsx'
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
  const emulation = useEmulation()
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
          {preset.outcome !== null && <MeasuredBadge outcome={preset.outcome} />}
          <EmulatedBadge {...emulation(preset.inputElements)} />
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
        {preset.outcome === 'holds' && predicted !== null && <MeasureFirst model={model} onFound={() => chosen && onToggle()} />}
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
            {...(predicted.range === undefined ? {} : { range: predicted.range })}
          />
          <div className={styles.fit}>
            <FitBar fit={predicted.fit} />
          </div>
        </>
      )}
    </li>
  )
}

const MEASURED: Readonly<Record<NonNullable<Preset['outcome']>, string>> = {
  'best-of':
    'Both algorithms run on calibration text. Each result is compared with the original on text that neither has seen, and the one that is nearer is kept. It takes as long as both together.',
  holds:
    'Every group of layers is rounded alone to see what it loses. Then whole maps are tried until the smallest that holds is found, stored, and checked on text that nothing was fitted to.',
}

function MeasuredBadge({ outcome }: { readonly outcome: NonNullable<Preset['outcome']> }) {
  return (
    <Info card={MEASURED[outcome]} label="Measured before it is kept">
      <Badge tone="outline" icon={Ruler}>
        measured
      </Badge>
    </Info>
  )
}

interface FiguresProps {
  readonly weightBytes: number
  readonly bitsPerWeight: number
  /** With these the size is a prediction, and shown against the original. */
  readonly originalBytes?: number
  readonly source?: string
  /** Where the size is found by measuring. */
  readonly range?: NonNullable<Predicted['range']>
}

export function Figures({ weightBytes, bitsPerWeight, originalBytes, source, range }: FiguresProps) {
  if (range !== undefined && originalBytes !== undefined) {
    return (
      <dl className={styles.figures}>
        <div>
          <dt>Size, found by measuring</dt>
          <dd className={styles.size}>
            <Bytes value={range.leastBytes} estimate={source} /> to <Bytes value={range.mostBytes} estimate={source} />
          </dd>
        </div>
        <div>
          <dt>Against original</dt>
          <dd>
            {formatPercent(range.leastBytes / originalBytes - 1, 0)} to {formatPercent(range.mostBytes / originalBytes - 1, 0)}
          </dd>
        </div>
      </dl>
    )
  }
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
