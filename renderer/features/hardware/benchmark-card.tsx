/** A few seconds of copy, read and matrix kernels: what the adapter can do at best, to judge model speeds against. */
import { useMutation, useQueryClient } from '@tanstack/react-query'
import { Gauge } from 'lucide-react'
import type { Adapter } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { formatDateTime } from '../../lib/format.ts'
import { SoftwareBadge } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { Rate, Significant } from '../../ui/numbers.tsx'
import { Card, Facts } from '../../ui/page.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import styles from './hardware.module.css'

export function BenchmarkCard({ adapter }: { readonly adapter: Adapter | undefined }) {
  const { client, queries } = useEngine()
  const cache = useQueryClient()
  const benchmark = useMutation({
    mutationKey: ['benchmark'],
    mutationFn: () => client.system.benchmark(),
    // estimates start from the calibration that this run was
    onSuccess: () => cache.invalidateQueries({ queryKey: queries.capacity.key() }),
  })
  const result = benchmark.data
  return (
    <Card
      title={<span className={styles.adapterTitle}>Benchmark {result?.software === true && <SoftwareBadge />}</span>}
      actions={
        <Button size="small" icon={Gauge} busy={benchmark.isPending} disabled={adapter === undefined} onClick={() => benchmark.mutate()}>
          {result === undefined ? 'Run it' : 'Run again'}
        </Button>
      }
    >
      {benchmark.error !== null && <ErrorCard error={benchmark.error} />}
      {result === undefined ? (
        <p className={styles.quiet}>
          {benchmark.isPending
            ? 'Copying, reading and multiplying…'
            : 'A few seconds of copy, read and matrix kernels show what this adapter can reach, and make the estimates of Capacity those of this machine.'}
        </p>
      ) : (
        <Facts
          rows={[
            ['Copy', <Rate key="copy" value={result.copyGigabytesPerSecond} unit="GB/s" />],
            ['Read', <Rate key="read" value={result.readGigabytesPerSecond} unit="GB/s" />],
            ...result.linear.map(
              ({ format, readGigaweightsPerSecond }) =>
                [`Decode, ${format} weights`, <Rate key={format} value={readGigaweightsPerSecond} unit="G weights/s" />] as const,
            ),
            ['Matrix product', <Rate key="matmul" value={result.matmulGigaflops} unit="GFLOP/s" />],
            ['Round trip', <Significant key="trip" value={result.submitRoundTripMs} unit="ms" />],
            ['On', result.adapter],
            ['Measured', formatDateTime(result.measuredAt)],
          ]}
        />
      )}
    </Card>
  )
}
