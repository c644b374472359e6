/** The models behind the server: which are in memory, what they hold, when they leave it, and the switch to load or unload each now. */
import { useMutation, useQueryClient } from '@tanstack/react-query'
import type { ServedModelInfo, ServerView } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { formatBytes, formatInteger, formatPercent, plural } from '../../lib/format.ts'
import { useNow } from '../../lib/use-now.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { Card } from '../../ui/page.tsx'
import { ProgressBar } from '../../ui/progress.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import styles from './server.module.css'

const CLOCK_MS = 15_000

export function ModelsCard({ view }: { readonly view: ServerView }) {
  const { client, queries } = useEngine()
  const cache = useQueryClient()
  const change = useMutation({
    mutationFn: ({ name, loaded }: { readonly name: string; readonly loaded: boolean }) =>
      loaded ? client.server.unload({ name }) : client.server.load({ name }),
    onSuccess: (next) => cache.setQueryData(queries.server.view.queryKey(), next),
  })
  const now = useNow(CLOCK_MS)
  return (
    <Card title="Models">
      {change.error !== null && <ErrorCard error={change.error} />}
      <ul className={styles.served} aria-label="Served models">
        {view.models.map((model) => (
          <li key={model.modelId} className={styles.servedModel}>
            <span className={styles.servedName}>
              <code>{model.name}</code> <StateBadge model={model} />
            </span>
            <span className={styles.quiet}>{describe(model, now)}</span>
            {model.loading === null ? (
              view.state === 'running' && (
                <Button
                  size="small"
                  aria-label={`${model.loaded ? 'Unload' : 'Load'} ${model.name}`}
                  disabled={model.inUse > 0}
                  busy={change.isPending && change.variables.name === model.name}
                  onClick={() => change.mutate(model)}
                >
                  {model.inUse > 0 ? 'In use' : model.loaded ? 'Unload' : 'Load'}
                </Button>
              )
            ) : (
              <span className={styles.progress}>
                <ProgressBar
                  label={`Loading ${model.name}`}
                  value={model.loading.totalBytes === 0 ? null : model.loading.doneBytes / model.loading.totalBytes}
                />
              </span>
            )}
          </li>
        ))}
      </ul>
    </Card>
  )
}

function StateBadge({ model }: { readonly model: ServedModelInfo }) {
  if (model.loading !== null) return <Badge tone="accent">{model.loading.phase}</Badge>
  if (!model.loaded) return <Badge>loads when asked for</Badge>
  return <Badge tone="positive">in memory</Badge>
}

/** Exported for its test. */
export function describe(
  { bytes, contextLimit, inUse, kvDtype, kvNamedByCheckpoint, loading, pinned, speculation, unloadAt }: ServedModelInfo,
  now: number,
): string {
  if (loading !== null)
    return loading.totalBytes === 0 ? '' : `${formatBytes(loading.doneBytes, 'memory')} of ${formatBytes(loading.totalBytes, 'memory')}`
  const parts: string[] = []
  const cache = kvDtype === null ? 'cache' : `cache as ${kvDtype}${kvNamedByCheckpoint ? ', which its checkpoint names' : ''}`
  if (bytes !== null)
    parts.push(`${formatBytes(bytes.weights + bytes.kv + bytes.other, 'memory')}, ${formatBytes(bytes.kv, 'memory')} of it ${cache}`)
  if (contextLimit !== null) parts.push(`${formatInteger(contextLimit)} tokens of context`)
  if (inUse > 0) parts.push(plural(inUse, 'request'))
  else if (unloadAt !== null)
    parts.push(`leaves memory in ${plural(Math.max(1, Math.ceil((Date.parse(unloadAt) - now) / 60_000)), 'minute')}`)
  else if (pinned && bytes !== null) parts.push('stays')
  if (speculation !== null && speculation.proposed > 0)
    parts.push(
      `${formatPercent(speculation.accepted / speculation.proposed, 0)} of guesses right${speculation.active ? '' : ', resting: they do not pay'}`,
    )
  return parts.join(' · ')
}
