/** Says that the engine is gone once that has lasted a second, and that it is back by disappearing. */
import { LoaderCircle } from 'lucide-react'
import { useConnectionState, useEngine } from '../data/engine.tsx'
import { useDelayed } from '../lib/use-now.ts'
import { Button } from '../ui/button.tsx'
import button from '../ui/button.module.css'
import styles from './connection-banner.module.css'

/** Shorter breaks heal before a banner could be read. */
const SHOW_AFTER_MS = 1000
/** About five seconds of trying; the engine's own restart takes one. */
const TROUBLED_ATTEMPTS = 4

export function ConnectionBanner() {
  const state = useConnectionState()
  const { connection } = useEngine()
  const visible = useDelayed(state.status !== 'open', SHOW_AFTER_MS)
  return (
    <div role="status" className={styles.region}>
      {visible && (
        <div className={styles.banner}>
          <LoaderCircle size={15} className={button.spinner} aria-hidden />
          <span className={styles.text}>
            {!state.hasBeenOpen
              ? state.attempt >= TROUBLED_ATTEMPTS
                ? 'The engine does not answer. If this page comes from a bookmark, open the address that Lathe printed when it started.'
                : 'Starting the engine…'
              : state.attempt >= TROUBLED_ATTEMPTS
                ? 'The engine is still not answering. Jobs resume from their journal once it is back; what you see is the last known state.'
                : 'The engine stopped and is restarting. What you see is the last known state.'}
          </span>
          {state.status === 'lost' && (
            <Button size="small" onClick={connection.retryNow}>
              Try now
            </Button>
          )}
        </div>
      )}
    </div>
  )
}
