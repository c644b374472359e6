/** What calibrated recipes are fitted to: bundled text or a file of one's own, how much of it, and what it holds. */
import { keepPreviousData, useQuery } from '@tanstack/react-query'
import { FileText } from 'lucide-react'
import type { CalibrationChoice, ModelSummary } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { formatCount, formatInteger, plural } from '../../lib/format.ts'
import { useDebounced } from '../../lib/use-debounced.ts'
import { Button } from '../../ui/button.tsx'
import { Field, TextInput } from '../../ui/controls.tsx'
import { Disclosure } from '../../ui/disclosure.tsx'
import { useHost } from '../../ui/host-context.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard, Notice } from '../../ui/state.tsx'
import { Segmented } from '../../ui/tabs.tsx'
import styles from './optimize.module.css'
import { withLine } from './plan.ts'

interface CalibrationPanelProps {
  readonly model: ModelSummary
  readonly choice: CalibrationChoice
  readonly source: 'bundled' | 'file'
  readonly path: string
  readonly onSource: (source: 'bundled' | 'file') => void
  readonly onPath: (path: string) => void
  readonly samples: string
  readonly onSamples: (samples: string) => void
  readonly sequenceLength: string
  readonly onSequenceLength: (length: string) => void
}

export function CalibrationPanel(props: CalibrationPanelProps) {
  const { model, choice, source, path } = props
  const host = useHost()
  return (
    <fieldset className={styles.group}>
      <legend>Calibration text</legend>
      <Segmented
        label="Calibration text"
        value={source}
        onChange={props.onSource}
        options={[
          { value: 'bundled', title: 'Bundled' },
          { value: 'file', title: 'Own file' },
        ]}
      />
      {source === 'file' && (
        <Field label="File" description="A .jsonl with “text” or “messages” on each line, or plain text.">
          {(control) => (
            <TextInput
              {...control}
              className="mono"
              value={path}
              placeholder="/path/to/text.jsonl"
              onChange={(event) => props.onPath(event.target.value)}
            />
          )}
        </Field>
      )}
      {source === 'file' && host.pickFile !== null && (
        <div className={styles.row}>
          <Button
            size="small"
            icon={FileText}
            onClick={() => void host.pickFile?.('.jsonl,.ndjson,.json,.txt,.md').then((picked) => picked !== null && props.onPath(picked))}
          >
            Choose a file…
          </Button>
        </div>
      )}
      <div className={styles.pair}>
        <NumberField label="Samples" value={props.samples} onChange={props.onSamples} />
        <NumberField label="Tokens each, at most" value={props.sequenceLength} onChange={props.onSequenceLength} />
      </div>
      {(source === 'bundled' || path !== '') && <CalibrationFacts model={model} choice={choice} />}
    </fieldset>
  )
}

function NumberField({
  label,
  value,
  onChange,
}: {
  readonly label: string
  readonly value: string
  readonly onChange: (value: string) => void
}) {
  return (
    <Field label={label}>
      {(control) => (
        <TextInput
          {...control}
          inputMode="numeric"
          className="numeric"
          value={value}
          onChange={(event) => onChange(event.target.value.replaceAll(/\D/g, ''))}
        />
      )}
    </Field>
  )
}

const KINDS = { text: 'text', chat: 'conversation', passage: 'passage', mixed: 'document' } as const

function CalibrationFacts({ model, choice }: { readonly model: ModelSummary; readonly choice: CalibrationChoice }) {
  const { queries } = useEngine()
  const input = useDebounced({ modelId: model.id, calibration: choice }, 400)
  const report = useQuery({ ...queries.optimize.inspectCalibration.queryOptions({ input }), placeholderData: keepPreviousData })
  if (report.error !== null) return <ErrorCard error={report.error} onRetry={() => void report.refetch()} />
  if (report.data === undefined) return <SkeletonLines label="Reading the text" lines={2} />
  const { name, documents, kind, excerpts, samples, tokens, exact, warnings, error } = report.data
  if (error !== null) return <ErrorCard error={withLine(error)} />
  return (
    <>
      <p className={styles.disk}>
        <code>{name}</code>: {plural(documents, KINDS[kind])}. Uses {formatInteger(samples)}, {exact ? '' : 'about '}
        {formatCount(tokens)} tokens.
      </p>
      <Disclosure title="How it begins">
        <ul className={styles.excerpts}>
          {excerpts.map((excerpt, index) => (
            <li key={index}>{excerpt}</li>
          ))}
        </ul>
      </Disclosure>
      {warnings.map((warning) => (
        <Notice key={warning} tone="warning">
          {warning}
        </Notice>
      ))}
    </>
  )
}
