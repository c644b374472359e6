/** For the preset that searches a map: measure the layers now and see the map, instead of letting the job do it. */
import { boundOfShare, type ModelSummary } from '../../../engine/contract/index.ts'
import { formatBytes, formatSignificant } from '../../lib/format.ts'
import { Button } from '../../ui/button.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { ProgressBar } from '../../ui/progress.tsx'
import styles from './recipe.module.css'
import { useAutomatic } from './use-automatic.ts'

/** As engine/compress/presets.ts chooses from. */
const SCHEMES = ['W8A16 g128', 'W6A16 g128', 'W4A16 g128', 'W3A16 g128'] as const
const SHARE = 0.99

/** `onFound` when the map is there: it runs as a recipe then, not as the preset. */
export function MeasureFirst({ model, onFound }: { readonly model: ModelSummary; readonly onFound: () => void }) {
  const { find, progress, stop } = useAutomatic(model)
  const bound = boundOfShare(SHARE)
  const begin = () =>
    find.mutate(
      {
        request: { target: { kind: 'loss', bound }, schemes: [...SCHEMES], measure: 'output', algorithm: 'gptq' },
        title: 'Smallest that holds 99 %, my map',
        holdsWithin: bound,
      },
      { onSuccess: (map) => map !== null && onFound() },
    )
  const found = find.data ?? null
  return (
    <div className={styles.measureFirst}>
      {progress !== null && (
        <ProgressBar
          label={`Measuring layers, ${progress.done} of ${progress.total}`}
          value={progress.done / Math.max(1, progress.total)}
        />
      )}
      <div className={styles.begin}>
        <Button size="small" busy={find.isPending} onClick={begin}>
          See the map first
        </Button>
        {find.isPending && (
          <Button size="small" variant="ghost" onClick={stop}>
            Stop
          </Button>
        )}
      </div>
      {find.error !== null && <ErrorCard error={find.error} />}
      {found !== null && !find.isPending && (
        <p role="status" className={styles.note}>
          Found {formatBytes(found.weightBytes)}, {formatSignificant(found.bitsPerWeight)} bits per weight. It is the custom recipe below;
          change any layer under “Layers”. The promise is checked before the result is kept.
        </p>
      )}
    </div>
  )
}
