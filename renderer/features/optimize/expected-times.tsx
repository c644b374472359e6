/** How long what is chosen will take, and how well that is known. Measuring afterwards comes on top, and says so on its own. */
import type { Preflight } from '../../../engine/contract/index.ts'
import { plural } from '../../lib/format.ts'
import { Info } from '../../ui/info.tsx'
import styles from './optimize.module.css'

const BASIS: Readonly<Record<Preflight['times'][number]['basis'], string>> = {
  measured: 'From runs of this preset on this machine.',
  guess:
    'A first guess from the size of the model and the kind of adapter. The job corrects it after its first layer, and the next run here knows better.',
}

export function ExpectedTimes({ times }: { readonly times: Preflight['times'] }) {
  if (times.length === 0) return null
  const seconds = times.reduce((sum, time) => sum + time.seconds, 0)
  const guessed = times.some(({ basis }) => basis === 'guess')
  return (
    <p className={styles.note}>
      <Info underlined card={guessed ? BASIS.guess : BASIS.measured}>
        {guessed ? 'Roughly ' : 'About '}
        {roughDuration(seconds)}
      </Info>{' '}
      for {times.length === 1 ? 'compressing' : `compressing ${plural(times.length, 'variant')}`}, before anything is measured afterwards.
    </p>
  )
}

/** No more digits than the estimate is worth. */
export function roughDuration(seconds: number): string {
  if (seconds < 10) return 'ten seconds'
  if (seconds < 90) return `${Math.round(seconds / 10) * 10} seconds`
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} minutes`
  return `${Math.round(seconds / 1800) / 2} hours`
}
