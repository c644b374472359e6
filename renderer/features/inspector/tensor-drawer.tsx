/** One tensor: its place in the file and the distribution of its values, read when the drawer opens and dropped when it closes. */
import { useQuery } from '@tanstack/react-query'
import type { TensorInfo } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { useDelayed } from '../../lib/use-now.ts'
import { Badge } from '../../ui/badge.tsx'
import { Drawer } from '../../ui/dialog.tsx'
import { Histogram } from '../../ui/histogram.tsx'
import { Bytes, Count, Percent, Significant } from '../../ui/numbers.tsx'
import { Facts } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import styles from './inspector.module.css'
import { formatShape, kindTitle } from './tensors.ts'

export function TensorDrawer({
  modelId,
  tensor,
  onClose,
}: {
  readonly modelId: string
  readonly tensor: TensorInfo
  readonly onClose: () => void
}) {
  const { queries } = useEngine()
  const stats = useQuery(queries.models.tensorStats.queryOptions({ input: { modelId, name: tensor.name } }))
  const slow = useDelayed(stats.isPending, 150)
  return (
    <Drawer title={tensor.name.split('.').slice(-2).join('.')} onClose={onClose}>
      <div className={styles.stack}>
        <p className={styles.fullName}>{tensor.name}</p>
        <Facts
          rows={[
            ['Kind', kindTitle(tensor.kind)],
            ['Data type', <Badge key="dtype">{tensor.dtype}</Badge>],
            [
              'Shape',
              <span key="shape" className="numeric">
                {formatShape(tensor.shape)}
              </span>,
            ],
            ['Size', <Bytes key="bytes" value={tensor.bytes} />],
            [
              'File',
              <span key="file" className="mono">
                {tensor.file}
              </span>,
            ],
          ]}
        />
        <h3 className={styles.heading}>Values</h3>
        {stats.error !== null ? (
          <ErrorCard error={stats.error} onRetry={() => void stats.refetch()} />
        ) : stats.data === undefined ? (
          slow && <SkeletonLines label="Reading the values" lines={6} />
        ) : (
          <>
            <Histogram label={`Distribution of the values of ${tensor.name}`} {...stats.data.histogram} />
            <Facts
              rows={[
                ['Elements', <Count key="count" value={stats.data.count} exact />],
                ['Smallest', <Significant key="min" value={stats.data.min} />],
                ['Largest', <Significant key="max" value={stats.data.max} />],
                ['Mean', <Significant key="mean" value={stats.data.mean} />],
                ['Standard deviation', <Significant key="sigma" value={stats.data.standardDeviation} />],
                ['Zeros', <Percent key="zeros" fraction={stats.data.zeroFraction} digits={2} />],
              ]}
            />
          </>
        )}
      </div>
    </Drawer>
  )
}
