/**
 * `lathe bench`: prefill and decode speed of the engine itself, one request at a time, and what a folder's model or a server does under a load
 * profile. A folder's model is driven in this process, without HTTP; `protocol` says so.
 */
import { createRuntimeLoadTarget } from '../../../engine/benchmark/load/runtime-load-target.ts'
import { measureThroughput } from '../../../engine/benchmark/throughput.ts'
import type { SampleStats } from '../../../engine/contract/index.ts'
import { evaluationPlan } from '../../../engine/studio/jobs/evaluation-plan.ts'
import type { Command } from '../command.ts'
import { formatBytes, formatTable } from '../format.ts'
import { LOAD_OPTIONS, loadOptions, remoteLoadTarget, runLoadCommand } from './bench-load.ts'
import { acquire, modelAt } from './with-model.ts'

/** Requests of a run that is not told how many: enough for medians. */
const REQUESTS = { remote: 32, hardware: 16, software: 4 } as const

export const bench: Command = {
  usage:
    'lathe bench <folder>|<url> [--profile synchronous|concurrent|throughput|constant|poisson|sweep|trace] [--concurrency N,N] [--rate R,R] [--requests N] [--prompt-tokens N] [--generate-tokens N] [--slo NAME] [--export FILE]…',
  summary: 'speed of a model on this machine, or of a server, alone and under load',
  options: {
    ...LOAD_OPTIONS,
    warmups: { type: 'string', value: 'N', help: 'for a folder: runs of the engine that are not counted' },
    repeats: { type: 'string', value: 'N', help: 'for a folder: runs of the engine that are' },
  },
  async run(args, context) {
    const target = args.onlyPositional('model folder or address')
    if (/^https?:\/\//.test(target)) {
      const remote = await remoteLoadTarget(context, args, target)
      const load = await loadOptions(args, { requests: REQUESTS.remote, promptTokens: 256, outputTokens: 64 }, false)
      const { outcome, json, text, files } = await runLoadCommand(context, args, remote.target, remote.tokenize, load)
      return {
        json: {
          model: outcome.benchmark.model,
          adapter: 'remote',
          url: outcome.benchmark.url,
          protocol: `server: ${outcome.benchmark.load}`,
          runs: json,
          engine: null,
          files,
        },
        text: `${outcome.benchmark.model} at ${target}\n${text}`,
      }
    }
    const model = await modelAt(target)
    const { gpu, models, checkpoint, tokenizers } = await context.engine()
    const adapter = await gpu.current()
    const defaults = evaluationPlan(adapter.type, (await checkpoint.inspect(model.folder)).parameters).throughput
    const options = {
      promptTokens: args.integer('prompt-tokens', { min: 1 }) ?? defaults.promptTokens,
      generatedTokens: args.integer('generate-tokens', { min: 2 }) ?? defaults.generatedTokens,
      warmups: args.integer('warmups', { min: 0 }) ?? defaults.warmups,
      repeats: args.integer('repeats', { min: 1 }) ?? defaults.repeats,
    }
    const software = adapter.type === 'software' || adapter.type === 'reference'
    const load =
      args.text('profile') === null
        ? null
        : await loadOptions(
            args,
            {
              requests: software ? REQUESTS.software : REQUESTS.hardware,
              promptTokens: options.promptTokens,
              outputTokens: options.generatedTokens,
            },
            true,
          )
    const longest = Math.max(
      options.promptTokens + options.generatedTokens,
      ...(load?.trace ?? []).map((entry) => entry.promptTokens + entry.outputTokens),
    )
    using lease = await acquire(context, model, { contextTokens: longest })
    const subject = { modelId: model.modelId, runtime: lease.runtime, peakGpuBytes: () => models.peakGpuBytes(model.modelId) }
    const [result] = await measureThroughput([subject], {
      ...options,
      signal: context.signal,
      onProgress: (done, total) => context.progress(`run ${done} of ${total}`),
    })
    context.progress(null)
    if (result === undefined) throw new Error('The benchmark gave no result.')
    const codec = load === null ? null : await tokenizers.open(model.folder)
    const tokenize = codec === null ? null : async (text: string) => [...codec.encode(text, { addSpecialTokens: false })]
    const loaded =
      load === null ? null : await runLoadCommand(context, args, createRuntimeLoadTarget(lease.runtime, model.name), tokenize, load)
    return {
      json: {
        model: model.folder,
        adapter: adapter.name,
        software_adapter: software,
        protocol: loaded === null ? 'engine: one request at a time' : `in-process, without HTTP: ${loaded.outcome.benchmark.load}`,
        runs: loaded?.json ?? [],
        files: loaded?.files ?? [],
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
          compile_seconds: result.compileSeconds,
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
        ...(loaded === null ? [] : ['', loaded.text]),
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
