/** `lathe chat`: one answer with --prompt, otherwise a conversation. The same answering code as the studio's. */
import { createInterface } from 'node:readline/promises'
import { LatheError } from '../../../engine/contract/index.ts'
import type { AnswerStats, Sampling } from '../../../engine/contract/index.ts'
import { answer } from '../../../engine/studio/answer.ts'
import { DEFAULT_SAMPLING } from '../../../engine/studio/chat.ts'
import type { AcquireModel, ModelRef, PromptMessage } from '../../../engine/studio/ports.ts'
import type { Arguments } from '../arguments.ts'
import type { Command, CommandContext } from '../command.ts'
import { formatSeconds, formatSignificant } from '../format.ts'
import { loadingLine, MATRIX_UNITS_OPTION, modelAt } from './with-model.ts'

const DEFAULT_CONTEXT = 4096

type Load = Pick<AcquireModel, 'contextTokens' | 'matrixUnits'>

export const chat: Command = {
  usage:
    'lathe chat <folder> [--prompt TEXT] [--system TEXT] [--temperature T] [--top-k K] [--top-p P] [--min-p P] [--seed N] [--max-tokens N] [--matrix-units]',
  summary: 'talk to a model; with --prompt, one answer',
  options: {
    prompt: { type: 'string', value: 'TEXT', help: 'answer this and end' },
    system: { type: 'string', value: 'TEXT', help: 'system prompt' },
    temperature: { type: 'string', value: 'T', help: `0 is greedy (${DEFAULT_SAMPLING.temperature})` },
    'top-k': { type: 'string', value: 'K', help: `0 is off (${DEFAULT_SAMPLING.topK})` },
    'top-p': { type: 'string', value: 'P', help: `1 is off (${DEFAULT_SAMPLING.topP})` },
    'min-p': { type: 'string', value: 'P', help: '0 is off (0)' },
    seed: { type: 'string', value: 'N', help: 'for the same answer again' },
    'max-tokens': { type: 'string', value: 'N', help: 'longest answer' },
    context: { type: 'string', value: 'N', help: `tokens of context to load (${DEFAULT_CONTEXT})` },
    ...MATRIX_UNITS_OPTION,
  },
  async run(args, context) {
    const model = await modelAt(args.onlyPositional('model folder'))
    const sampling = readSampling(args)
    const load = { contextTokens: args.integer('context', { min: 64 }) ?? DEFAULT_CONTEXT, matrixUnits: args.flag('matrix-units') }
    const system = args.text('system')
    const history: PromptMessage[] = system === null ? [] : [{ role: 'system', content: system }]
    const prompt = args.text('prompt')
    if (prompt !== null && prompt.trim() === '')
      throw args.invalid('--prompt is empty.', 'Say something, or leave the option out for a conversation.')
    if (prompt === null) {
      if (context.json) throw args.invalid('--json needs --prompt: a conversation has no single result.')
      await converse(context, model, history, sampling, load)
      return { json: {}, text: '' }
    }
    const { text, stats } = unlessStopped(await ask(context, model, [...history, { role: 'user', content: prompt }], sampling, load))
    context.note(describe(stats))
    return {
      json: {
        model: model.folder,
        text,
        stop_reason: stats.stopReason,
        prompt_tokens: stats.promptTokens,
        completion_tokens: stats.completionTokens,
        time_to_first_token_ms: stats.timeToFirstTokenMs,
        load_ms: stats.loadMs,
        prefill_tokens_per_second: stats.prefillTokensPerSecond,
        decode_tokens_per_second: stats.decodeTokensPerSecond,
        seed: stats.seed,
        adapter: stats.adapter,
        software_adapter: stats.softwareAdapter,
      },
      text: '',
    }
  },
}

function readSampling(args: Arguments): Sampling {
  return {
    temperature: args.number('temperature', { min: 0, max: 2 }) ?? DEFAULT_SAMPLING.temperature,
    topK: args.integer('top-k', { min: 0 }) ?? DEFAULT_SAMPLING.topK,
    topP: args.number('top-p', { min: Number.MIN_VALUE, max: 1 }) ?? DEFAULT_SAMPLING.topP,
    minP: args.number('min-p', { min: 0, max: 1 }) ?? DEFAULT_SAMPLING.minP,
    seed: args.integer('seed', { min: 0 }),
    maxTokens: args.integer('max-tokens', { min: 1 }),
    stop: [],
  }
}

interface Answered {
  readonly text: string
  readonly stats: AnswerStats
}

async function ask(
  context: CommandContext,
  model: ModelRef,
  messages: readonly PromptMessage[],
  sampling: Sampling,
  load: Load,
): Promise<Answered> {
  const { models, tokenizers, gpu } = await context.engine()
  let text = ''
  let stats: AnswerStats | null = null
  const parts = { models, tokenizers, adapter: () => gpu.current() }
  const request = {
    id: `chat-${messages.length}`,
    messages,
    sampling,
    model: { ...model, ...load, kvDtype: 'auto' as const, signal: context.signal },
  }
  await answer(parts, request, (event) => {
    if (event.kind === 'loading') context.progress(loadingLine(model.name, event))
    else if (event.kind === 'prefill') context.progress(`reading the prompt: ${event.done} of ${event.total} tokens`)
    else if (event.kind === 'text') {
      context.progress(null)
      text += event.text
      context.stream(event.text)
    } else stats = event.stats
  })
  context.progress(null)
  context.stream('\n')
  if (stats === null) throw new Error('An answer ended without figures.')
  return { text, stats }
}

/** An answer that Ctrl-C cut short is not a result; what was said until then goes with the error. */
function unlessStopped(answered: Answered): Answered {
  if (answered.stats.stopReason !== 'aborted') return answered
  throw new LatheError(
    'job.cancelled',
    `Stopped after ${answered.stats.completionTokens} tokens.`,
    'Run the same command again when you like.',
    {
      data: { text: answered.text },
    },
  )
}

/** Until the input ends, `/exit`, or Ctrl-C at the prompt. Ctrl-C during an answer stops only that, and what was said is kept. */
async function converse(context: CommandContext, model: ModelRef, history: PromptMessage[], sampling: Sampling, load: Load): Promise<void> {
  const lines = createInterface({ input: context.stdin, output: process.stderr, terminal: context.stdin.isTTY === true })
  let answering: AbortController | null = null
  // piped input may end, and close the reader, while lines are still waiting to be answered
  let closed = false
  lines.on('close', () => {
    closed = true
  })
  lines.on('SIGINT', () => {
    if (answering === null) lines.close()
    else answering.abort()
  })
  context.signal.addEventListener('abort', () => lines.close(), { once: true })
  const prompt = (): void => {
    if (!closed) lines.prompt()
  }
  context.note('Type a message; /exit or Ctrl-D ends, /clear forgets what was said.')
  try {
    lines.setPrompt('> ')
    prompt()
    for await (const line of lines) {
      context.signal.throwIfAborted()
      const content = line.trim()
      if (content === '/exit') break
      if (content === '/clear') history.splice(history[0]?.role === 'system' ? 1 : 0)
      else if (content !== '') {
        history.push({ role: 'user', content })
        answering = new AbortController()
        const signal = AbortSignal.any([answering.signal, context.signal])
        try {
          const { text, stats } = await ask({ ...context, signal }, model, history, sampling, load)
          history.push({ role: 'assistant', content: text })
          context.note(describe(stats))
        } catch (error) {
          // A prompt that does not fit ends itself, not what was said before it.
          if (!(error instanceof LatheError) || error.code !== 'runtime.context-exceeded') throw error
          history.pop()
          context.note(`${error.message} The message was not sent: shorten it, or /clear forgets what was said.`)
        }
        answering = null
      }
      prompt()
    }
  } finally {
    lines.close()
  }
}

function describe(stats: AnswerStats): string {
  const parts = [
    `first token ${formatSeconds(stats.timeToFirstTokenMs / 1000)}`,
    `prefill ${rate(stats.prefillTokensPerSecond)}`,
    `decode ${rate(stats.decodeTokensPerSecond)}`,
    `${stats.promptTokens} + ${stats.completionTokens} tokens`,
    stats.stopReason,
    `seed ${stats.seed}`,
    `${stats.adapter}${stats.softwareAdapter ? ' (software)' : ''}`,
  ]
  return `[${parts.join(' · ')}]`
}

function rate(value: number | null): string {
  return value === null ? '–' : `${formatSignificant(value)} tok/s`
}
