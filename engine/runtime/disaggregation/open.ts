/**
 * Opens a model as runtimes that read prompts and one that writes answers. Each has weights and a cache of its own: on one device that is memory
 * for nothing but the separation; with `prefillBackend` prompts are read on another device.
 */
import { LocalRuntime } from '../local-runtime.ts'
import type { Disaggregation, OpenRuntimeOptions, Runtime } from '../types.ts'
import { DisaggregatedRuntime } from './disaggregated-runtime.ts'

/** Prompts that a reader has under way at once: one is computed, one is being handed over. */
const READER_SEQUENCES = 2

/** `open` opens one runtime. Whatever fails on the way, what was opened before it is closed again. */
export async function openDisaggregated(
  options: OpenRuntimeOptions,
  { prefillEngines, prefillBackend }: Disaggregation,
  open: (options: OpenRuntimeOptions) => Promise<Runtime>,
): Promise<Runtime> {
  await using opened = new AsyncDisposableStack()
  if (prefillBackend !== undefined) opened.use(prefillBackend)
  const plain = { ...options, disaggregation: undefined, handover: true }
  const decode = localOf(opened.use(await open(plain)))
  const sameDevice = prefillBackend === undefined
  const prefill: LocalRuntime[] = []
  for (let index = 0; index < prefillEngines; index++) {
    const runtime = await open({
      ...plain,
      backend: prefillBackend ?? options.backend,
      modelId: `${options.modelId} (prefill ${index + 1})`,
      maxSequences: READER_SEQUENCES,
      kvTokens: undefined,
      speculation: undefined,
      tokenizer: null,
      // On one device a long step of a reader is a gap in somebody's answer.
      decodingElsewhere: sameDevice ? () => decode.core.scheduler.decoding : undefined,
    })
    prefill.push(localOf(opened.use(runtime)))
  }
  const whole = new DisaggregatedRuntime({ prefill, decode, resource: prefillBackend })
  opened.move()
  return whole
}

function localOf(runtime: Runtime): LocalRuntime {
  if (runtime instanceof LocalRuntime) return runtime
  throw new TypeError('A runtime inside a disaggregated one must be local')
}
