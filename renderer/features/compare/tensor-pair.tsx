/** One tensor before and after: both distributions on their own axes, and the error between them. Values are read when it opens. */
import { useQuery } from '@tanstack/react-query'
import { X } from 'lucide-react'
import type { ReactNode } from 'react'
import { Link } from 'wouter'
import type { TensorError, TensorInfo } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { IconButton } from '../../ui/button.tsx'
import { Histogram } from '../../ui/histogram.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import styles from './compare.module.css'
import { TensorErrorFacts } from './heatmap.tsx'

interface TensorPairProps {
  readonly sourceId: string
  readonly variantId: string
  readonly error: TensorError
  readonly onClose: () => void
  /** What can be done about this tensor, e.g. raising it to more bits. */
  readonly actions?: ReactNode
}

export function TensorPair({ sourceId, variantId, error, onClose, actions }: TensorPairProps) {
  const { queries } = useEngine()
  const original = useQuery(queries.models.tensors.queryOptions({ input: { modelId: sourceId } })).data
  const compressed = useQuery(queries.models.tensors.queryOptions({ input: { modelId: variantId } })).data
  const originalName = original === undefined ? null : storedName(error.name, original)
  const compressedName = compressed === undefined ? null : storedName(error.name, compressed)
  return (
    <section className={styles.pair} aria-label={error.name}>
      <div className={styles.pairHead}>
        <h3>{error.layer === null ? error.kind : `Layer ${error.layer} · ${error.kind}`}</h3>
        <IconButton label="Close this tensor" icon={X} size="small" onClick={onClose} />
      </div>
      <p className={styles.pairName}>{error.name}</p>
      <TensorErrorFacts error={error} />
      <div className={styles.pairCharts}>
        {originalName !== null && <Distribution title="Original" modelId={sourceId} name={originalName} />}
        {compressedName !== null && <Distribution title="Compressed, read back" modelId={variantId} name={compressedName} />}
      </div>
      {actions}
      {originalName !== null && (
        <Link href={`/models/${sourceId}/tensors?tensor=${encodeURIComponent(originalName)}`}>Open in the inspector</Link>
      )}
    </section>
  )
}

/** The tensor that holds a linear's weight: errors are named by module or by weight, and a packed weight is stored under its own name. */
export function storedName(name: string, tensors: readonly Pick<TensorInfo, 'name'>[]): string | null {
  const names = new Set(tensors.map((tensor) => tensor.name))
  return [name, `${name}_packed`, `${name}.weight`, `${name}.weight_packed`].find((candidate) => names.has(candidate)) ?? null
}

function Distribution({ title, modelId, name }: { readonly title: string; readonly modelId: string; readonly name: string }) {
  const { queries } = useEngine()
  const stats = useQuery(queries.models.tensorStats.queryOptions({ input: { modelId, name } }))
  return (
    <div>
      <h4 className={styles.pairTitle}>{title}</h4>
      {stats.error !== null ? (
        <ErrorCard error={stats.error} onRetry={() => void stats.refetch()} />
      ) : stats.data === undefined ? (
        <SkeletonLines label="Reading the values" lines={4} />
      ) : (
        <Histogram label={`${title}: distribution of the values`} {...stats.data.histogram} />
      )}
    </div>
  )
}
