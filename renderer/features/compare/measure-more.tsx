/** What the user brings to a board: task files, lists for the probes, and a load; and the loads that were measured, in other tools' files. */
import { useMutation } from '@tanstack/react-query'
import { Gauge, ListChecks } from 'lucide-react'
import { useState } from 'react'
import type { BenchmarkExportFormat, Job, LoadProfile } from '../../../engine/contract/index.ts'
import { SERVICE_LEVELS } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { plural } from '../../lib/format.ts'
import { useViewStore } from '../../shell/view-store.ts'
import { Button } from '../../ui/button.tsx'
import { Field, Select, Switch, TextArea, TextInput } from '../../ui/controls.tsx'
import { useHost } from '../../ui/host-context.tsx'
import { Menu, type MenuAction } from '../../ui/menu.tsx'
import { showToast } from '../../ui/toast.tsx'
import { saveFile } from './export.ts'
import { FormDialog } from './form-dialog.tsx'
import type { Entry } from './metrics.ts'
import { canBeMeasured } from './queries.ts'

export function MeasureMore({ entries }: { readonly entries: readonly Entry[] }) {
  const [open, setOpen] = useState<'tasks' | 'load' | null>(null)
  const close = () => setOpen(null)
  return (
    <>
      <Menu
        label="Measure more"
        trigger={<Button icon={Gauge}>Measure more</Button>}
        actions={[
          { title: 'Tasks and lists of your own…', icon: ListChecks, onSelect: () => setOpen('tasks') },
          { title: 'Many requests at once…', icon: Gauge, onSelect: () => setOpen('load') },
        ]}
      />
      {open === 'tasks' && <TasksDialog entries={entries} onClose={close} />}
      {open === 'load' && <LoadDialog entries={entries} onClose={close} />}
    </>
  )
}

interface MeasureDialogProps {
  readonly entries: readonly Entry[]
  readonly onClose: () => void
}

/** Who can answer; the original is asked along with each of the others. */
function askable(entries: readonly Entry[]): readonly string[] {
  const able = entries.filter(canBeMeasured)
  const others = able.filter((entry) => !entry.isSource)
  return (others.length > 0 ? others : able).map((entry) => entry.model.id)
}

interface MeasureFormProps {
  readonly title: string
  readonly description: string
  readonly ready: boolean
  readonly start: () => Promise<readonly Job[]>
  readonly onClose: () => void
  readonly children: React.ReactNode
}

function MeasureForm({ start, ...form }: MeasureFormProps) {
  const setJobsTrayOpen = useViewStore((state) => state.setJobsTrayOpen)
  const onDone = (jobs: readonly Job[]) => {
    setJobsTrayOpen(true)
    showToast({ title: `${plural(jobs.length, 'measurement')} queued` })
  }
  return <FormDialog {...form} action="Measure" submit={start} onDone={onDone} />
}

function linesOf(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
}

interface PathsProps {
  readonly label: string
  readonly description: string
  readonly accept: string
  readonly value: string
  readonly onChange: (value: string) => void
}

/** Paths as the engine sees them, one a line. */
function Paths({ label, description, accept, value, onChange }: PathsProps) {
  const { pickFile } = useHost()
  const add = (picked: string | null) => picked !== null && onChange([...linesOf(value), picked].join('\n'))
  return (
    <>
      <Field label={label} description={description}>
        {(control) => <TextArea {...control} rows={2} value={value} onChange={(event) => onChange(event.target.value)} />}
      </Field>
      {pickFile !== null && (
        <Button size="small" onClick={() => void pickFile(accept).then(add)}>
          Choose a file…
        </Button>
      )}
    </>
  )
}

interface NumberFieldProps {
  readonly label: string
  readonly value: string
  readonly onChange: (value: string) => void
  readonly description?: string
}

function NumberField({ label, value, onChange, description }: NumberFieldProps) {
  return (
    <Field label={label} description={description}>
      {(control) => <TextInput {...control} inputMode="numeric" value={value} onChange={(event) => onChange(event.target.value)} />}
    </Field>
  )
}

/** A number that may be left empty. */
function wholeNumber(text: string): number | null {
  return /^[1-9]\d*$/.test(text.trim()) ? Number(text) : null
}

function TasksDialog({ entries, onClose }: MeasureDialogProps) {
  const { client } = useEngine()
  const [tasks, setTasks] = useState('')
  const [lists, setLists] = useState('')
  const [robustness, setRobustness] = useState(false)
  const [chatTemplate, setChatTemplate] = useState(false)
  const [limit, setLimit] = useState('')
  const start = () =>
    client.results.evaluateTasks({
      modelIds: [...askable(entries)],
      options: {
        tasks: linesOf(tasks),
        probes: robustness ? ['robustness'] : [],
        probeFiles: linesOf(lists),
        limit: wholeNumber(limit),
        chatTemplate,
      },
    })
  return (
    <MeasureForm
      title="Measure tasks and lists of your own"
      description="Every model on the board answers, and the original with it. Files are read by the engine, by their paths."
      ready={robustness || linesOf(tasks).length + linesOf(lists).length > 0}
      start={start}
      onClose={onClose}
    >
      <Paths
        label="Task files"
        description="lm-eval’s YAML, or JSON lines with {question, choices, answer} or {prompt, response}; one path a line."
        accept=".yaml,.yml,.jsonl"
        value={tasks}
        onChange={setTasks}
      />
      <Paths
        label="Lists for fairness and refusal"
        description="BBQ, CrowS-Pairs or {a, b, group}; {prompt, label: safe or unsafe}. What each is for is told by its fields."
        accept=".jsonl,.csv,.parquet"
        value={lists}
        onChange={setLists}
      />
      <Switch
        label="In other words too"
        description="The tasks again with typing mistakes, other case, spaces, look-alike letters, and choices in another order."
        checked={robustness}
        onChange={setRobustness}
      />
      <Switch label="Through the chat template" checked={chatTemplate} onChange={setChatTemplate} />
      <NumberField label="Items of each" value={limit} onChange={setLimit} description="Empty for all." />
    </MeasureForm>
  )
}

const PROFILES: readonly { readonly value: LoadProfile; readonly title: string }[] = [
  { value: 'synchronous', title: 'One after the other' },
  { value: 'concurrent', title: 'So many at once' },
  { value: 'throughput', title: 'As many as it takes' },
  { value: 'constant', title: 'At a constant rate' },
  { value: 'poisson', title: 'At a rate, by chance (Poisson)' },
  { value: 'sweep', title: 'The whole curve (sweep)' },
  { value: 'trace', title: 'As recorded in a file' },
]

function numbersOf(text: string): number[] {
  return text
    .split(',')
    .map(Number)
    .filter((value) => Number.isFinite(value) && value > 0)
}

function LoadDialog({ entries, onClose }: MeasureDialogProps) {
  const { client } = useEngine()
  const [profile, setProfile] = useState<LoadProfile>('concurrent')
  const [steps, setSteps] = useState('1, 4')
  const [requests, setRequests] = useState('32')
  const [prompt, setPrompt] = useState('256')
  const [output, setOutput] = useState('64')
  const [prefix, setPrefix] = useState('0')
  const [level, setLevel] = useState('none')
  const [trace, setTrace] = useState('')
  const hasRate = profile === 'constant' || profile === 'poisson'
  const hasSteps = hasRate || profile === 'concurrent'
  const lengths = [requests, prompt, output].map(wholeNumber)
  const [count, promptTokens, outputTokens] = lengths
  const ready =
    profile === 'trace' ? trace.trim() !== '' : lengths.every((value) => value !== null) && (!hasSteps || numbersOf(steps).length > 0)
  const start = () =>
    Promise.all(
      entries.filter(canBeMeasured).map((entry) =>
        client.benchmarks.start({
          modelId: entry.model.id,
          profile,
          ...(hasRate ? { rates: numbersOf(steps) } : {}),
          ...(profile === 'concurrent' ? { concurrency: numbersOf(steps).map(Math.round) } : {}),
          requests: count ?? undefined,
          promptTokens: promptTokens ?? undefined,
          outputTokens: outputTokens ?? undefined,
          sharedPrefixTokens: wholeNumber(prefix) ?? 0,
          level: SERVICE_LEVELS.find(({ name }) => name === level) ?? null,
          traceFile: profile === 'trace' ? trace.trim() : null,
        }),
      ),
    )
  return (
    <MeasureForm
      title="Measure many requests at once"
      description="Each model on the board in turn; latencies count from the moment a request was due, so that a stalled server can’t hide."
      ready={ready}
      start={start}
      onClose={onClose}
    >
      <Field label="Requests come">
        {(control) => <Select id={control.id} label="Requests come" value={profile} onChange={setProfile} options={PROFILES} />}
      </Field>
      {hasSteps && (
        <NumberField
          label={hasRate ? 'Requests per second' : 'At once'}
          value={steps}
          onChange={setSteps}
          description="Several with commas between: a run each."
        />
      )}
      {profile === 'trace' ? (
        <Paths
          label="Recorded arrivals"
          description="JSON lines with timestamp (ms), input_length and output_length."
          accept=".jsonl"
          value={trace}
          onChange={setTrace}
        />
      ) : (
        <>
          <NumberField label="Requests of a run" value={requests} onChange={setRequests} />
          <NumberField label="Tokens of a prompt" value={prompt} onChange={setPrompt} />
          <NumberField label="Tokens of an answer" value={output} onChange={setOutput} />
          <NumberField
            label="Tokens that all prompts begin with"
            value={prefix}
            onChange={setPrefix}
            description="0 keeps the prefix cache out of it."
          />
        </>
      )}
      <Field label="Service level" description="Counts the requests that meet it: goodput.">
        {(control) => (
          <Select
            id={control.id}
            label="Service level"
            value={level}
            onChange={setLevel}
            options={[{ value: 'none', title: 'None' }, ...SERVICE_LEVELS.map(({ name }) => ({ value: name, title: name }))]}
          />
        )}
      </Field>
    </MeasureForm>
  )
}

const FORMATS: readonly { readonly format: BenchmarkExportFormat; readonly title: string; readonly hint: string; readonly type: string }[] =
  [
    { format: 'csv', title: 'Loads as a table', hint: '.csv', type: 'text/csv' },
    { format: 'guidellm', title: 'Loads as GuideLLM has them', hint: '.json', type: 'application/json' },
    { format: 'guidellm-csv', title: 'Loads as GuideLLM’s table', hint: '.csv', type: 'text/csv' },
    { format: 'vllm', title: 'Loads as vLLM bench has them', hint: '.jsonl', type: 'application/jsonl' },
    { format: 'raw', title: 'Loads, every time stamp', hint: '.json', type: 'application/json' },
  ]

/** A file for each model with a measured load, under each tool's own names and definitions. */
export function useLoadExports(entries: readonly Entry[]): readonly MenuAction[] {
  const { client } = useEngine()
  const measured = entries.filter((entry) => typeof entry.result?.served?.rawFile === 'string')
  const saving = useMutation({
    mutationFn: async ({ format, type }: (typeof FORMATS)[number]) => {
      for (const { model } of measured) {
        const { fileName, text } = await client.benchmarks.export({ modelId: model.id, format })
        saveFile(`${model.name} ${fileName}`, type, text)
      }
    },
    onError: (error) => showToast({ type: 'error', title: error.message }),
  })
  return measured.length === 0
    ? []
    : FORMATS.map((format, index) => ({
        title: format.title,
        hint: format.hint,
        separated: index === 0,
        onSelect: () => saving.mutate(format),
      }))
}
