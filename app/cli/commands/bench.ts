/** `lathe bench <folder>`: prefill and decode speed of the engine itself, one request at a time. Load profiles need a server. */
import { measureThroughput } from '../../../engine/benchmark/throughput.ts'
import { LatheError } from '../../../engine/contract/index.ts'
import type { SampleStats } from '../../../engine/contract/index.ts'
import { evaluationPlan } from '../../../engine/studio/jobs/evaluation-plan.ts'
import type { Command } from '../command.ts'
import { formatBytes, formatTable } from '../format.ts'
import { acquire, modelAt } from './with-model.ts'

export const bench: Command = {
  usage: 'lathe bench <folder> [--prompt-tokens N] [--generate-tokens N] [--warmups N] [--repeats N]',
  summary: 'prefill and decode speed of a model on this machine',
  options: {
    'prompt-tokens': { type: 'string', value: 'N', help: 'length of the prompt' },
    'generate-tokens': { type: 'string', value: 'N', help: 'tokens generated per run' },
    warmups: { type: 'string', value: 'N', help: 'runs that are not counted' },
    repeats: { type: 'string', value: 'N', help: 'runs that are' },
    profile: { type: 'string', value: 'NAME', help: 'load profile; needs a running server' },
  },
  async run(args, context) {
    const target = args.onlyPositional('model folder')
    if (/^https?:\/\//.test(target) || args.text('profile') !== null) {
      throw new LatheError(
        'request.invalid',
        'This version measures the engine itself; load profiles against a server are not in it.',
        'Run `lathe bench <folder>` without --profile.',
      )
    }
    const model = await modelAt(target)
    const { gpu, models, checkpoint } = await context.engine()
    const adapter = await gpu.current()
    const defaults = evaluationPlan(adapter.type, (await checkpoint.inspect(model.folder)).parameters).throughput
    const options = {
      promptTokens: args.integer('prompt-tokens', { min: 1 }) ?? defaults.promptTokens,
      generatedTokens: args.integer('generate-tokens', { min: 2 }) ?? defaults.generatedTokens,
      warmups: args.integer('warmups', { min: 0 }) ?? defaults.warmups,
      repeats: args.integer('repeats', { min: 1 }) ?? defaults.repeats,
    }
    using lease = await acquire(context, model, { contextTokens: options.promptTokens + options.generatedTokens })
    const subject = { modelId: model.modelId, runtime: lease.runtime, peakGpuBytes: () => models.peakGpuBytes(model.modelId) }
    const [result] = await measureThroughput([subject], {
      ...options,
      signal: context.signal,
      onProgress: (done, total) => context.progress(`run ${done} of ${total}`),
    })
    context.progress(null)
    if (result === undefined) throw new Error('The benchmark gave no result.')
    const software = adapter.type === 'software' || adapter.type === 'reference'
    return {
      json: {
        model: model.folder,
        adapter: adapter.name,
        software_adapter: software,
        runs: [],
        engine: {
          prefill_tokens_per_second: result.prefillTokensPerSecond.median,
          decode_tokens_per_second: result.decodeTokensPerSecond.median,
          time_to_first_token_ms: result.timeToFirstTokenMs.median,
          prefill_tokens_per_second_samples: result.prefillTokensPerSecond,
          decode_tokens_per_second_samples: result.decodeTokensPerSecond,
          peak_gpu_bytes: result.peakGpuBytes,
          weight_gpu_bytes: result.weightGpuBytes,
          kv_gpu_bytes: result.kvGpuBytes,
          load_seconds: result.loadSeconds,
          prompt_tokens: result.promptTokens,
          generated_tokens: result.generatedTokens,
          warmups: result.warmups,
          repeats: result.repeats,
        },
      },
      text: [
        `${model.name} on ${adapter.name}${software ? ' (software: says nothing about a GPU)' : ''}`,
        formatTable([
          ['', 'Median', 'Least', 'Most'],
          sampleRow('Prefill, tok/s', result.prefillTokensPerSecond),
          sampleRow('Decode, tok/s', result.decodeTokensPerSecond),
          sampleRow('First token, ms', result.timeToFirstTokenMs),
        ]),
        `${options.promptTokens} + ${options.generatedTokens} tokens, ${options.repeats} runs after ${options.warmups} warm-up; loaded in ${result.loadSeconds.toPrecision(3)} s; peak GPU memory ${formatBytes(result.peakGpuBytes)}`,
      ].join('\n'),
    }
  },
}

function sampleRow(name: string, stats: SampleStats): string[] {
  return [name, ...[stats.median, stats.min, stats.max].map(threeDigits)]
}

/** 1030 rather than 1.03e+3. */
function threeDigits(value: number): string {
  return String(Number(value.toPrecision(3)))
}
