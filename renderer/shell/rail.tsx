/** The rail: the four things one does with a model, and below them what is running, on what, and the settings. */
import { useQuery } from '@tanstack/react-query'
import {
  Activity,
  Box,
  ChartLine,
  Cpu,
  GitCompareArrows,
  ListChecks,
  MessageSquare,
  Ruler,
  Search,
  Server,
  Settings,
  SlidersHorizontal,
  type LucideIcon,
} from 'lucide-react'
import { Link, useRoute } from 'wouter'
import type { DesktopCommand } from '../../engine/contract/index.ts'
import { useEngine } from '../data/engine.tsx'
import { overallProgress, useJobs } from '../features/jobs/queries.ts'
import { classNames } from '../lib/class-names.ts'
import { formatBytes } from '../lib/format.ts'
import { StatusDot } from '../ui/badge.tsx'
import { Shortcut } from '../ui/kbd.tsx'
import { Wordmark } from '../ui/logo.tsx'
import { ProgressRing } from '../ui/progress.tsx'
import styles from './rail.module.css'
import { useViewStore } from './view-store.ts'

export const PLACES = [
  { title: 'Models', href: '/models', icon: Box, shortcut: '$mod+1', menuCommand: 'go-models' },
  { title: 'Optimize', href: '/optimize', icon: SlidersHorizontal, shortcut: '$mod+2', menuCommand: 'go-optimize' },
  { title: 'Compare', href: '/compare', icon: GitCompareArrows, shortcut: '$mod+3', menuCommand: 'go-compare' },
  { title: 'Chat', href: '/chat', icon: MessageSquare, shortcut: '$mod+4', menuCommand: 'go-chat' },
] as const satisfies readonly { title: string; href: string; icon: LucideIcon; shortcut: string; menuCommand: DesktopCommand }[]

export function Rail() {
  const openPalette = useViewStore((state) => state.setPaletteOpen)
  return (
    <nav className={styles.rail} aria-label="Main">
      <Link href="/models" className={styles.brand} aria-label="Lathe, to the models">
        <Wordmark />
      </Link>
      <button type="button" className={styles.search} onClick={() => openPalette(true)}>
        <Search size={14} aria-hidden />
        <span className={styles.label}>Search</span>
        <span className={styles.keys}>
          <Shortcut keys="$mod+K" />
        </span>
      </button>
      <ul className={styles.places}>
        {PLACES.map((place) => (
          <li key={place.href}>
            <RailLink {...place} />
          </li>
        ))}
        <li>
          <RailLink title="Capacity" href="/capacity" icon={Ruler} />
        </li>
        <li>
          <RailLink title="Monitor" href="/monitor" icon={ChartLine} />
        </li>
        <li>
          <RailLink title="Server" href="/server" icon={Server} />
        </li>
      </ul>
      <ul className={styles.bottom}>
        <li>
          <JobsLink />
        </li>
        <li>
          <HardwareLink />
        </li>
        <li>
          <RailLink title="Settings" href="/settings" icon={Settings} />
        </li>
      </ul>
    </nav>
  )
}

function RailLink({
  title,
  href,
  icon: Icon,
  extra,
  caption,
  short,
}: {
  readonly title: string
  readonly href: string
  readonly icon: LucideIcon
  readonly extra?: React.ReactNode
  readonly caption?: React.ReactNode
  /** Stands for the title where the rail is narrow. */
  readonly short?: string
}) {
  const [active] = useRoute(`${href}/*?`)
  return (
    <Link href={href} className={classNames(styles.link, active && styles.active)} aria-current={active ? 'page' : undefined}>
      <Icon size={16} strokeWidth={1.9} aria-hidden />
      <span className={styles.label}>
        <span className={short === undefined ? undefined : styles.wideOnly}>{title}</span>
        {short !== undefined && <span className={styles.narrowOnly}>{short}</span>}
        {caption !== undefined && <span className={styles.caption}>{caption}</span>}
      </span>
      {extra}
    </Link>
  )
}

function JobsLink() {
  const { running, queued } = useJobs()
  const count = running.length + queued.length
  return (
    <RailLink
      title="Jobs"
      href="/jobs"
      icon={ListChecks}
      extra={
        count > 0 && (
          <span className={styles.extra}>
            <ProgressRing value={overallProgress([...running, ...queued])} />
            <span className="numeric">{count}</span>
            <span className="visually-hidden">active</span>
          </span>
        )
      }
    />
  )
}

function HardwareLink() {
  const { queries } = useEngine()
  const hardware = useQuery(queries.system.hardware.queryOptions())
  const adapter = hardware.data?.adapters.find((candidate) => candidate.selected)
  if (hardware.data === undefined) return <RailLink title="Hardware" href="/hardware" icon={Cpu} />
  if (adapter === undefined) {
    return (
      <RailLink
        title="Hardware"
        href="/hardware"
        icon={Cpu}
        caption="No graphics adapter"
        extra={<StatusDot tone="danger" label="No usable adapter" />}
      />
    )
  }
  const software = adapter.type === 'software' || adapter.type === 'reference'
  const budget = hardware.data.gpuBudgetBytes
  return (
    <RailLink
      title={adapter.name}
      short="Hardware"
      href="/hardware"
      icon={software ? Cpu : Activity}
      caption={
        <>
          {formatBytes(hardware.data.gpuBytesInUse, 'memory')}
          {budget !== null && ` of ${formatBytes(budget, 'memory')}`}
        </>
      }
      extra={<StatusDot tone={software ? 'warning' : 'positive'} label={software ? 'Software adapter' : 'Ready'} />}
    />
  )
}
