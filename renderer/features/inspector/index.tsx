/** One model in full: what it is, every tensor, its tokenizer, its files. Works from headers alone, also for models that Lathe can't run. */
import { useQuery } from '@tanstack/react-query'
import { GitCompareArrows, MessageSquare, SlidersHorizontal } from 'lucide-react'
import { useLocation } from 'wouter'
import type { ModelDetail } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { assertNever } from '../../../engine/contract/index.ts'
import { useDelayed } from '../../lib/use-now.ts'
import { ButtonLink } from '../../ui/button.tsx'
import { Page } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { Tabs } from '../../ui/tabs.tsx'
import { familyName } from '../models/library.ts'
import { ModelMenu } from '../models/model-menu.tsx'
import { StatusChip, StatusReason } from '../models/model-status.tsx'
import { FilesTab } from './files-tab.tsx'
import styles from './inspector.module.css'
import { OverviewTab } from './overview-tab.tsx'
import { TensorsTab } from './tensors-tab.tsx'
import { TokenizerTab } from './tokenizer-tab.tsx'

const TABS = ['overview', 'tensors', 'tokenizer', 'files'] as const
type TabName = (typeof TABS)[number]

export function InspectorScreen({ modelId, tab }: { readonly modelId: string; readonly tab: string | undefined }) {
  const { queries } = useEngine()
  const detail = useQuery(queries.models.get.queryOptions({ input: { modelId } }))
  const slow = useDelayed(detail.isPending, 150)
  const parent = { title: 'Models', href: '/models' }
  if (detail.data === undefined) {
    return (
      <Page title={detail.error === null ? '…' : 'Model'} parent={parent}>
        {detail.error !== null ? (
          <div className={styles.failure}>
            <ErrorCard
              error={detail.error}
              onRetry={() => void detail.refetch()}
              actions={
                <ButtonLink href="/models" size="small">
                  Back to models
                </ButtonLink>
              }
            />
          </div>
        ) : (
          slow && <SkeletonLines label="Reading the model" lines={8} />
        )}
      </Page>
    )
  }
  return <Inspector detail={detail.data} tab={TABS.find((name) => name === tab) ?? 'overview'} />
}

function Inspector({ detail, tab }: { readonly detail: ModelDetail; readonly tab: TabName }) {
  const [, navigate] = useLocation()
  const model = detail.summary
  const ready = model.status === 'ready'
  return (
    <Page
      title={model.name}
      parent={{ title: 'Models', href: '/models' }}
      titleExtra={<StatusChip model={model} />}
      subtitle={`${familyName(model.architecture)} · ${model.scheme}`}
      body="fill"
      actions={
        <>
          {ready && model.hasTokenizer && (
            <ButtonLink href={`/chat?model=${model.id}`} icon={MessageSquare}>
              Chat
            </ButtonLink>
          )}
          {ready && model.parentId !== null && (
            <ButtonLink href={`/compare/${model.parentId}`} icon={GitCompareArrows} variant="primary">
              Compare
            </ButtonLink>
          )}
          {ready && model.parentId === null && (
            <ButtonLink href={`/optimize/${model.id}`} icon={SlidersHorizontal} variant="primary">
              Optimize
            </ButtonLink>
          )}
          <ModelMenu model={model} />
        </>
      }
    >
      <div className={styles.tabs}>
        <Tabs
          label="Parts of the model"
          value={tab}
          onChange={(next) => navigate(`/models/${model.id}${next === 'overview' ? '' : `/${next}`}`, { replace: true })}
          tabs={[
            { value: 'overview', title: 'Overview' },
            {
              value: 'tensors',
              title: (
                <>
                  Tensors <span className={styles.count}>{detail.tensorCount}</span>
                </>
              ),
            },
            { value: 'tokenizer', title: 'Tokenizer' },
            {
              value: 'files',
              title: (
                <>
                  Files <span className={styles.count}>{detail.files.length}</span>
                </>
              ),
            },
          ]}
        >
          <div className={styles.panel}>
            {model.statusReason !== null && (
              <div className={styles.reason}>
                <StatusReason model={model} />
              </div>
            )}
            <TabContent detail={detail} tab={tab} />
          </div>
        </Tabs>
      </div>
    </Page>
  )
}

function TabContent({ detail, tab }: { readonly detail: ModelDetail; readonly tab: TabName }) {
  switch (tab) {
    case 'overview':
      return <OverviewTab detail={detail} />
    case 'tensors':
      return <TensorsTab detail={detail} />
    case 'tokenizer':
      return <TokenizerTab model={detail.summary} />
    case 'files':
      return <FilesTab detail={detail} />
    default:
      return assertNever(tab, 'tab')
  }
}
