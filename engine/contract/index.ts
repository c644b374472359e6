/**
 * The contract between the engine and anything that talks to it: procedures, their inputs and outputs, one event stream, error codes.
 * It imports no other part of Lathe, holds no logic, and is the only part of the engine that the renderer may import.
 * Every procedure may fail with LATHE, whose data is an ErrorShape.
 */
import { eventIterator, oc } from '@orpc/contract'
import { z } from 'zod'
import { CapacityCatalogSchema, CapacityPlanSchema, CapacityRequestSchema, PredictionCheckSchema } from './capacity.ts'
import {
  BenchmarkExportFormatSchema,
  ConventionalLatenciesSchema,
  LatencyConventionSchema,
  StartServedBenchmarkSchema,
} from './benchmark.ts'
import { ChatEventSchema, ChatMessageSchema, ChatSendSchema, ChatThreadSchema, SamplingSchema } from './chat.ts'
import { SamplePageSchema, SampleQuerySchema, TaskComparisonSchema, TokenPageSchema, TokenQuerySchema } from './comparison.ts'
import { AddRemoteSchema, TaskRunOptionsSchema } from './evaluation.ts'
import { StudioEventSchema } from './events.ts'
import { HardwareBenchmarkSchema, HardwareSchema, KernelShareSchema } from './hardware.ts'
import { JobLogLineSchema, JobSchema } from './job.ts'
import {
  ErrorSchema,
  ModelDetailSchema,
  ModelSummarySchema,
  TensorInfoSchema,
  CacheCostEventSchema,
  TensorStatsSchema,
  TokenizationSchema,
  TokenizerInfoSchema,
} from './model.ts'
import { MonitorReadingSchema, MonitorTargetSchema, QualityWatchSchema } from './monitor.ts'
import { EvaluationOptionsSchema, PreflightSchema, PresetPredictionSchema, RecipeCheckSchema, StartCompressionSchema } from './optimize.ts'
import {
  AutomaticEventSchema,
  AutomaticRequestSchema,
  CalibrationChoiceSchema,
  CalibrationReportSchema,
  CustomRecipeSchema,
  RaisePlanSchema,
  RecipeFormSchema,
  SchemeInfoSchema,
  SchemeMapSchema,
} from './recipe.ts'
import { ResultSetSchema } from './result.ts'
import { ServerConfigSchema, ServerTestSchema, ServerViewSchema } from './server.ts'
import { SettingsPatchSchema, SettingsSchema } from './settings.ts'

export * from './capacity.ts'
export * from './benchmark.ts'
export * from './energy.ts'
export * from './chat.ts'
export * from './comparison.ts'
export * from './desktop.ts'
export * from './errors.ts'
export * from './evaluation.ts'
export * from './events.ts'
export * from './hardware.ts'
export * from './job.ts'
export * from './model.ts'
export * from './monitor.ts'
export * from './optimize.ts'
export * from './outcome.ts'
export * from './recipe.ts'
export * from './result.ts'
export * from './server.ts'
export * from './settings.ts'
export * from './transport.ts'

const procedure = oc.errors({ LATHE: { status: 400, data: ErrorSchema } })
const modelId = z.object({ modelId: z.string() })
const jobId = z.object({ jobId: z.string() })
const threadId = z.object({ threadId: z.string() })
const nothing = z.object({})

export const contract = {
  system: {
    info: procedure.output(
      z.object({
        version: z.string(),
        runId: z.string(),
        dataFolder: z.string(),
        homeFolder: z.string(),
        platform: z.string(),
        shell: z.enum(['desktop', 'browser', 'headless']),
      }),
    ),
    hardware: procedure.output(HardwareSchema),
    /** A few seconds of copy, read and matmul kernels on the selected adapter. */
    benchmark: procedure.output(HardwareBenchmarkSchema),
    /** Everything a bug report needs, as text, with the home folder redacted. */
    diagnostics: procedure.output(z.object({ text: z.string() })),
  },
  settings: {
    get: procedure.output(SettingsSchema),
    update: procedure.input(SettingsPatchSchema).output(SettingsSchema),
  },
  events: {
    watch: procedure
      .input(z.object({ runId: z.string().nullable(), after: z.number().int().nullable() }))
      .output(eventIterator(StudioEventSchema)),
  },
  files: {
    /** The engine's own folder picker for the browser host. Lists folders only, and marks those that look like a model. */
    browse: procedure.input(z.object({ path: z.string().nullable() })).output(
      z.object({
        path: z.string(),
        parent: z.string().nullable(),
        freeBytes: z.number().nullable(),
        entries: z.array(z.object({ name: z.string(), path: z.string(), isModel: z.boolean() })),
      }),
    ),
  },
  models: {
    list: procedure.output(z.array(ModelSummarySchema)),
    /** Reads headers only. Importing the same folder twice returns the entry that exists. */
    import: procedure.input(z.object({ path: z.string().min(1) })).output(ModelSummarySchema),
    importSample: procedure.output(ModelSummarySchema),
    get: procedure.input(modelId).output(ModelDetailSchema),
    tensors: procedure.input(modelId).output(z.array(TensorInfoSchema)),
    tensorStats: procedure.input(modelId.extend({ name: z.string() })).output(TensorStatsSchema),
    /** Measures every type of KV cache on the model, each as it is known; ending the stream stops it. */
    cacheCosts: procedure.input(modelId).output(eventIterator(CacheCostEventSchema)),
    rename: procedure.input(modelId.extend({ name: z.string().min(1).max(200) })).output(ModelSummarySchema),
    /** Takes it out of the library; files stay. `restore` undoes it. */
    remove: procedure.input(modelId).output(nothing),
    restore: procedure.input(modelId).output(ModelSummarySchema),
    /** Only for variants that Lathe wrote; `confirmName` must equal the name. */
    deleteFiles: procedure.input(modelId.extend({ confirmName: z.string() })).output(z.object({ freedBytes: z.number() })),
    locate: procedure.input(modelId.extend({ path: z.string() })).output(ModelSummarySchema),
    tokenizer: procedure.input(modelId).output(TokenizerInfoSchema),
    tokenize: procedure.input(modelId.extend({ text: z.string().max(200_000) })).output(TokenizationSchema),
    renderChat: procedure
      .input(modelId.extend({ messages: z.array(z.object({ role: z.string(), content: z.string() })) }))
      .output(z.object({ text: z.string() })),
  },
  optimize: {
    presets: procedure.input(modelId.extend({ contextTokens: z.number().int().positive() })).output(z.array(PresetPredictionSchema)),
    preflight: procedure.input(StartCompressionSchema).output(PreflightSchema),
    /** One compression job per preset, each followed by the chosen evaluation against the source model. */
    start: procedure.input(StartCompressionSchema).output(z.array(JobSchema)),
    /** Names that a scheme may have in a form and in an override. */
    schemes: procedure.output(z.array(SchemeInfoSchema)),
    /** A preset's recipe as text: where a custom one starts. */
    presetRecipe: procedure.input(z.object({ presetId: z.string() })).output(CustomRecipeSchema),
    /** Never fails for what the text says: that is the answer. */
    checkRecipe: procedure
      .input(modelId.extend({ yaml: z.string().max(1_000_000), contextTokens: z.number().int().positive() }))
      .output(RecipeCheckSchema),
    /** The text of a form. */
    writeRecipe: procedure.input(RecipeFormSchema).output(z.object({ yaml: z.string() })),
    /** What each layer gets from a preset or a recipe, without overrides. */
    schemeMap: procedure
      .input(
        modelId.extend({
          choice: z.union([z.object({ presetId: z.string() }), z.object({ yaml: z.string().max(1_000_000) })]),
        }),
      )
      .output(SchemeMapSchema),
    inspectCalibration: procedure.input(modelId.extend({ calibration: CalibrationChoiceSchema })).output(CalibrationReportSchema),
    /** Measures layers, then chooses; ends with `done`. Losses are kept, so another target for the same schemes answers at once. */
    automatic: procedure.input(AutomaticRequestSchema).output(eventIterator(AutomaticEventSchema)),
    /** For one module of a variant that Lathe made. */
    raise: procedure.input(z.object({ variantId: z.string(), module: z.string() })).output(RaisePlanSchema),
  },
  jobs: {
    list: procedure.output(z.array(JobSchema)),
    get: procedure.input(jobId).output(JobSchema),
    log: procedure.input(jobId).output(z.array(JobLogLineSchema)),
    cancel: procedure.input(jobId).output(JobSchema),
    resume: procedure.input(jobId).output(JobSchema),
    remove: procedure.input(jobId).output(nothing),
  },
  results: {
    /** Result sets of a source model and all of its variants; the source comes first. */
    board: procedure
      .input(
        modelId.extend({
          /** Loss that the user allows, 0…1: verdicts are made anew against it. null = as they were made when measured. */
          margin: z.number().min(0).max(1).nullable().default(null),
        }),
      )
      .output(z.object({ models: z.array(ModelSummarySchema), results: z.array(ResultSetSchema) })),
    evaluate: procedure
      .input(
        z.object({
          modelIds: z.array(z.string()).min(1),
          evaluate: EvaluationOptionsSchema,
          /** Whom drift is measured from; null = the family's source. Tasks and speeds are beside the source whatever it is. */
          baselineId: z.string().nullable().default(null),
        }),
      )
      .output(z.array(JobSchema)),
    /** Any two models on the items that both have answered; verdicts against `margin`. */
    compare: procedure
      .input(z.object({ baselineId: z.string(), modelId: z.string(), margin: z.number().min(0).max(1) }))
      .output(z.array(TaskComparisonSchema)),
    /** The items of a task, beside a baseline's. */
    samples: procedure.input(SampleQuerySchema).output(SamplePageSchema),
    /** The positions of a drift measurement. */
    tokens: procedure.input(TokenQuerySchema).output(TokenPageSchema),
    /** The user's own tasks and the probes, on local and remote models; the family's source is the baseline. */
    evaluateTasks: procedure
      .input(z.object({ modelIds: z.array(z.string()).min(1), options: TaskRunOptionsSchema }))
      .output(z.array(JobSchema)),
    /** Puts a published results_….json (lm-eval's shape) on a family's board as a line to compare with; unpaired, and labelled so. */
    importPublished: procedure.input(modelId.extend({ path: z.string().min(1) })).output(ModelSummarySchema),
  },
  remotes: {
    /** Asks the server for its models; throws `remote.*` when it can't be used. */
    add: procedure.input(AddRemoteSchema).output(ModelSummarySchema),
    /** A key for this run of the studio; null forgets it. */
    setKey: procedure.input(modelId.extend({ apiKey: z.string().nullable() })).output(nothing),
  },
  benchmarks: {
    /** A load on a local model, driven in this process, or on a server. */
    start: procedure.input(StartServedBenchmarkSchema).output(JobSchema),
    /** The newest served benchmark of a model in another tool's shape, as text. */
    export: procedure
      .input(modelId.extend({ format: BenchmarkExportFormatSchema }))
      .output(z.object({ fileName: z.string(), text: z.string() })),
    /** The latencies of the newest served benchmark as another tool defines them, one entry per load. */
    latencies: procedure.input(modelId.extend({ convention: LatencyConventionSchema })).output(z.array(ConventionalLatenciesSchema)),
  },
  capacity: {
    /** GPUs, published model configurations and storage schemes to plan with. */
    catalog: procedure.output(CapacityCatalogSchema),
    plan: procedure.input(CapacityRequestSchema).output(CapacityPlanSchema),
    /** What the calibration of this adapter predicts for loads that were measured on it, beside what was measured. */
    checks: procedure.output(z.array(PredictionCheckSchema)),
  },
  monitor: {
    /** Scrapes a server's metrics now and returns the samples newer than `after`; all that are kept where it is null. */
    read: procedure.input(MonitorTargetSchema.extend({ after: z.string().nullable() })).output(MonitorReadingSchema),
    watches: procedure.output(z.array(QualityWatchSchema)),
    /** Watches a variant's quality, or stops (null). */
    setWatch: procedure
      .input(modelId.extend({ everyHours: z.number().positive().max(8760).nullable() }))
      .output(z.array(QualityWatchSchema)),
  },
  chat: {
    threads: procedure.output(z.array(ChatThreadSchema)),
    create: procedure.input(z.object({ modelId: z.string().nullable() })).output(ChatThreadSchema),
    update: procedure
      .input(
        threadId.extend({
          title: z.string().min(1).max(200).optional(),
          modelId: z.string().nullable().optional(),
          systemPrompt: z.string().optional(),
          sampling: SamplingSchema.optional(),
        }),
      )
      .output(ChatThreadSchema),
    remove: procedure.input(threadId).output(nothing),
    messages: procedure.input(threadId).output(z.array(ChatMessageSchema)),
    /** A new thread with everything up to this message and the same settings; the old one stays as it is. */
    branch: procedure.input(threadId.extend({ messageId: z.string() })).output(ChatThreadSchema),
    /** Takes back the last replacement of a thread: stops the new answer and brings back what it took the place of, as long as nothing follows it. */
    restore: procedure.input(threadId).output(z.array(ChatMessageSchema)),
    /** Threads in which somebody said this, newest first, each with the last place. */
    search: procedure
      .input(z.object({ text: z.string().min(1).max(200) }))
      .output(z.array(z.object({ threadId: z.string(), messageId: z.string(), snippet: z.string() }))),
    /** What was typed and not sent yet, by the page's own keys, so that it outlives the window. */
    drafts: procedure.output(z.record(z.string(), z.string())),
    /** An empty text forgets it. */
    saveDraft: procedure.input(z.object({ key: z.string().min(1).max(200), text: z.string().max(1_000_000) })).output(nothing),
    /** Ends with `done`, also when the client stops reading: then the partial answer is kept with stop reason `aborted`. */
    send: procedure.input(ChatSendSchema).output(eventIterator(ChatEventSchema)),
  },
  server: {
    /** Changes are announced by `server.changed`. */
    view: procedure.output(ServerViewSchema),
    /** Resolves when it accepts requests, which is after the first model has been loaded. */
    start: procedure.input(ServerConfigSchema).output(ServerViewSchema),
    /** Aborts what runs. */
    stop: procedure.output(ServerViewSchema),
    abort: procedure.input(z.object({ requestId: z.string() })).output(nothing),
    /** The key that clients must send; null = none was made yet. Only on request: no view, event, log or report holds it. */
    key: procedure.output(z.object({ apiKey: z.string().nullable() })),
    /** By the name that clients use. Loading resolves when it is done. */
    load: procedure.input(z.object({ name: z.string() })).output(ServerViewSchema),
    /** Fails with `model.busy` while a request uses it. */
    unload: procedure.input(z.object({ name: z.string() })).output(ServerViewSchema),
    /** Asks the running server something short over HTTP, as a client would. */
    test: procedure.output(ServerTestSchema),
  },
  runtime: {
    unload: procedure.input(modelId).output(nothing),
    /** One profiled decode and prefill step, kernel by kernel. */
    profile: procedure
      .input(modelId)
      .output(
        z.object({ decode: z.array(KernelShareSchema), prefill: z.array(KernelShareSchema), adapter: z.string(), software: z.boolean() }),
      ),
  },
}

export type Contract = typeof contract
