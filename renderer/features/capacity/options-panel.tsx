/** What is asked: device, engine, cache, lengths, load, limits and money. Every change is in the address at once. */
import type { CapacityCatalog, CapacityRequest } from '../../../engine/contract/index.ts'
import { KV_ELEMENTS } from '../../../engine/contract/index.ts'
import { contextStepsUpTo, nearestStep } from '../../lib/context-steps.ts'
import { formatBytes, formatInteger } from '../../lib/format.ts'
import { Field, Select, Slider, TextInput } from '../../ui/controls.tsx'
import { Segmented } from '../../ui/tabs.tsx'
import { Term } from '../../ui/term.tsx'
import styles from './capacity.module.css'
import type { Ask, Parameter } from './request.ts'

const HERE = 'here'
const AS_STORED = 'stored'

interface OptionsPanelProps {
  readonly request: CapacityRequest
  readonly parameters: URLSearchParams
  readonly ask: Ask
  readonly catalog: CapacityCatalog | undefined
  readonly contextLimit: number | null
}

export function OptionsPanel({ request, parameters, ask, catalog, contextLimit }: OptionsPanelProps) {
  const steps = contextStepsUpTo(contextLimit)
  const number = (name: Parameter, label: React.ReactNode, more: { readonly description?: string; readonly placeholder?: string } = {}) => (
    <NumberField label={label} value={parameters.get(name) ?? ''} onChange={(value) => ask({ [name]: value })} {...more} />
  )
  return (
    <aside className={styles.options} aria-label="What is asked">
      <section className={styles.group} aria-label="Device">
        <Field label="GPU">
          {({ id }) => (
            <Select
              id={id}
              label="GPU"
              value={request.deviceId ?? HERE}
              onChange={(value) => ask({ gpu: value === HERE ? null : value, engine: null, gpus: null })}
              options={[
                { value: HERE, title: 'This machine' },
                ...(catalog?.devices ?? []).map((device) => ({
                  value: device.id,
                  title: device.name,
                  hint: `${formatBytes(device.memoryBytes, 'memory')}, ${formatInteger(device.gigabytesPerSecond)} GB/s`,
                })),
              ]}
            />
          )}
        </Field>
        {request.deviceId !== null && (
          <Segmented
            label="Served by"
            value={request.engine}
            onChange={(engine) => ask({ engine, gpus: null })}
            options={[
              { value: 'vllm', title: 'vLLM' },
              { value: 'lathe', title: 'Lathe' },
            ]}
          />
        )}
        <Field label={<Term name="scheme">Stored as</Term>}>
          {({ id }) => (
            <Select
              id={id}
              label="Stored as"
              value={request.schemeId ?? AS_STORED}
              onChange={(value) => ask({ scheme: value === AS_STORED ? null : value })}
              options={[
                { value: AS_STORED, title: 'As it is' },
                ...(catalog?.schemes ?? []).map((scheme) => ({ value: scheme.id, title: scheme.title })),
              ]}
            />
          )}
        </Field>
        <Field label={<Term name="kv">Cache as</Term>}>
          {({ id }) => (
            <Select
              id={id}
              label="Cache as"
              value={request.kvElement}
              onChange={(kv) => ask({ kv })}
              options={[
                { value: 'auto', title: 'as the checkpoint says, else f16' },
                ...KV_ELEMENTS.map((element) => ({ value: element, title: element })),
              ]}
            />
          )}
        </Field>
      </section>
      <section className={styles.group} aria-label="Lengths">
        <Slider
          label={<Term name="context">Context</Term>}
          value={nearestStep(steps, request.contextTokens)}
          min={0}
          max={Math.max(1, steps.length - 1)}
          format={(index) =>
            `${formatInteger(index === nearestStep(steps, request.contextTokens) ? request.contextTokens : (steps[index] ?? 0))} tokens`
          }
          onChange={(index) => ask({ context: steps[index] ?? null })}
        />
        {number('concurrency', 'At once', { placeholder: '1' })}
        <div className={styles.twoFields}>
          {number('prompt', 'Usual prompt', { placeholder: String(request.promptTokens) })}
          {number('output', 'Usual answer', { placeholder: String(request.outputTokens) })}
        </div>
      </section>
      <section className={styles.group} aria-label="Limits">
        <div className={styles.twoFields}>
          {number('first', 'First token within, ms', { placeholder: 'any' })}
          {number('token', 'Each token within, ms', { placeholder: 'any' })}
        </div>
        {number('users', 'People waiting at the same time', { placeholder: 'not asked' })}
        <div className={styles.twoFields}>
          {number('cost', 'Cost of a GPU-hour', { placeholder: 'not asked' })}
          {number('busy', 'Busy share, 0–1', { placeholder: String(request.busyShare) })}
        </div>
      </section>
    </aside>
  )
}

interface NumberFieldProps {
  readonly label: React.ReactNode
  readonly value: string
  readonly onChange: (value: string | null) => void
  readonly description?: string
  readonly placeholder?: string
}

function NumberField({ label, value, onChange, description, placeholder }: NumberFieldProps) {
  const valid = value === '' || (Number.isFinite(Number(value)) && Number(value) > 0)
  return (
    <Field label={label} {...(description === undefined ? {} : { description })} {...(valid ? {} : { error: 'A number above zero.' })}>
      {(control) => (
        <TextInput
          {...control}
          inputMode="decimal"
          className="numeric"
          value={value}
          placeholder={placeholder}
          aria-invalid={!valid}
          onChange={(event) => onChange(event.target.value === '' ? null : event.target.value)}
        />
      )}
    </Field>
  )
}
