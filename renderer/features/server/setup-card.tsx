/** How the server is set up: which models, with how much room, where it listens, who may ask. Checked here, so that Start does what it says. */
import { useQuery } from '@tanstack/react-query'
import { Plus, RefreshCw, Trash2 } from 'lucide-react'
import { useEffect, useRef, useState, type ReactNode } from 'react'
import { DEFAULT_SETTINGS, type ModelSummary, type ServerConfig } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { Button, IconButton } from '../../ui/button.tsx'
import { Field, Select, TextInput } from '../../ui/controls.tsx'
import { Card } from '../../ui/page.tsx'
import { Notice } from '../../ui/state.tsx'
import { defaultModel } from '../chat/conversation.ts'
import { ModelPicker } from '../models/model-picker.tsx'
import { useModels } from '../models/queries.ts'
import { RoomFields, type Room } from './room-fields.tsx'
import styles from './server.module.css'

/** vLLM's port, which clients' examples assume. */
const DEFAULT_PORT = 8000
const DEFAULT_IDLE_MINUTES = 15
const KEY_BYTES = 24

const NO_MODELS: readonly ModelSummary[] = []

type Reach = 'this' | 'network'

export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(KEY_BYTES))
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
}

interface SetupCardProps {
  readonly config: ServerConfig | null
  /** End of the key that is kept; null = there is none yet. */
  readonly keyHint: string | null
  /** Another port than the configured one, after that was found taken. */
  readonly port: number | null
  readonly starting: boolean
  readonly onStart: (config: ServerConfig) => void
  readonly onCancel: () => void
  /** What came of the last press of Start: it belongs where the button is. */
  readonly children: ReactNode
}

export function SetupCard({ config, keyHint, port: otherPort, starting, onStart, onCancel, children }: SetupCardProps) {
  const { queries } = useEngine()
  const settings = useQuery(queries.settings.get.queryOptions()).data ?? DEFAULT_SETTINGS
  const models = useModels().data ?? NO_MODELS
  const [chosenIds, setModelIds] = useState<readonly (string | null)[] | null>(config === null ? null : config.modelIds)
  // Whoever has chosen nothing yet most likely serves what they chat with.
  const modelIds = chosenIds ?? [defaultModel(models)?.id ?? null]
  const [portText, setPortText] = useState(String(otherPort ?? config?.port ?? DEFAULT_PORT))
  const [reach, setReach] = useState<Reach>(config === null || config.host === '127.0.0.1' ? 'this' : 'network')
  const [apiKey, setApiKey] = useState(() => (keyHint === null ? newKey() : ''))
  const [room, setRoom] = useState<Room>(() => ({
    contextTokens: config?.contextTokens ?? null,
    parallel: config?.parallel ?? null,
    kvDtype: config?.kvDtype ?? null,
    speculation: config?.speculation ?? { kind: 'off' },
  }))
  const [overlong, setOverlong] = useState(config?.overlong ?? 'reject')
  const [origins, setOrigins] = useState(config?.corsOrigins.join(' ') ?? '')
  const [idle, setIdle] = useState(String(config === null ? DEFAULT_IDLE_MINUTES : (config.idleUnloadMinutes ?? 'never')))
  const [asked, setAsked] = useState(0)
  const form = useRef<HTMLFormElement>(null)
  // What is wrong may be out of sight from where the button is.
  useEffect(() => {
    if (asked === 0) return
    const wrong = form.current?.querySelector<HTMLElement>('[aria-invalid="true"], [role="alert"]')
    wrong?.focus()
    wrong?.scrollIntoView?.({ block: 'nearest' })
  }, [asked])
  const chosen = modelIds.filter((id) => id !== null)
  const port = Number(portText)
  const problems = {
    model: chosen.length === 0 ? 'Choose a model to serve.' : null,
    port: /^\d{1,5}$/.test(portText) && port <= 65_535 ? null : 'A number from 0 to 65535; 0 is any free one.',
    key:
      (apiKey === '' && keyHint !== null) || (apiKey.length >= 8 && !/\s/.test(apiKey))
        ? null
        : 'At least eight characters, without spaces.',
    origins: origins.split(/\s+/).every((origin) => origin === '' || isOrigin(origin))
      ? null
      : 'Addresses such as https://app.example, apart by spaces.',
  }
  const submit = (): void => {
    setAsked((times) => times + 1)
    if (Object.values(problems).some((problem) => problem !== null)) return
    onStart({
      modelIds: [...new Set(chosen)],
      host: reach === 'this' ? '127.0.0.1' : '0.0.0.0',
      port,
      apiKey: apiKey === '' ? null : apiKey,
      corsOrigins: origins.split(/\s+/).filter((origin) => origin !== ''),
      idleUnloadMinutes: idle === 'never' ? null : Number(idle),
      ...room,
      overlong,
    })
  }
  const error = (problem: string | null) => (asked > 0 && problem !== null ? { error: problem } : {})
  return (
    <Card title="Set up">
      <form
        ref={form}
        className={styles.setup}
        onSubmit={(event) => {
          event.preventDefault()
          submit()
        }}
      >
        <fieldset className={styles.models} disabled={starting}>
          <legend className={styles.legend}>Models</legend>
          {modelIds.map((modelId, index) => (
            <div key={index} className={styles.model}>
              <ModelPicker
                label={index === 0 ? 'Model to serve' : `Model ${index + 1}`}
                modelId={modelId}
                onChange={(next) => setModelIds(modelIds.with(index, next))}
              />
              {modelIds.length > 1 && (
                <IconButton
                  label={`Leave out model ${index + 1}`}
                  icon={Trash2}
                  onClick={() => setModelIds(modelIds.toSpliced(index, 1))}
                />
              )}
            </div>
          ))}
          {asked > 0 && problems.model !== null && (
            <p role="alert" className={styles.problem}>
              {problems.model}
            </p>
          )}
          <p className={styles.quiet}>The first is loaded at once and stays. Others are loaded when a client names them.</p>
          <Button size="small" variant="ghost" icon={Plus} onClick={() => setModelIds([...modelIds, null])}>
            Another model
          </Button>
        </fieldset>
        <RoomFields
          model={models.find((model) => model.id === chosen[0]) ?? null}
          models={models}
          settings={settings}
          room={room}
          onChange={setRoom}
        />
        <div className={styles.fields}>
          <Field label="Port" {...error(problems.port)}>
            {(control) => (
              <TextInput {...control} inputMode="numeric" value={portText} onChange={(event) => setPortText(event.target.value)} />
            )}
          </Field>
          <Field label="Reachable from">
            {(control) => (
              <Select
                id={control.id}
                label="Reachable from"
                value={reach}
                onChange={setReach}
                options={[
                  { value: 'this', title: 'This computer only' },
                  { value: 'network', title: 'The whole network' },
                ]}
              />
            )}
          </Field>
          <Field label="Unload idle models after">
            {(control) => (
              <Select
                id={control.id}
                label="Unload idle models after"
                value={idle}
                onChange={setIdle}
                options={['5', '15', '60', 'never'].map((value) => ({ value, title: value === 'never' ? 'Never' : `${value} minutes` }))}
              />
            )}
          </Field>
        </div>
        <Field
          label="API key"
          description={
            keyHint === null
              ? 'Clients send it as a bearer token. It is kept in a file that only you can read.'
              : `Empty keeps the key that ends in ${keyHint}. Clients send it as a bearer token.`
          }
          {...error(problems.key)}
        >
          {(control) => (
            <span className={styles.keyRow}>
              <TextInput
                {...control}
                type="password"
                autoComplete="off"
                placeholder={keyHint === null ? undefined : `•••••••• ${keyHint}`}
                value={apiKey}
                onChange={(event) => setApiKey(event.target.value)}
              />
              <Button icon={RefreshCw} onClick={() => setApiKey(newKey())}>
                New key
              </Button>
            </span>
          )}
        </Field>
        <Field label="When a client asks for more tokens than fit">
          {(control) => (
            <Select
              id={control.id}
              label="When a client asks for more tokens than fit"
              value={overlong}
              onChange={setOverlong}
              options={[
                { value: 'reject', title: 'Refuse, with the numbers (as vLLM)' },
                { value: 'clamp', title: 'Answer with what fits' },
              ]}
            />
          )}
        </Field>
        <Field label="Web pages that may call it (CORS)" description="None unless you name them." {...error(problems.origins)}>
          {(control) => (
            <TextInput
              {...control}
              value={origins}
              placeholder="https://app.example"
              onChange={(event) => setOrigins(event.target.value)}
            />
          )}
        </Field>
        {reach === 'network' && (
          <Notice tone="warning" title="Everyone on this network can reach it">
            Requests are not encrypted. The key is the only thing between them and your models.
          </Notice>
        )}
        {children}
        <div className={styles.bar}>
          <Button type="submit" variant="primary" busy={starting}>
            {starting ? 'Starting' : 'Start server'}
          </Button>
          {starting && <Button onClick={onCancel}>Stop starting</Button>}
        </div>
      </form>
    </Card>
  )
}

function isOrigin(text: string): boolean {
  return URL.canParse(text) && new URL(text).origin === text
}
