/** One tensor before and after: both distributions on their own axes, and the error between them. Values are read when it opens. */
import { useQuery } from '@tanstack/react-query'
import { X } from 'lucide-react'
import { Link } from 'wouter'
import type { TensorError } from '../../../engine/contract/index.ts'
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
}

export function TensorPair({ sourceId, variantId, error, onClose }: TensorPairProps) {
  const { queries } = useEngine()
  const tensors = useQuery(queries.models.tensors.queryOptions({ input: { modelId: variantId } }))
  // A packed weight is stored under its own name in the variant.
  const packed = `${error.name}_packed`
  const storedName = tensors.data?.some((tensor) => tensor.name === packed) === true ? packed : error.name
  return (
    <section className={styles.pair} aria-label={error.name}>
      <div className={styles.pairHead}>
        <h3>{error.layer === null ? error.kind : `Layer ${error.layer} · ${error.kind}`}</h3>
        <IconButton label="Close this tensor" icon={X} size="small" onClick={onClose} />
      </div>
      <p className={styles.pairName}>{error.name}</p>
      <TensorErrorFacts error={error} />
      <Distribution title="Original" modelId={sourceId} name={error.name} />
      {tensors.data !== undefined && <Distribution title="Compressed, read back" modelId={variantId} name={storedName} />}
      <Link href={`/models/${sourceId}/tensors?tensor=${encodeURIComponent(error.name)}`}>Open in the inspector</Link>
    </section>
  )
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
