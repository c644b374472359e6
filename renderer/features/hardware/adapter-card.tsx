/** One adapter as its driver names it, with the features and limits that decide what runs on it. */
import { useMutation, useQuery } from '@tanstack/react-query'
import type { Adapter } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { toUiError } from '../../lib/errors.ts'
import { Badge, SoftwareBadge } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { Disclosure } from '../../ui/disclosure.tsx'
import { Bytes, Count } from '../../ui/numbers.tsx'
import { Card, Facts } from '../../ui/page.tsx'
import { showToast } from '../../ui/toast.tsx'
import styles from './hardware.module.css'

const TYPES = {
  discrete: 'Graphics card',
  integrated: 'Integrated graphics',
  software: 'Software',
  reference: 'Reference',
  unknown: 'Unknown type',
} as const

const FEATURES = [
  { key: 'f16', title: '16-bit floats' },
  { key: 'subgroups', title: 'Subgroups' },
  { key: 'packedDot', title: 'Packed 8-bit dot product' },
  { key: 'subgroupMatrix', title: 'Matrix units' },
  { key: 'timestamps', title: 'Timestamps' },
] as const

export function AdapterCard({ adapter }: { readonly adapter: Adapter }) {
  const { client, queries } = useEngine()
  const chosen = useQuery(queries.settings.get.queryOptions()).data?.adapter ?? null
  const choose = useMutation({
    mutationFn: (id: string | null) => client.settings.update({ adapter: id }),
    onSuccess: (_, id) =>
      showToast({ type: 'success', title: id === null ? 'Lathe chooses the adapter' : `${adapter.name} is used from now on` }),
    onError: (error) => showToast({ type: 'error', title: 'The adapter was not changed', description: toUiError(error).message }),
  })
  return (
    <Card
      title={
        <span className={styles.adapterTitle}>
          {adapter.name}
          {adapter.selected && <Badge tone="accent">in use</Badge>}
          {adapter.type === 'software' || adapter.type === 'reference' ? <SoftwareBadge /> : <Badge>{TYPES[adapter.type]}</Badge>}
        </span>
      }
      actions={
        chosen === adapter.id ? (
          <Button size="small" variant="ghost" busy={choose.isPending} onClick={() => choose.mutate(null)}>
            Back to automatic
          </Button>
        ) : (
          !adapter.selected && (
            <Button size="small" disabled={!adapter.usable} busy={choose.isPending} onClick={() => choose.mutate(adapter.id)}>
              Use this one
            </Button>
          )
        )
      }
    >
      <p className={styles.quiet}>
        {adapter.vendor} · {adapter.backend} · {adapter.driver}
      </p>
      {adapter.reason !== null && <p className={styles.reason}>{adapter.reason}</p>}
      <ul className={styles.features} aria-label="Features">
        {FEATURES.map((feature) => (
          <li key={feature.key} data-missing={!adapter.features[feature.key] || undefined}>
            <span aria-hidden>{adapter.features[feature.key] ? '✓' : '–'}</span> {feature.title}
            <span className="visually-hidden">{adapter.features[feature.key] ? ', yes' : ', no'}</span>
          </li>
        ))}
      </ul>
      <Disclosure title="Limits and memory">
        <Facts
          rows={[
            ['Memory', <Bytes key="total" value={adapter.memory.totalBytes} kind="memory" reason="the driver does not say" />],
            ['Free', <Bytes key="free" value={adapter.memory.freeBytes} kind="memory" reason="the driver does not say" />],
            ['Known from', adapter.memory.source],
            adapter.limits === null ? null : ['Largest buffer', <Bytes key="buffer" value={adapter.limits.maxBufferBytes} kind="memory" />],
            adapter.limits === null
              ? null
              : ['Largest binding', <Bytes key="binding" value={adapter.limits.maxBindingBytes} kind="memory" />],
            adapter.limits === null
              ? null
              : ['Workgroup memory', <Bytes key="workgroup" value={adapter.limits.workgroupStorageBytes} kind="memory" />],
            adapter.limits === null ? null : ['Threads per workgroup', <Count key="threads" value={adapter.limits.maxInvocations} exact />],
            adapter.features.subgroupSize === null ? null : ['Subgroup size', [...new Set(adapter.features.subgroupSize)].join('–')],
            ['Name for --adapter', <code key="id">{adapter.id}</code>],
          ]}
        />
      </Disclosure>
    </Card>
  )
}
