/** A model in this process under load, without HTTP between: what the engine itself does with many requests. */
import { randomUUID } from 'node:crypto'
import { LatheError } from '../../contract/errors.ts'
import { DEFAULT_BLOCK_SIZE } from '../../model/memory.ts'
import type { Runtime } from '../../runtime/types.ts'
import type { LoadEnd, LoadTarget } from './load-target.ts'

export function createRuntimeLoadTarget(runtime: Runtime, model: string): LoadTarget {
  let sent = 0
  // An earlier benchmark of this runtime may have asked the same prompts. Within this one a prefix is shared where the load says so.
  const cacheSalt = `load-${randomUUID()}`
  return {
    kind: 'in-process',
    model,
    url: null,
    places: (tokens) =>
      Math.min(runtime.info.maxSequences, Math.floor(runtime.telemetry().kvBlocksTotal / Math.ceil(tokens / DEFAULT_BLOCK_SIZE))),
    async send(prompt, id, onChunk, signal): Promise<LoadEnd> {
      const { info } = runtime
      // Ids from another tokenizer would be outside the vocabulary; they are folded into it.
      const promptTokens = Uint32Array.from(prompt.tokens ?? [], (token) => token % info.vocabulary)
      const sampling = { ...info.defaultSampling, temperature: 0, topK: 0, topP: 1, minP: 0 }
      const events = runtime.generate({
        id: `load-${sent++}-${id}`,
        promptTokens,
        sampling,
        maxTokens: prompt.outputTokens,
        ignoreEos: true,
        cacheSalt,
        signal,
      })
      for await (const event of events) {
        if (event.kind === 'tokens') onChunk(event.ids.length)
        if (event.kind !== 'finished') continue
        if (event.reason === 'aborted') throw new LatheError('runtime.aborted', 'The run was stopped.', 'Start it again.')
        const { stats } = event
        return {
          inputTokens: stats.promptTokens,
          outputTokens: stats.completionTokens,
          cachedTokens: stats.cachedTokens,
          finish: event.reason,
        }
      }
      throw new LatheError('internal', 'A request ended without a finished event.', 'Copy the details and report it.')
    },
  }
}
