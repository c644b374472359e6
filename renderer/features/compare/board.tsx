/** The whole board of one family. */
import { useQuery } from '@tanstack/react-query'
import { Download, FolderX, Gauge, Globe, Pin, ScrollText } from 'lucide-react'
import { DEFAULT_SETTINGS } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { classNames } from '../../lib/class-names.ts'
import { useQueryChoice, useQueryParameter, useQuerySet } from '../../lib/url-state.ts'
import { SoftwareBadge } from '../../ui/badge.tsx'
import { Button, ButtonLink } from '../../ui/button.tsx'
import { Menu } from '../../ui/menu.tsx'
import { Page } from '../../ui/page.tsx'
import { ErrorCard, Notice } from '../../ui/state.tsx'
import { Segmented } from '../../ui/tabs.tsx'
import { Tooltip } from '../../ui/tooltip.tsx'
import { useJobs } from '../jobs/queries.ts'
import { AddEntry } from './add-entry.tsx'
import { BarsSection } from './bars.tsx'
import styles from './compare.module.css'
import { saveFile } from './export.ts'
import { reportHtml, reportJson } from './report/report.ts'
import { useReport } from './report/use-report.ts'
import { useJudgements } from './use-judgements.ts'
import { Glance } from './glance.tsx'
import { Goodput } from './goodput.tsx'
import { ErrorHeatmap } from './heatmap.tsx'
import { Loads } from './loads.tsx'
import { MeasureMore, useLoadExports } from './measure-more.tsx'
import { metricsOf, type Entry } from './metrics.ts'
import { canBeMeasured, isMeasured } from './queries.ts'
import { ResultsTable } from './results-table.tsx'
import { Samples } from './samples.tsx'
import { Scatter } from './scatter.tsx'
import { SeriesMark, entryTitle } from './series.tsx'
import { Tokens } from './tokens.tsx'
import { useMeasure } from './use-measure.ts'
import { Verdicts, type MarginChoice } from './verdicts.tsx'

/** More than this many no longer stand beside the chart without dwarfing it. */
const MOST_BESIDE = 5

interface BoardProps {
  readonly entries: readonly Entry[]
  readonly picker: React.ReactNode
  readonly margin: MarginChoice
  readonly onMargin: (margin: MarginChoice) => void
}

export function Board({ entries, picker, margin, onMargin }: BoardProps) {
  const [hidden, setHidden] = useQuerySet('hide')
  const [baselineId, setBaselineId] = useQueryParameter('baseline')
  const [mode, setMode] = useQueryChoice('show', ['values', 'differences'], 'values')
  const baseline = entries.find((entry) => entry.model.id === baselineId) ?? entries[0]
  if (baseline === undefined) return null
  const shown = entries.filter((entry) => entry === baseline || !hidden.has(entry.model.id))
  const metrics = metricsOf(shown, baseline)
  const source = entries.find((entry) => entry.isSource)
  const software = shown.some((entry) => ['software', 'reference'].includes(entry.result?.provenance['throughput']?.adapterType ?? ''))
  return (
    <Page
      title="Compare"
      actions={
        <>
          {picker}
          <BoardActions entries={shown} baseline={baseline} source={source} margin={margin} />
        </>
      }
    >
      <div className={styles.board}>
        <div className={styles.bar}>
          <ul className={styles.chips} aria-label="Variants">
            {entries.map((entry) => (
              <VariantChip
                key={entry.model.id}
                entry={entry}
                title={entryTitle(entry, source)}
                isBaseline={entry === baseline}
                shown={shown.includes(entry)}
                onToggle={() =>
                  setHidden(hidden.has(entry.model.id) ? [...hidden].filter((id) => id !== entry.model.id) : [...hidden, entry.model.id])
                }
                onPin={() => setBaselineId(entry.isSource ? null : entry.model.id)}
              />
            ))}
            <li>
              <AddEntry sourceId={source?.model.id ?? baseline.model.id} />
            </li>
          </ul>
          <span className={styles.grow} />
          {software && <SoftwareBadge />}
          <Segmented
            label="Show"
            value={mode}
            onChange={setMode}
            options={[
              { value: 'values', title: 'Values' },
              { value: 'differences', title: 'Δ to baseline' },
            ]}
          />
        </div>
        <Unmeasured entries={shown} baseline={baseline} source={source} />
        <div className={styles.top} data-many={shown.length > MOST_BESIDE || undefined}>
          <Scatter entries={shown} baseline={baseline} source={source} metrics={metrics} />
          <Glance entries={shown} baseline={baseline} source={source} />
        </div>
        <Verdicts entries={shown} baseline={baseline} source={source} margin={margin} onMargin={onMargin} />
        <BarsSection entries={shown} baseline={baseline} source={source} metrics={metrics} mode={mode} />
        <ResultsTable entries={shown} baseline={baseline} source={source} metrics={metrics} mode={mode} />
        <Loads entries={shown} source={source} />
        <Goodput entries={shown} source={source} />
        <ErrorHeatmap entries={shown} source={source} />
        <Tokens entries={shown} baseline={baseline} source={source} />
        <Samples entries={shown} baseline={baseline} source={source} />
      </div>
    </Page>
  )
}

interface VariantChipProps {
  readonly entry: Entry
  readonly title: string
  readonly isBaseline: boolean
  readonly shown: boolean
  readonly onToggle: () => void
  readonly onPin: () => void
}

function VariantChip({ entry, title, isBaseline, shown, onToggle, onPin }: VariantChipProps) {
  return (
    <li className={classNames(styles.chip, !shown && styles.off)}>
      <button
        type="button"
        className={styles.chipMain}
        aria-pressed={shown}
        disabled={isBaseline}
        onClick={onToggle}
        title={entry.model.name}
      >
        <SeriesMark series={entry.series} />
        <span className={styles.chipText}>{title}</span>
        <OriginMark model={entry.model} />
      </button>
      <Tooltip text={isBaseline ? 'Everything is compared with this one' : `Compare everything with ${title}`}>
        <button type="button" className={styles.pin} aria-pressed={isBaseline} aria-label={`Use ${title} as the baseline`} onClick={onPin}>
          <Pin size={13} aria-hidden fill={isBaseline ? 'currentColor' : 'none'} />
        </button>
      </Tooltip>
    </li>
  )
}

/** Where a line of the board is from, when it is not a folder that is here. */
function OriginMark({ model }: { readonly model: Entry['model'] }) {
  if (model.origin === 'folder' && model.status !== 'missing') return null
  const [Icon, text] =
    model.origin === 'remote'
      ? ([Globe, 'on a server'] as const)
      : model.origin === 'published'
        ? ([ScrollText, 'published results'] as const)
        : ([FolderX, 'its folder is gone'] as const)
  return (
    <span role="img" aria-label={text} title={model.statusReason?.message} className={styles.origin}>
      <Icon size={12} aria-hidden />
    </span>
  )
}

interface BoardActionsProps {
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
  readonly margin: MarginChoice
}

function BoardActions({ entries, baseline, source, margin }: BoardActionsProps) {
  const { queries } = useEngine()
  const settings = useQuery(queries.settings.get.queryOptions()).data ?? DEFAULT_SETTINGS
  const evaluate = useMeasure()
  const loadExports = useLoadExports(entries)
  const name = (source ?? baseline).model.name
  const others = entries.filter((entry) => entry !== baseline)
  const judgements = useJudgements(others, baseline, Number(margin))
  const make = useReport({ name, entries, baseline, source, judgements })
  return (
    <>
      <Button
        icon={Gauge}
        busy={evaluate.isPending}
        onClick={() => evaluate.mutate({ entries, source, baseline, evaluate: settings.evaluate })}
      >
        Measure again
      </Button>
      <MeasureMore entries={entries} />
      <Menu
        label="Export"
        trigger={<Button icon={Download}>Export</Button>}
        actions={[
          {
            title: 'Report as a web page',
            hint: '.html',
            onSelect: () => void make((input) => saveFile(`${name} comparison.html`, 'text/html', reportHtml(input))),
          },
          {
            title: 'Report as data',
            hint: '.json',
            onSelect: () => void make((input) => saveFile(`${name} comparison.json`, 'application/json', reportJson(input))),
          },
          ...loadExports,
        ]}
      />
    </>
  )
}

/** Says which of the shown models have nothing to compare yet, and what is being done about it. */
function Unmeasured({ entries, baseline, source }: Pick<BoardActionsProps, 'entries' | 'baseline' | 'source'>) {
  const evaluate = useMeasure()
  const { running, queued } = useJobs()
  const missing = entries.filter((entry) => !isMeasured(entry) && canBeMeasured(entry))
  const underWay = [...running, ...queued].filter((job) =>
    entries.some((entry) => entry.model.id === job.modelId || entry.model.id === job.variantId),
  )
  if (evaluate.error !== null) return <ErrorCard error={evaluate.error} />
  if (underWay.length > 0) {
    return (
      <Notice
        tone="info"
        title={`${underWay[0]?.title ?? 'A job'} is ${running.length > 0 ? 'running' : 'queued'}`}
        actions={
          <ButtonLink size="small" href="/jobs">
            Show the jobs
          </ButtonLink>
        }
      >
        The board fills in as results arrive.
      </Notice>
    )
  }
  if (missing.length === 0) return null
  return (
    <Notice
      tone="info"
      title={
        missing.length === entries.length
          ? 'Nothing has been measured yet'
          : `Not measured yet: ${missing.map((entry) => entryTitle(entry, source)).join(', ')}`
      }
      actions={
        <Button
          size="small"
          variant="primary"
          busy={evaluate.isPending}
          onClick={() =>
            evaluate.mutate({
              entries: missing,
              source,
              baseline,
              evaluate: { perplexity: true, tasks: true, throughput: true },
            })
          }
        >
          Measure {missing.length === 1 ? 'it' : 'them'}
        </Button>
      }
    >
      Until then only sizes and layer errors can be compared.
    </Notice>
  )
}
