/** How much room requests get: context, how many at once, the cache's type, and what guesses ahead; with whether it fits this machine. */
import type { ModelSummary, ServerConfig, Settings } from '../../../engine/contract/index.ts'
import { contextStepsUpTo, nearestStep } from '../../lib/context-steps.ts'
import { formatBytes, formatInteger } from '../../lib/format.ts'
import { Field, Select, Slider } from '../../ui/controls.tsx'
import { MOST_PARALLEL, ServingFit } from '../models/serving-fit.tsx'
import styles from './server.module.css'

export type Room = Pick<ServerConfig, 'contextTokens' | 'parallel' | 'kvDtype' | 'speculation'>

interface RoomFieldsProps {
  /** The first model, which the room is shown for. */
  readonly model: ModelSummary | null
  readonly models: readonly ModelSummary[]
  readonly settings: Settings
  readonly room: Room
  readonly onChange: (room: Room) => void
}

const PARALLEL_STEPS = [1, 2, 4, 8, 16, 32, MOST_PARALLEL]
const KV_TYPES = ['auto', 'f16', 'fp8', 'int8', 'int8/int4', 'int4'] as const
const DRAFT = 'draft:'

export function RoomFields({ model, models, settings, room, onChange }: RoomFieldsProps) {
  const set = (change: Partial<Room>): void => onChange({ ...room, ...change })
  const longest = model?.architecture.contextLength ?? null
  // The engine loads no more than the model was made for: what is shown and reckoned is what there will be.
  const contextTokens = Math.min(room.contextTokens ?? settings.contextTokens, longest ?? Infinity)
  const kvDtype = room.kvDtype ?? settings.kvDtype
  const steps = withStep(contextStepsUpTo(longest), contextTokens)
  const parallelSteps = withStep(PARALLEL_STEPS, room.parallel ?? 1)
  return (
    <>
      <div className={styles.sliders}>
        <Slider
          label="Context of one request"
          value={nearestStep(steps, contextTokens)}
          min={0}
          max={steps.length - 1}
          format={(index) => `${formatInteger(steps[index] ?? contextTokens)} tokens`}
          onChange={(index) => set({ contextTokens: steps[index] ?? contextTokens })}
        />
        <Slider
          label="Requests at once"
          value={room.parallel === null ? 0 : 1 + parallelSteps.indexOf(room.parallel)}
          min={0}
          max={parallelSteps.length}
          format={(index) =>
            index === 0 ? 'a few that share one context' : `${formatInteger(parallelSteps[index - 1] ?? 1)}, each with its own`
          }
          onChange={(index) => set({ parallel: index === 0 ? null : (parallelSteps[index - 1] ?? null) })}
        />
      </div>
      {model !== null && (
        <ServingFit
          model={model}
          contextTokens={contextTokens}
          parallel={room.parallel}
          kvDtype={kvDtype}
          onContext={(tokens) => set({ contextTokens: tokens })}
          onParallel={(parallel) => set({ parallel })}
        />
      )}
      <div className={styles.fields}>
        <Field label="Cached keys and values">
          {(control) => (
            <Select
              id={control.id}
              label="Cached keys and values"
              value={kvDtype}
              onChange={(next) => set({ kvDtype: next })}
              options={withOption(KV_TYPES, kvDtype).map((value) => ({
                value,
                title: value === 'auto' ? autoTitle(model) : (KV_TITLES[value] ?? value),
              }))}
            />
          )}
        </Field>
        <Field label="Guess ahead" description="Answers stay the same, token for token; it switches itself off where it does not pay.">
          {(control) => (
            <Select
              id={control.id}
              label="Guess ahead"
              value={room.speculation.kind === 'draft' ? DRAFT + room.speculation.modelId : room.speculation.kind}
              onChange={(next) =>
                set({
                  speculation: next.startsWith(DRAFT)
                    ? { kind: 'draft', modelId: next.slice(DRAFT.length) }
                    : { kind: next === 'ngram' ? 'ngram' : 'off' },
                })
              }
              options={[
                { value: 'off', title: 'Off' },
                { value: 'ngram', title: 'From the text so far' },
                ...draftsFor(model, models).map((draft) => ({
                  value: DRAFT + draft.id,
                  title: `With ${draft.name} (${formatBytes(draft.weightBytes, 'memory')})`,
                })),
              ]}
            />
          )}
        </Field>
      </div>
    </>
  )
}

const KV_TITLES: Readonly<Record<string, string>> = {
  f16: '16 bits',
  f32: '32 bits',
  fp8: '8 bits (FP8)',
  int8: '8 bits (INT8)',
  'int8/int4': 'Keys 8, values 4 bits',
  int4: '4 bits',
}

function autoTitle(model: ModelSummary | null): string {
  const own = model?.architecture.kvCacheDtype
  return own === undefined ? 'As the checkpoint says, else 16 bits' : `As the checkpoint says: ${KV_TITLES[own] ?? own}`
}

/** Smaller ones of the same family: they share its vocabulary, which guessing needs. */
export function draftsFor(model: ModelSummary | null, models: readonly ModelSummary[]): readonly ModelSummary[] {
  if (model === null) return []
  const root = model.parentId ?? model.id
  return models
    .filter((other) => other.id !== model.id && other.status === 'ready' && (other.id === root || other.parentId === root))
    .filter((other) => other.weightBytes < model.weightBytes)
    .toSorted((one, other) => one.weightBytes - other.weightBytes)
}

function withStep(steps: readonly number[], value: number): readonly number[] {
  return steps.includes(value) ? steps : [...steps, value].toSorted((one, other) => one - other)
}

function withOption(options: readonly string[], value: string): readonly string[] {
  return options.includes(value) ? options : [...options, value]
}
