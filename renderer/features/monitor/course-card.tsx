/** One figure's last minutes: lines over time on a scale from zero, the newest values printed, and a table for those who prefer one. */
import type { MonitorSample } from '../../../engine/contract/index.ts'
import { MISSING } from '../../lib/format.ts'
import { Card } from '../../ui/page.tsx'
import { Term } from '../../ui/term.tsx'
import { coursePath, niceTop, VIEW } from './course-path.ts'
import type { CourseMetric } from './metrics.ts'
import styles from './monitor.module.css'

interface CourseCardProps {
  readonly metric: CourseMetric
  readonly samples: readonly MonitorSample[]
  readonly spanMs: number
}

export function CourseCard({ metric, samples, spanMs }: CourseCardProps) {
  const last = samples.at(-1)
  const endMs = last === undefined ? 0 : Date.parse(last.at)
  const courses = metric.lines.map((line) => samples.map((sample) => ({ atMs: Date.parse(sample.at), value: line.read(sample) })))
  const shown = courses.flatMap((course) => course.filter((point) => point.atMs >= endMs - spanMs).map((point) => point.value ?? 0))
  const top = metric.top ?? niceTop(Math.max(0, ...shown))
  const now = (index: number): string => {
    const line = metric.lines[index]
    const value = last === undefined || line === undefined ? null : line.read(last)
    return value === null ? MISSING : metric.format(value)
  }
  return (
    <Card title={metric.term === null ? metric.title : <Term name={metric.term}>{metric.title}</Term>}>
      <ul className={styles.now}>
        {metric.lines.map((line, index) => (
          <li key={line.title} data-line={index}>
            <span className={styles.key} aria-hidden />
            {metric.lines.length > 1 && <span className={styles.lineName}>{line.title}</span>}
            <span className="numeric">{now(index)}</span>
          </li>
        ))}
      </ul>
      <figure className={styles.course}>
        <span className={styles.scale}>{metric.format(top)}</span>
        <svg
          viewBox={`0 0 ${VIEW.width} ${VIEW.height}`}
          preserveAspectRatio="none"
          role="img"
          aria-label={`${metric.title}, the last ${Math.round(spanMs / 60_000)} minutes: ${metric.lines.map((line, index) => `${line.title} ${now(index)}`).join(', ')}`}
        >
          {courses.map((course, index) => (
            <path key={metric.lines[index]?.title} data-line={index} d={coursePath(course, { endMs, spanMs }, top)} />
          ))}
        </svg>
        <span className={styles.scale}>{metric.format(0)}</span>
      </figure>
    </Card>
  )
}
