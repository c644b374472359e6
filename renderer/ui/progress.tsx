/** Progress as a bar, as a ring for the rail, and as the phases of a job. An unknown total slides instead of pretending a number. */
import { Check } from 'lucide-react'
import type { JobPhase } from '../../engine/contract/index.ts'
import { classNames } from '../lib/class-names.ts'
import styles from './progress.module.css'

export type ProgressTone = 'accent' | 'positive' | 'warning' | 'danger' | 'idle'

export function ProgressBar({
  value,
  label,
  tone = 'accent',
}: {
  readonly value: number | null
  readonly label: string
  readonly tone?: ProgressTone
}) {
  const percent = value === null ? undefined : Math.round(Math.min(1, Math.max(0, value)) * 100)
  return (
    <div
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={percent}
      className={classNames(styles.track, tone !== 'accent' && styles[tone], value === null && styles.unknown)}
    >
      <div className={styles.bar} style={value === null ? undefined : { transform: `scaleX(${Math.min(1, Math.max(0, value))})` }} />
    </div>
  )
}

export function ProgressRing({ value, size = 16 }: { readonly value: number; readonly size?: number }) {
  const radius = size / 2 - 1.5
  const length = 2 * Math.PI * radius
  return (
    <svg width={size} height={size} className={styles.ring} aria-hidden fill="none" strokeWidth={2.5}>
      <circle cx={size / 2} cy={size / 2} r={radius} className={styles.ringTrack} />
      <circle
        cx={size / 2}
        cy={size / 2}
        r={radius}
        className={styles.ringBar}
        strokeLinecap="round"
        strokeDasharray={length}
        strokeDashoffset={length * (1 - Math.min(1, Math.max(0, value)))}
      />
    </svg>
  )
}

const STATE_WORDS = { pending: 'to come', running: 'running', done: 'done', skipped: 'skipped' } as const

interface StepperProps {
  readonly phases: readonly Pick<JobPhase, 'id' | 'title' | 'state'>[]
  /** The job stands still: its current phase is where it stopped. */
  readonly halted?: boolean
}

export function Stepper({ phases, halted = false }: StepperProps) {
  return (
    <ol className={styles.stepper} aria-label="Phases" data-halted={halted || undefined}>
      {phases.map((phase, index) => (
        <li key={phase.id} className={styles.step} data-state={phase.state} aria-current={phase.state === 'running' ? 'step' : undefined}>
          {index > 0 && <span className={styles.join} aria-hidden />}
          <span className={styles.marker} aria-hidden>
            {phase.state === 'done' && <Check size={10} strokeWidth={3.5} />}
          </span>
          {phase.title}
          <span className="visually-hidden">, {halted && phase.state === 'running' ? 'stopped here' : STATE_WORDS[phase.state]}</span>
        </li>
      ))}
    </ol>
  )
}
