/** Settings, saved as they are changed. */
import { useMutation, useQuery } from '@tanstack/react-query'
import { FolderOpen } from 'lucide-react'
import { Link } from 'wouter'
import { assertNever, type Settings, type SettingsPatch } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { CONTEXT_STEPS, nearestStep } from '../../lib/context-steps.ts'
import { classNames } from '../../lib/class-names.ts'
import { formatInteger } from '../../lib/format.ts'
import { useDelayed } from '../../lib/use-now.ts'
import { useCommandStore } from '../../shell/commands.ts'
import { useFolderPicker } from '../../shell/use-folder-picker.ts'
import { Button } from '../../ui/button.tsx'
import { Select, Slider, Switch } from '../../ui/controls.tsx'
import { Shortcut } from '../../ui/kbd.tsx'
import { LogoMark } from '../../ui/logo.tsx'
import { Card, Facts, Page } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { Segmented } from '../../ui/tabs.tsx'
import { Term } from '../../ui/term.tsx'
import { EVALUATIONS } from '../optimize/plan.ts'
import styles from './settings.module.css'

const SECTIONS = [
  { id: 'general', title: 'General' },
  { id: 'models', title: 'Models' },
  { id: 'evaluation', title: 'Evaluation' },
  { id: 'shortcuts', title: 'Shortcuts' },
  { id: 'privacy', title: 'Privacy' },
  { id: 'about', title: 'About' },
] as const
type SectionId = (typeof SECTIONS)[number]['id']

interface SectionProps {
  readonly settings: Settings
  readonly update: (change: SettingsPatch) => void
}

export function SettingsScreen({ section }: { readonly section: string | undefined }) {
  const { client, queries } = useEngine()
  const settings = useQuery(queries.settings.get.queryOptions())
  const update = useMutation({ mutationFn: (change: SettingsPatch) => client.settings.update(change) })
  const slow = useDelayed(settings.isPending, 150)
  const current = SECTIONS.find((candidate) => candidate.id === section) ?? SECTIONS[0]
  // What was just chosen shows at once; the engine's answer confirms or takes it back.
  const shown =
    settings.data === undefined ? undefined : update.isPending ? Object.assign({}, settings.data, update.variables) : settings.data
  return (
    <Page title="Settings" body="fill">
      <div className={styles.layout}>
        <nav className={styles.sections} aria-label="Settings">
          <ul>
            {SECTIONS.map((candidate) => (
              <li key={candidate.id}>
                <Link
                  href={`/settings/${candidate.id}`}
                  className={classNames(styles.link, candidate === current && styles.current)}
                  aria-current={candidate === current ? 'page' : undefined}
                >
                  {candidate.title}
                </Link>
              </li>
            ))}
          </ul>
        </nav>
        <div className={styles.content}>
          {update.error !== null && <ErrorCard error={update.error} />}
          {shown !== undefined ? (
            <SectionContent id={current.id} settings={shown} update={update.mutate} />
          ) : settings.error !== null ? (
            <ErrorCard error={settings.error} onRetry={() => void settings.refetch()} />
          ) : (
            slow && <SkeletonLines label="Reading the settings" />
          )}
        </div>
      </div>
    </Page>
  )
}

function SectionContent({ id, ...properties }: SectionProps & { readonly id: SectionId }) {
  switch (id) {
    case 'general':
      return <General {...properties} />
    case 'models':
      return <Models {...properties} />
    case 'evaluation':
      return <Evaluation {...properties} />
    case 'shortcuts':
      return <Shortcuts />
    case 'privacy':
      return <Privacy />
    case 'about':
      return <About />
    default:
      return assertNever(id, 'settings section')
  }
}

function General({ settings, update }: SectionProps) {
  const setNotifications = async (on: boolean) => {
    // The browser must agree first; a refusal leaves the setting off.
    if (on && 'Notification' in window && (await Notification.requestPermission()) !== 'granted') return
    update({ notifications: on })
  }
  return (
    <>
      <Card title="Appearance">
        <div className={styles.row}>
          <span className={styles.label}>Theme</span>
          <Segmented
            label="Theme"
            value={settings.theme}
            onChange={(theme) => update({ theme })}
            options={[
              { value: 'system', title: 'System' },
              { value: 'light', title: 'Light' },
              { value: 'dark', title: 'Dark' },
            ]}
          />
        </div>
      </Card>
      <Card title="Notifications">
        <Switch
          label="Tell me when a job ends"
          description="With a system notification, and only while this window is not in front."
          checked={settings.notifications}
          onChange={(on) => void setNotifications(on)}
        />
      </Card>
    </>
  )
}

/** What keeps the adapter from having them, as far as can be told without trying; a load tries. */
function useMatrixUnitsReason(): string | null {
  const { queries } = useEngine()
  const adapter = useQuery(queries.system.hardware.queryOptions()).data?.adapters.find(({ selected }) => selected)
  if (adapter === undefined || adapter.features.subgroupMatrix) return null
  return `${adapter.name} offers none through WebGPU.`
}

function Models({ settings, update }: SectionProps) {
  const noMatrixUnits = useMatrixUnitsReason()
  const pickFolder = useFolderPicker()
  const choose = async () => {
    const variantsFolder = await pickFolder({
      title: 'Where should variants go?',
      confirm: 'Use this folder',
      note: null,
      startPath: settings.variantsFolder,
    })
    if (variantsFolder !== null) update({ variantsFolder })
  }
  return (
    <>
      <Card title="Variants">
        <p className={styles.quiet}>Where Lathe writes compressed models. Originals stay where they are.</p>
        <div className={styles.row}>
          <code className={styles.path}>{settings.variantsFolder ?? 'Inside the studio’s data folder'}</code>
          {settings.variantsFolder !== null && (
            <Button size="small" variant="ghost" onClick={() => update({ variantsFolder: null })}>
              Use the default
            </Button>
          )}
          <Button size="small" icon={FolderOpen} onClick={() => void choose()}>
            Change…
          </Button>
        </div>
      </Card>
      <Card title="Running">
        <div className={styles.stack}>
          <Slider
            label={<Term name="context">Context</Term>}
            value={nearestStep(CONTEXT_STEPS, settings.contextTokens)}
            min={0}
            max={CONTEXT_STEPS.length - 1}
            format={(index) => `${formatInteger(CONTEXT_STEPS[index] ?? 0)} tokens`}
            onChange={(index) => update({ contextTokens: CONTEXT_STEPS[index] ?? settings.contextTokens })}
          />
          <p className={styles.quiet}>Assumed by every fit bar and used for chat, up to the model’s own limit.</p>
          <div className={styles.row}>
            <span className={styles.label}>
              <Term name="kv">KV cache</Term>
            </span>
            <Select
              label="Data type of the KV cache"
              value={settings.kvDtype}
              onChange={(kvDtype) => update({ kvDtype })}
              options={[
                { value: 'auto', title: 'Automatic', hint: 'what the checkpoint names, else 16-bit; measurements use 16-bit' },
                { value: 'f16', title: '16-bit', hint: 'half the memory' },
                { value: 'f32', title: '32-bit', hint: 'exact' },
                { value: 'int8', title: '8-bit integer', hint: 'a quarter, nearly exact' },
                { value: 'fp8', title: '8-bit float', hint: 'a quarter' },
                { value: 'int4', title: '4-bit', hint: 'an eighth, costs accuracy' },
              ]}
            />
          </div>
          <Switch
            label="Read prompts on matrix units"
            description={
              noMatrixUnits === null
                ? 'Tensor cores, for chat and the server: prompts are read several times as fast, but an answer may differ with what shares its steps. Measurements never use them. Checked on the device before the first use.'
                : `Tensor cores for chat and the server. Unavailable: ${noMatrixUnits}`
            }
            checked={settings.matrixUnits}
            // What is on must be possible to switch off.
            disabled={noMatrixUnits !== null && !settings.matrixUnits}
            onChange={(matrixUnits) => update({ matrixUnits })}
          />
        </div>
      </Card>
      <Card title="Device">
        <div className={styles.row}>
          <span className={styles.label}>{settings.adapter === null ? 'Lathe chooses the adapter' : <code>{settings.adapter}</code>}</span>
          <Link href="/hardware">Choose in Hardware</Link>
        </div>
      </Card>
    </>
  )
}

function Evaluation({ settings, update }: SectionProps) {
  return (
    <Card title="Measured after every compression">
      <div className={styles.stack}>
        {EVALUATIONS.map((evaluation) => (
          <Switch
            key={evaluation.id}
            label={evaluation.title}
            description={evaluation.description}
            checked={settings.evaluate[evaluation.id]}
            onChange={(on) => update({ evaluate: { ...settings.evaluate, [evaluation.id]: on } })}
          />
        ))}
      </div>
    </Card>
  )
}

function Shortcuts() {
  const commands = useCommandStore((state) => state.commands)
  return (
    <Card title="Keyboard">
      <ul className={styles.shortcuts}>
        {[...commands.values()]
          .filter((command) => command.shortcut !== undefined)
          .map((command) => (
            <li key={command.id} className={styles.row}>
              <span className={styles.label}>{command.title}</span>
              <Shortcut keys={command.shortcut ?? ''} />
            </li>
          ))}
      </ul>
    </Card>
  )
}

function Privacy() {
  return (
    <Card title="Nothing leaves this computer">
      <div className={styles.prose}>
        <p>Models, prompts, answers and results stay on this disk. There is no account, no telemetry, and no update check.</p>
        <p>
          The only connection is the one between this page and the engine, over the loopback address, with a key that changes at every
          start.
        </p>
        <p>Links in answers are opened only when you click them, and pictures in answers are never loaded.</p>
      </div>
    </Card>
  )
}

function About() {
  const { queries } = useEngine()
  const info = useQuery(queries.system.info.queryOptions())
  return (
    <Card>
      <div className={styles.about}>
        <LogoMark size={40} />
        <div>
          <p className={styles.product}>Lathe</p>
          <p className={styles.quiet}>Makes local language models smaller and faster, and proves it.</p>
        </div>
      </div>
      {info.error !== null ? (
        <ErrorCard error={info.error} onRetry={() => void info.refetch()} />
      ) : info.data === undefined ? (
        <SkeletonLines label="Asking the engine" lines={3} />
      ) : (
        <Facts
          rows={[
            ['Version', info.data.version],
            ['Platform', info.data.platform],
            ['Data folder', <code key="folder">{info.data.dataFolder}</code>],
            ['Licence', 'Apache-2.0'],
          ]}
        />
      )}
    </Card>
  )
}
