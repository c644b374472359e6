/** System prompt and sampling of one chat, each with what it does in plain words, and whether the model fits. */
import { RotateCcw } from 'lucide-react'
import { useState, type ReactNode } from 'react'
import { useMutation, useQuery } from '@tanstack/react-query'
import type { LoadedModel, ModelSummary, Sampling } from '../../../../engine/contract/index.ts'
import { useEngine } from '../../../data/engine.tsx'
import { formatBytes, formatSignificant } from '../../../lib/format.ts'
import { Button } from '../../../ui/button.tsx'
import { Field, Select, Slider, TextArea, TextInput } from '../../../ui/controls.tsx'
import { Drawer } from '../../../ui/dialog.tsx'
import { FitBar } from '../../../ui/fit-bar.tsx'
import { ErrorCard } from '../../../ui/state.tsx'
import { useFit } from '../../models/queries.ts'
import { ServingFit } from '../../models/serving-fit.tsx'
import type { Parameters } from '../chat-store.ts'
import styles from '../chat.module.css'
import { DEFAULT_SAMPLING, formatStops, isDefaultSampling, parseOptionalInteger, parseStops, temperatureText } from '../sampling.ts'

interface ParametersDrawerProps {
  readonly title?: string
  /** Above everything else: what the settings are for. */
  readonly lead?: ReactNode
  readonly model: ModelSummary | null
  readonly loaded: LoadedModel | undefined
  readonly parameters: Parameters
  readonly lastSeed: number | null
  readonly onChange: (parameters: Parameters) => void
  readonly onClose: () => void
}

export function ParametersDrawer({
  title = 'Chat settings',
  lead,
  model,
  loaded,
  parameters,
  lastSeed,
  onChange,
  onClose,
}: ParametersDrawerProps) {
  const { sampling } = parameters
  // Fields that hold their own text start over when a reset replaces what they stand for.
  const [resets, setResets] = useState(0)
  const set = (change: Partial<Sampling>) => onChange({ ...parameters, sampling: { ...sampling, ...change } })
  return (
    <Drawer title={title} onClose={onClose}>
      <div className={styles.settings}>
        {lead}
        {model !== null && <ModelFit model={model} loaded={loaded} />}
        <Field
          label="System prompt"
          description="Said to the model before everything else: who it is and how to answer. Empty leaves it to the model’s own template."
        >
          {(control) => (
            <TextArea
              {...control}
              rows={4}
              placeholder="You are a helpful assistant."
              value={parameters.systemPrompt}
              onChange={(event) => onChange({ ...parameters, systemPrompt: event.target.value })}
            />
          )}
        </Field>
        <div className={styles.settingsHead}>
          <h3>Sampling</h3>
          <Button
            size="small"
            variant="ghost"
            icon={RotateCcw}
            disabled={isDefaultSampling(sampling)}
            onClick={() => {
              onChange({ ...parameters, sampling: DEFAULT_SAMPLING })
              setResets(resets + 1)
            }}
          >
            Reset
          </Button>
        </div>
        <Setting hint={`Higher is more surprising, 0 always takes the likeliest token. Now: ${temperatureText(sampling.temperature)}.`}>
          <Slider
            label="Temperature"
            value={sampling.temperature}
            min={0}
            max={2}
            step={0.05}
            format={(value) => value.toFixed(2)}
            onChange={(temperature) => set({ temperature: Number(temperature.toFixed(2)) })}
          />
        </Setting>
        <Setting hint="Only the k likeliest tokens are considered. 0 is off.">
          <Slider
            label="Top-k"
            value={sampling.topK}
            min={0}
            max={200}
            format={(value) => (value === 0 ? 'off' : String(value))}
            onChange={(topK) => set({ topK })}
          />
        </Setting>
        <Setting hint="The likeliest tokens until their probabilities add up to p. 1 is off.">
          <Slider
            label="Top-p"
            value={sampling.topP}
            min={0.05}
            max={1}
            step={0.01}
            format={(value) => (value === 1 ? 'off' : value.toFixed(2))}
            onChange={(topP) => set({ topP: Number(topP.toFixed(2)) })}
          />
        </Setting>
        <Setting hint="Drops tokens less likely than this share of the likeliest one. 0 is off.">
          <Slider
            label="Min-p"
            value={sampling.minP}
            min={0}
            max={1}
            step={0.01}
            format={(value) => (value === 0 ? 'off' : formatSignificant(value, 2))}
            onChange={(minP) => set({ minP: Number(minP.toFixed(2)) })}
          />
        </Setting>
        <IntegerField
          key={`seed ${resets}`}
          label="Seed"
          least={0}
          placeholder="random"
          hint="The same seed, prompt and settings give the same answer. Empty draws a new one each time."
          value={sampling.seed}
          onChange={(seed) => set({ seed })}
          suggestion={lastSeed === null ? null : { title: `Use ${lastSeed} of the last answer`, value: lastSeed }}
        />
        <IntegerField
          key={`tokens ${resets}`}
          label="Max tokens"
          least={1}
          placeholder="no limit"
          hint="The answer ends after this many tokens. Empty lets it go on to the end of the context."
          value={sampling.maxTokens}
          onChange={(maxTokens) => set({ maxTokens })}
        />
        <StopField key={`stop ${resets}`} stops={sampling.stop} onChange={(stop) => set({ stop })} />
        <Field
          label="When the context is full"
          description="The chat keeps every message; this is about what the model is shown. What was left out is said with the answer."
        >
          {(control) => (
            <Select
              id={control.id}
              label="When the context is full"
              value={sampling.overflow ?? 'stop'}
              onChange={(overflow) => set({ overflow: overflow === 'stop' ? undefined : overflow })}
              options={[
                { value: 'stop', title: 'Stop and say so' },
                { value: 'drop-oldest', title: 'Leave out the oldest turns' },
                { value: 'drop-middle', title: 'Keep the first turn, leave out the next' },
              ]}
            />
          )}
        </Field>
      </div>
    </Drawer>
  )
}

function Setting({ hint, children }: { readonly hint: string; readonly children: ReactNode }) {
  return (
    <div className={styles.setting}>
      {children}
      <p className={styles.hint}>{hint}</p>
    </div>
  )
}

function ModelFit({ model, loaded }: { readonly model: ModelSummary; readonly loaded: LoadedModel | undefined }) {
  const { client, queries } = useEngine()
  const fit = useFit()(model)
  const settings = useQuery(queries.settings.get.queryOptions()).data
  const unload = useMutation({ mutationFn: () => client.runtime.unload({ modelId: model.id }) })
  const context = useMutation({ mutationFn: (contextTokens: number) => client.settings.update({ contextTokens }) })
  return (
    <section className={styles.setting} aria-label="Memory of the model">
      <div className={styles.settingsHead}>
        <h3>Memory</h3>
        {loaded !== undefined && (
          <Button size="small" disabled={loaded.busy} busy={unload.isPending} onClick={() => unload.mutate()}>
            {loaded.busy ? 'In use' : 'Unload'}
          </Button>
        )}
      </div>
      {settings === undefined ? (
        fit !== null && <FitBar fit={fit} detail="full" />
      ) : (
        <ServingFit
          model={model}
          contextTokens={Math.min(settings.contextTokens, model.architecture.contextLength ?? settings.contextTokens)}
          parallel={null}
          kvDtype={settings.kvDtype}
          onContext={(contextTokens) => context.mutate(contextTokens)}
          onParallel={null}
        />
      )}
      <p className={styles.hint}>
        {loaded === undefined
          ? 'Not in memory. It is loaded with the first message.'
          : `In memory with ${formatBytes(loaded.weightBytes + loaded.kvBytes + loaded.otherBytes, 'memory')}: answers start at once.`}
      </p>
      {unload.error !== null && <ErrorCard error={unload.error} />}
      {context.error !== null && <ErrorCard error={context.error} />}
    </section>
  )
}

interface IntegerFieldProps {
  readonly label: string
  readonly hint: string
  readonly placeholder: string
  readonly least: number
  readonly value: number | null
  readonly onChange: (value: number | null) => void
  readonly suggestion?: { readonly title: string; readonly value: number } | null
}

function IntegerField({ label, hint, placeholder, least, value, onChange, suggestion = null }: IntegerFieldProps) {
  const [text, setText] = useState(value === null ? '' : String(value))
  const wrong = parseOptionalInteger(text, least) === undefined
  const change = (next: string) => {
    setText(next)
    const parsed = parseOptionalInteger(next, least)
    if (parsed !== undefined) onChange(parsed)
  }
  return (
    <div className={styles.setting}>
      <Field label={label} description={hint} error={wrong ? `A whole number of at least ${least}, or nothing.` : undefined}>
        {(control) => (
          <TextInput
            {...control}
            inputMode="numeric"
            className="numeric"
            placeholder={placeholder}
            value={text}
            onChange={(event) => change(event.target.value)}
          />
        )}
      </Field>
      {suggestion !== null && suggestion.value !== value && (
        <div>
          <Button size="small" variant="ghost" onClick={() => change(String(suggestion.value))}>
            {suggestion.title}
          </Button>
        </div>
      )}
    </div>
  )
}

function StopField({ stops, onChange }: { readonly stops: readonly string[]; readonly onChange: (stops: string[]) => void }) {
  const [text, setText] = useState(() => formatStops(stops))
  return (
    <Field label="Stop texts" description="One per line; the answer ends before any of them. Write \n for a line break.">
      {(control) => (
        <TextArea
          {...control}
          rows={2}
          className="mono"
          value={text}
          onChange={(event) => {
            setText(event.target.value)
            onChange(parseStops(event.target.value))
          }}
        />
      )}
    </Field>
  )
}
