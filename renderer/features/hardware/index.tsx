/** What this machine offers and what is in use: adapters, limits, memory, loaded models, a short benchmark, and what is missing. */
import { useMutation, useQuery } from '@tanstack/react-query'
import { Copy } from 'lucide-react'
import type { Adapter, Hardware } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { useDelayed } from '../../lib/use-now.ts'
import { Button } from '../../ui/button.tsx'
import { useHost } from '../../ui/host-context.tsx'
import { Card, Facts, Page } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard, Notice } from '../../ui/state.tsx'
import { showToast } from '../../ui/toast.tsx'
import { Bytes, Count } from '../../ui/numbers.tsx'
import { AdapterCard } from './adapter-card.tsx'
import { BenchmarkCard } from './benchmark-card.tsx'
import styles from './hardware.module.css'
import { MemoryCard } from './memory-card.tsx'

/** The panel is watched live: memory moves without an event. */
const REFRESH_MS = 2000

export function HardwareScreen() {
  const { queries } = useEngine()
  const hardware = useQuery({ ...queries.system.hardware.queryOptions(), refetchInterval: REFRESH_MS })
  const slow = useDelayed(hardware.isPending, 150)
  return (
    <Page title="Hardware" actions={<CopyDiagnostics />}>
      {hardware.data === undefined ? (
        hardware.error !== null ? (
          <ErrorCard error={hardware.error} onRetry={() => void hardware.refetch()} />
        ) : (
          slow && <SkeletonLines label="Asking the adapters" lines={8} height="1.5rem" />
        )
      ) : (
        <HardwarePanel hardware={hardware.data} updatedAt={hardware.dataUpdatedAt} />
      )}
    </Page>
  )
}

function HardwarePanel({ hardware, updatedAt }: { readonly hardware: Hardware; readonly updatedAt: number }) {
  const selected = hardware.adapters.find((adapter) => adapter.selected)
  return (
    <div className={styles.panel}>
      {hardware.advice.map((advice) => (
        <Notice key={advice.what} tone="warning" title={advice.what}>
          {advice.why} <strong className={styles.fix}>{advice.fix}</strong>
        </Notice>
      ))}
      <section className={styles.adapters} aria-label="Adapters">
        {hardware.adapters.map((adapter: Adapter) => (
          <AdapterCard key={adapter.id} adapter={adapter} />
        ))}
      </section>
      <div className={styles.columns}>
        <MemoryCard hardware={hardware} updatedAt={updatedAt} />
        <div className={styles.column}>
          <BenchmarkCard adapter={selected} />
          <Card title="This computer">
            <Facts
              rows={[
                ['System', hardware.host.platform],
                ['Processor', hardware.host.cpu],
                ['Cores', <Count key="cores" value={hardware.host.cores} exact />],
                ['Memory', <Bytes key="total" value={hardware.host.totalMemoryBytes} kind="memory" />],
                ['Free', <Bytes key="free" value={hardware.host.freeMemoryBytes} kind="memory" />],
                ['Engine uses', <Bytes key="rss" value={hardware.host.engineRssBytes} kind="memory" />],
                ['Node', hardware.host.nodeVersion],
              ]}
            />
          </Card>
        </div>
      </div>
    </div>
  )
}

function CopyDiagnostics() {
  const { client } = useEngine()
  const host = useHost()
  const copy = useMutation({
    mutationFn: async () => host.copyText((await client.system.diagnostics()).text),
    onSuccess: () => showToast({ type: 'success', title: 'Diagnostics copied', description: 'Your home folder is written as ~ in it.' }),
  })
  return (
    <>
      {copy.error !== null && <span role="alert">Copying failed.</span>}
      <Button icon={Copy} busy={copy.isPending} onClick={() => copy.mutate()}>
        Copy diagnostics
      </Button>
    </>
  )
}
