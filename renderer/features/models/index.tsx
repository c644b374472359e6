/** The library: first run while it is empty, otherwise the table with the selected model's drawer. */
import { Columns3, FolderOpen } from 'lucide-react'
import { useCallback, useEffect, useMemo } from 'react'
import { plural } from '../../lib/format.ts'
import { useQueryParameter, useQuerySet } from '../../lib/url-state.ts'
import { useDelayed } from '../../lib/use-now.ts'
import { Button, IconButton } from '../../ui/button.tsx'
import { CheckMenu } from '../../ui/menu.tsx'
import { Page } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { FirstRun } from './first-run.tsx'
import { modelTree } from './library.ts'
import { ModelDrawer } from './model-drawer.tsx'
import styles from './models.module.css'
import { ModelsTable, OPTIONAL_COLUMNS } from './models-table.tsx'
import { useModels } from './queries.ts'
import { useImport } from './use-import.ts'

export function ModelsScreen() {
  const models = useModels()
  const { chooseFolder, pending } = useImport()
  const [selectedId, setSelectedId] = useQueryParameter('model')
  const [hidden, setHidden] = useQuerySet('hide')
  const nodes = useMemo(() => modelTree(models.data ?? []), [models.data])
  const selected = models.data?.find((model) => model.id === selectedId)
  const close = useCallback(() => setSelectedId(null), [setSelectedId])
  const slow = useDelayed(models.isPending, 150)
  useEffect(() => {
    if (models.data?.length === 0) document.title = 'Lathe'
  }, [models.data])
  if (models.data?.length === 0) return <FirstRun />
  const sources = nodes.length
  return (
    <Page
      title="Models"
      body="fill"
      titleExtra={
        models.data !== undefined && (
          <span className={styles.count}>
            {plural(sources, 'model')}, {plural(models.data.length - sources, 'variant')}
          </span>
        )
      }
      actions={
        <>
          <CheckMenu
            label="Columns"
            trigger={<IconButton label="Choose columns" icon={Columns3} />}
            options={OPTIONAL_COLUMNS.map((column) => ({ ...column, checked: !hidden.has(column.id) }))}
            onChange={(id, checked) => setHidden(checked ? [...hidden].filter((other) => other !== id) : [...hidden, id])}
          />
          <Button variant="primary" icon={FolderOpen} busy={pending} onClick={() => void chooseFolder()}>
            Import…
          </Button>
        </>
      }
    >
      <div className={styles.layout}>
        <div className={styles.main}>
          {models.error !== null && models.data === undefined ? (
            <div className={styles.failure}>
              <ErrorCard error={models.error} onRetry={() => void models.refetch()} />
            </div>
          ) : models.data === undefined ? (
            slow && (
              <div className={styles.loading}>
                <SkeletonLines label="Reading the library" lines={8} height="1.5rem" />
              </div>
            )
          ) : (
            <ModelsTable nodes={nodes} hiddenColumns={hidden} selectedId={selectedId} onSelect={(id) => setSelectedId(id)} />
          )}
        </div>
        {selected !== undefined && <ModelDrawer model={selected} onClose={close} />}
      </div>
    </Page>
  )
}
