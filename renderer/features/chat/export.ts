/** A conversation as files and as a call, for use elsewhere. Plain functions. */
import type { ChatMessage, Sampling } from '../../../engine/contract/index.ts'
import { splitThinking } from './thinking.ts'

export interface Conversation {
  readonly title: string
  readonly systemPrompt: string
  readonly sampling: Sampling
  readonly messages: readonly ChatMessage[]
  readonly nameOf: (modelId: string | null) => string
}

export function asMarkdown({ title, systemPrompt, messages, nameOf }: Conversation): string {
  const system = systemPrompt.trim() === '' ? [] : [`## System\n\n${systemPrompt.trim()}`]
  const turns = messages
    .filter((message) => message.content !== '')
    .map((message) => `## ${message.role === 'user' ? 'You' : nameOf(message.modelId)}\n\n${splitThinking(message.content).answer.trim()}`)
  return `${[`# ${title}`, ...system, ...turns].join('\n\n')}\n`
}

/** With every figure that was kept. */
export function asJson({ title, systemPrompt, sampling, messages, nameOf }: Conversation): string {
  const turns = messages.map(({ role, content, modelId, createdAt, stats, error }) => ({
    role,
    content,
    ...(role === 'assistant' && { model: nameOf(modelId), stats, ...(error !== null && { error }) }),
    created_at: createdAt,
  }))
  return `${JSON.stringify({ title, system_prompt: systemPrompt, sampling, messages: turns }, null, 2)}\n`
}

/** The last prompt with what came before it, as Lathe's server takes it. */
export function asCurl({ systemPrompt, sampling, messages }: Conversation, url: string, model: string): string {
  const last = messages.findLastIndex((message) => message.role === 'user')
  const turns = messages.slice(0, last + 1).filter((message) => message.content !== '')
  const body = {
    model,
    messages: [
      ...(systemPrompt.trim() === '' ? [] : [{ role: 'system', content: systemPrompt }]),
      ...turns.map(({ role, content }) => ({ role, content })),
    ],
    temperature: sampling.temperature,
    top_k: sampling.topK === 0 ? -1 : sampling.topK,
    top_p: sampling.topP,
    min_p: sampling.minP,
    ...(sampling.seed !== null && { seed: sampling.seed }),
    ...(sampling.maxTokens !== null && { max_tokens: sampling.maxTokens }),
    ...(sampling.stop.length > 0 && { stop: sampling.stop }),
  }
  // A single quote ends the shell's text: it is put in between two of them.
  const quoted = JSON.stringify(body, null, 2).replaceAll("'", String.raw`'\''`)
  return `curl ${url}/chat/completions \\\n  -H "Authorization: Bearer $LATHE_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${quoted}'`
}
