/** A server's live figures: its address and key, what it serves, and one card per figure that it tells. */
import { Activity } from 'lucide-react'
import { useState } from 'react'
import { formatInteger } from '../../lib/format.ts'
import { useQueryChoice, useQueryParameter } from '../../lib/url-state.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { Field, TextInput } from '../../ui/controls.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { EmptyState, ErrorCard, Notice } from '../../ui/state.tsx'
import { Segmented } from '../../ui/tabs.tsx'
import { CourseCard } from './course-card.tsx'
import { COURSE_METRICS, isTold } from './metrics.ts'
import styles from './monitor.module.css'
import { useMonitor, type MonitorTarget } from './queries.ts'

const SPANS = ['2', '10', '30'] as const

export function ServerPanel() {
  const [url, setUrl] = useQueryParameter('server')
  const [apiKey, setApiKey] = useState('')
  const target: MonitorTarget | null = url === '' ? null : { url, apiKey: apiKey === '' ? null : apiKey }
  return (
    <section className={styles.server} aria-label="Server">
      <AddressForm
        key={url}
        url={url}
        apiKey={apiKey}
        onSubmit={(nextUrl, nextKey) => {
          setApiKey(nextKey)
          setUrl(nextUrl)
        }}
      />
      {target === null ? (
        <EmptyState icon={Activity} title="Which server?">
          Give the address of Lathe’s own server or of a vLLM: its metrics are read every two seconds while you look, by the engine and not
          by this page.
        </EmptyState>
      ) : (
        <Course target={target} />
      )}
    </section>
  )
}

interface AddressFormProps {
  readonly url: string
  readonly apiKey: string
  readonly onSubmit: (url: string, apiKey: string) => void
}

/** "localhost:8000" is what people type. */
export function completeAddress(text: string): string | null {
  const trimmed = text.trim()
  const candidate = /^[a-z]+:\/\//i.test(trimmed) ? trimmed : `http://${trimmed}`
  if (trimmed === '' || !URL.canParse(candidate)) return null
  const { protocol, hostname } = new URL(candidate)
  return (protocol === 'http:' || protocol === 'https:') && hostname !== '' ? candidate : null
}

function AddressForm({ url, apiKey, onSubmit }: AddressFormProps) {
  const [text, setText] = useState(url)
  const [key, setKey] = useState(apiKey)
  const [asked, setAsked] = useState(false)
  const address = completeAddress(text)
  return (
    <form
      className={styles.address}
      onSubmit={(event) => {
        event.preventDefault()
        setAsked(true)
        if (address !== null) onSubmit(address, key)
      }}
    >
      <Field label="Address" {...(asked && address === null ? { error: 'An address such as http://localhost:8000.' } : {})}>
        {(control) => (
          <TextInput
            {...control}
            inputMode="url"
            value={text}
            placeholder="http://localhost:8000"
            onChange={(event) => setText(event.target.value)}
          />
        )}
      </Field>
      <Field label="API key, if it has one">
        {(control) => <TextInput {...control} type="password" value={key} onChange={(event) => setKey(event.target.value)} />}
      </Field>
      <Button type="submit" variant="primary">
        Watch it
      </Button>
    </form>
  )
}

function Course({ target }: { readonly target: MonitorTarget }) {
  const reading = useMonitor(target)
  const [span, setSpan] = useQueryChoice('minutes', SPANS, '10')
  const samples = reading.data?.samples ?? []
  const told = COURSE_METRICS.filter((metric) => isTold(metric, samples))
  return (
    <>
      {reading.error !== null && <ErrorCard error={reading.error} onRetry={() => void reading.refetch()} />}
      {reading.data === undefined ? (
        reading.error === null && <SkeletonLines label="Asking the server" lines={4} height="3rem" />
      ) : (
        <>
          <div className={styles.bar}>
            <ul className={styles.models} aria-label="Served models">
              {reading.data.models.map((model) => (
                <li key={model}>
                  <Badge>{model}</Badge>
                </li>
              ))}
            </ul>
            <span className={styles.quiet}>
              {formatInteger(samples.length)} {samples.length === 1 ? 'sample' : 'samples'} of {reading.data.metricsUrl}
            </span>
            <span className={styles.grow} />
            <Segmented
              label="Minutes shown"
              value={span}
              onChange={setSpan}
              options={SPANS.map((minutes) => ({ value: minutes, title: `${minutes} min` }))}
            />
          </div>
          {reading.data.restarted && (
            <Notice tone="warning" title="The server was started anew">
              Its counters went back to zero between the last two samples.
            </Notice>
          )}
          {told.length === 0 ? (
            <Notice tone="info">
              The page was read, but it has none of the figures that vLLM and Lathe tell. Rates and latencies need two samples.
            </Notice>
          ) : (
            <div className={styles.cards}>
              {told.map((metric) => (
                <CourseCard key={metric.id} metric={metric} samples={samples} spanMs={Number(span) * 60_000} />
              ))}
            </div>
          )}
          <p className={styles.quiet}>Percentiles come from histogram buckets and are coarse: do not hold them against a client’s.</p>
        </>
      )}
    </>
  )
}
