/** The selected model in short, beside the table. */
import { Box, GitCompareArrows, MessageSquare, SlidersHorizontal } from 'lucide-react'
import type { ModelSummary } from '../../../engine/contract/index.ts'
import { useNow } from '../../lib/use-now.ts'
import { formatRelativeTime } from '../../lib/format.ts'
import { SoftwareBadge } from '../../ui/badge.tsx'
import { ButtonLink } from '../../ui/button.tsx'
import { Drawer } from '../../ui/dialog.tsx'
import { FitBar } from '../../ui/fit-bar.tsx'
import { Bytes, Count, Rate, Significant } from '../../ui/numbers.tsx'
import { Facts } from '../../ui/page.tsx'
import { Term } from '../../ui/term.tsx'
import { familyName } from './library.ts'
import styles from './models.module.css'
import { SchemeBadges } from './scheme-badges.tsx'
import { StatusReason } from './model-status.tsx'
import { useFit, useMeasuredSpeed } from './queries.ts'

export function ModelDrawer({ model, onClose }: { readonly model: ModelSummary; readonly onClose: () => void }) {
  const fit = useFit()(model)
  const speed = useMeasuredSpeed(model)
  const now = useNow(60_000)
  const { architecture } = model
  const ready = model.status === 'ready'
  return (
    <Drawer
      title={model.name}
      onClose={onClose}
      footer={
        <>
          <ButtonLink href={`/models/${model.id}`} icon={Box} variant={ready ? 'secondary' : 'primary'}>
            Inspect
          </ButtonLink>
          {ready && model.parentId === null && (
            <ButtonLink href={`/optimize/${model.id}`} icon={SlidersHorizontal} variant="primary">
              Optimize
            </ButtonLink>
          )}
          {ready && model.parentId !== null && (
            <ButtonLink href={`/compare/${model.parentId}`} icon={GitCompareArrows} variant="primary">
              Compare
            </ButtonLink>
          )}
          {ready && model.hasTokenizer && (
            <ButtonLink href={`/chat?model=${model.id}`} icon={MessageSquare}>
              Chat
            </ButtonLink>
          )}
        </>
      }
    >
      <div className={styles.drawer}>
        <StatusReason model={model} />
        {fit !== null && ready && (
          <section className={styles.drawerSection}>
            <h3>On this device</h3>
            <FitBar fit={fit} detail="full" />
          </section>
        )}
        <section className={styles.drawerSection}>
          <h3>Model</h3>
          <Facts
            rows={[
              ['Architecture', familyName(architecture)],
              ['Parameters', <Count key="parameters" value={model.parameters} />],
              [
                <Term key="scheme" name="scheme">
                  Format
                </Term>,
                <SchemeBadges key="badges" model={model} />,
              ],
              [
                <Term key="bits" name="bits-per-weight">
                  Bits per weight
                </Term>,
                <Significant key="value" value={model.bitsPerWeight} />,
              ],
              ['Size on disk', <Bytes key="disk" value={model.diskBytes} />],
              architecture.contextLength === null ? null : ['Context', <Count key="context" value={architecture.contextLength} exact />],
              ['Licence', model.license ?? 'not stated'],
              ['Last used', model.lastUsedAt === null ? 'never' : formatRelativeTime(model.lastUsedAt, now)],
            ]}
          />
        </section>
        {speed !== null && (
          <section className={styles.drawerSection}>
            <h3>Measured speed {speed.software && <SoftwareBadge />}</h3>
            <Facts
              rows={[
                [
                  <Term key="term" name="decode">
                    Decode
                  </Term>,
                  <Rate key="rate" value={speed.throughput.decodeTokensPerSecond.median} measured={speed.measured} />,
                ],
                [
                  <Term key="term" name="prefill">
                    Prefill
                  </Term>,
                  <Rate key="rate" value={speed.throughput.prefillTokensPerSecond.median} measured={speed.measured} />,
                ],
                ['Peak GPU memory', <Bytes key="peak" value={speed.throughput.peakGpuBytes} kind="memory" measured={speed.measured} />],
              ]}
            />
          </section>
        )}
        <section className={styles.drawerSection}>
          <h3>Folder</h3>
          <p className={styles.path}>{model.path}</p>
        </section>
      </div>
    </Drawer>
  )
}
