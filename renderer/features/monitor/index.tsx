/** What serves right now, and whether it is still as good as it was: a server's metrics over time, and the watch over variants' quality. */
import { Page } from '../../ui/page.tsx'
import styles from './monitor.module.css'
import { QualityPanel } from './quality-panel.tsx'
import { ServerPanel } from './server-panel.tsx'

export function MonitorScreen() {
  return (
    <Page title="Monitor">
      <div className={styles.screen}>
        <ServerPanel />
        <QualityPanel />
      </div>
    </Page>
  )
}
