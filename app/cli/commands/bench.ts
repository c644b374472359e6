/**
 * `lathe bench`: prefill and decode speed of the engine itself, alone or in turn with a baseline, and what a folder's model or a server does under
 * a load profile. A folder's model is driven in this process, without HTTP; `protocol` says so.
 */
import { cpus } from 'node:os'
import { sharesMachine } from '../../../engine/benchmark/load/load-target.ts'
import { loadRoom, MOST_PLACES, USUAL_PLACES } from '../../../engine/benchmark/load/load-room.ts'
import { createRuntimeLoadTarget } from '../../../engine/benchmark/load/runtime-load-target.ts'
import { SERVER_ENERGY } from '../../../engine/studio/jobs/benchmark-job.ts'
import { evaluationPlan } from '../../../engine/studio/jobs/evaluation-plan.ts'
import type { Arguments } from '../arguments.ts'
import type { Command } from '../command.ts'
import { cacheTokens, describeEngine, engineJson, measureEngine, SOFTWARE_GRID } from './bench-engine.ts'
import type { EngineSubject, Grid } from './bench-engine.ts'
import { LOAD_OPTIONS, loadOptions, mustHaveProfile, remoteLoadTarget, runLoadCommand, wholeNumbers } from './bench-load.ts'
import { acquire, MATRIX_UNITS_OPTION, modelAt } from './with-model.ts'

/** Requests of a run that is not told how many: enough for medians. */
const REQUESTS = { remote: 32, hardware: 16, software: 4 } as const

export const bench: Command = {
  usage:
    'lathe bench <folder>|<url> [--profile synchronous|concurrent|throughput|constant|poisson|sweep|trace] [--concurrency N,N] [--rate R,R] [--requests N] [--prompt-tokens N] [--generate-tokens N] [--slo NAME] [--export FILE]… [--baseline <folder>] [--grid] [--matrix-units]',
  summary: 'speed of a model on this machine, or of a server, alone and under load',
  options: {
    ...LOAD_OPTIONS,
    warmups: { type: 'string', value: 'N', help: 'for a folder: runs of the engine that are not counted (by its size and the adapter)' },
    repeats: { type: 'string', value: 'N', help: 'for a folder: runs of the engine that are (by its size and the adapter)' },
    baseline: { type: 'string', value: 'FOLDER', help: 'for a folder: another model measured in turn with it, for ratios' },
    parallel: {
      type: 'string',
      value: 'N',
      help: `for a folder under load: requests that it works on at once, with a cache for all (those of --concurrency, else ${USUAL_PLACES}; 1 to ${MOST_PLACES})`,
    },
    grid: { type: 'boolean', help: 'for a folder: prefill by length, decode by batch and context, share of the memory’s speed' },
    ...MATRIX_UNITS_OPTION,
    batches: { type: 'string', value: 'N,N…', help: 'with --grid: sequences at once (1,2,4,8)' },
    contexts: { type: 'string', value: 'N,N…', help: 'with --grid: tokens of prompts and in the cache (128,512,2048,8192)' },
  },
  async run(args, context) {
    const target = args.onlyPositional('model folder or address')
    if (/^https?:\/\//.test(target)) {
      if (args.flag('matrix-units')) throw args.invalid('--matrix-units is for a folder: a server decides for itself how it computes.')
      const remote = await remoteLoadTarget(context, args, target)
      const load = await loadOptions(args, { requests: REQUESTS.remote, promptTokens: 256, outputTokens: 64 }, sharesMachine(remote.target))
      const { outcome, json, text, files, withinSlo } = await runLoadCommand(
        context,
        args,
        remote.target,
        remote.tokenize,
        load,
        SERVER_ENERGY,
      )
      return {
        json: {
          model: outcome.benchmark.model,
          adapter: 'remote',
          url: outcome.benchmark.url,
          shares_gpu: outcome.benchmark.sharesGpu,
          client: clientMachine(),
          protocol: `server: ${outcome.benchmark.load}`,
          runs: json,
          within_slo: withinSlo,
          engine: null,
          files,
        },
        text: `${outcome.benchmark.model} at ${target}\n${text}`,
      }
    }
    if (args.text('profile') === null) mustHaveProfile(args)
    const ref = await modelAt(target)
    const baselinePath = args.text('baseline')
    const baselineRef = baselinePath === null ? null : await modelAt(baselinePath)
    const { gpu, checkpoint, tokenizers } = await context.engine()
    const adapter = await gpu.current()
    const facts = await checkpoint.inspect(ref.folder)
    const defaults = evaluationPlan(adapter.type, facts.parameters)
    const throughput = {
      promptTokens: args.integer('prompt-tokens', { min: 1 }) ?? defaults.throughput.promptTokens,
      generatedTokens: args.integer('generate-tokens', { min: 2 }) ?? defaults.throughput.generatedTokens,
      warmups: args.integer('warmups', { min: 0 }) ?? defaults.throughput.warmups,
      repeats: args.integer('repeats', { min: 1 }) ?? defaults.throughput.repeats,
    }
    const grid = args.flag('grid') ? gridOf(args, defaults.grid ?? SOFTWARE_GRID) : null
    const software = adapter.type === 'software' || adapter.type === 'reference'
    const load =
      args.text('profile') === null
        ? null
        : await loadOptions(
            args,
            {
              requests: software ? REQUESTS.software : REQUESTS.hardware,
              promptTokens: throughput.promptTokens,
              outputTokens: throughput.generatedTokens,
            },
            true,
          )
    const modelLimit = facts.architecture.contextLength ?? Infinity
    const contextTokens = Math.max(
      throughput.promptTokens + throughput.generatedTokens,
      load === null ? 0 : loadRoom(load).requestTokens,
      ...(grid === null
        ? []
        : [...grid.prefillTokens.map((tokens) => tokens + 1), ...grid.contexts.map((n) => n + grid.decodeTokens)]
      ).filter((tokens) => tokens <= modelLimit),
    )
    const room = load === null ? null : loadRoom(load, args.integer('parallel', { min: 1, max: MOST_PLACES }))
    const matrixUnits = args.flag('matrix-units')
    const memory = {
      contextTokens,
      matrixUnits,
      kvTokens: Math.max(grid === null ? 0 : cacheTokens(grid, modelLimit), room?.kvTokens ?? 0),
      maxSequences: Math.max(grid === null ? 0 : Math.max(...grid.batches), room?.maxSequences ?? USUAL_PLACES),
    }
    using baseline = baselineRef === null ? null : await acquire(context, baselineRef, memory)
    using lease = await acquire(context, ref, memory)
    const subjects: EngineSubject[] = [
      ...(baseline === null || baselineRef === null ? [] : [{ ref: baselineRef, lease: baseline }]),
      { ref, lease },
    ]
    const results = await measureEngine(context, subjects, { throughput, grid, contextTokens, matrixUnits })
    context.progress(null)
    const result = results.at(-1)
    const other = baselineRef === null ? undefined : results[0]
    if (result === undefined) throw new Error('The benchmark gave no result.')
    const codec = load === null ? null : await tokenizers.open(ref.folder)
    const tokenize = codec === null ? null : async (text: string) => [...codec.encode(text, { addSpecialTokens: false })]
    const loaded =
      load === null
        ? null
        : await runLoadCommand(
            context,
            args,
            createRuntimeLoadTarget(lease.runtime, matrixUnits ? `${ref.name} (matrix units)` : ref.name),
            tokenize,
            load,
            await gpu.energy(),
          )
    return {
      json: {
        model: ref.folder,
        adapter: adapter.name,
        software_adapter: software,
        shares_gpu: true,
        client: clientMachine(),
        matrix_units: matrixUnits,
        protocol: loaded === null ? 'engine: one request at a time' : `in-process, without HTTP: ${loaded.outcome.benchmark.load}`,
        runs: loaded?.json ?? [],
        within_slo: loaded?.withinSlo ?? null,
        files: loaded?.files ?? [],
        engine: engineJson(result),
        baseline: baselineRef === null || other === undefined ? null : { model: baselineRef.folder, engine: engineJson(other) },
      },
      text: [
        `${ref.name} on ${adapter.name}${software ? ' (software: says nothing about a GPU)' : ''}${matrixUnits ? ', prompts on matrix units' : ''}`,
        describeEngine(subjects, results),
        ...(loaded === null ? [] : ['', loaded.text]),
      ].join('\n'),
    }
  },
}

/** Where the requests come from: a slow client is in every latency. */
function clientMachine() {
  return {
    platform: `${process.platform} ${process.arch}`,
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    node: process.version,
  }
}

function gridOf(args: Arguments, grid: Grid): Grid {
  return {
    ...grid,
    batches: wholeNumbers(args, 'batches', grid.batches),
    contexts: wholeNumbers(args, 'contexts', grid.contexts),
    prefillTokens: wholeNumbers(args, 'contexts', grid.prefillTokens),
  }
}
