/**
 * `/studio/fit`: would this model fit with such a context, so many requests and such a cache, and what would (specs/runtime.md §18). The estimate is
 * the one behind every FitBar; here are only its fields as HTTP has them.
 */
import { z } from 'zod'
import { kvElementsOf } from '../contract/index.ts'
import { optional, parseBody } from './parse-body.ts'
import type { FitEstimate, FitWish } from './served-model.ts'

/** The planner's own bounds. */
const MOST_CONTEXT = 2 ** 24
const MOST_CONCURRENCY = 1_000_000

/** A query string has numbers as text; an empty one is no number. */
const count = (most: number) =>
  z.union([z.number(), z.string().regex(/^\d+$/, 'expected a whole number').transform(Number)]).pipe(z.number().int().min(1).max(most))

const FitSchema = z.object({
  model: optional(z.string().min(1)),
  context: optional(count(MOST_CONTEXT)),
  concurrency: optional(count(MOST_CONCURRENCY)),
  kv_dtype: optional(
    z
      .string()
      .refine((text) => text === 'auto' || kvElementsOf(text) !== null, 'no such type of cache; take auto, f16, fp8, int8, int4 or f32'),
  ),
  scheme: optional(z.string().min(1)),
  device: optional(z.string().min(1)),
})

export type FitFields = z.output<typeof FitSchema>

/** A query or a body. Throws 400 naming the field. */
export function parseFit(given: unknown): FitFields {
  return parseBody(FitSchema, given)
}

export function fitWishOf({ context, concurrency, kv_dtype, scheme, device }: FitFields): FitWish {
  return {
    contextTokens: context ?? null,
    concurrency: concurrency ?? null,
    kvDtype: kv_dtype ?? null,
    schemeId: scheme ?? null,
    deviceId: device ?? null,
  }
}

/** Whether what is beside the computed parts was measured on this device, and by what. */
function overheadBody(overhead: FitEstimate['plan']['overhead']): object {
  if (overhead === undefined) return { source: 'assumed', bytes: 0, loads: 0, newest: null }
  return { source: 'measured', bytes: overhead.bytes, loads: overhead.loads, newest: overhead.newestAt }
}

export function fitBody(name: string, { plan, kvDtype, measured, loaded }: FitEstimate): object {
  const { request, subject, gpu, parts, fit, kv, limits, schemes, bestSchemeId, notes } = plan
  const best = schemes.find((option) => option.scheme.id === bestSchemeId)
  const {
    weightBytes,
    kvBytes,
    activationBytes,
    logitBytes,
    reserveBytes,
    stagingBytes,
    overheadBytes = 0,
    residentBytes,
    marginBytes,
    budgetBytes,
  } = parts
  return {
    model: name,
    title: subject.title,
    scheme: subject.scheme,
    context: request.contextTokens,
    concurrency: request.concurrency,
    kv_dtype: kvDtype,
    device: { name: gpu.title, software: gpu.software },
    verdict: fit.verdict,
    fits: fit.verdict === 'unknown' ? null : fit.verdict === 'fits' || fit.verdict === 'tight',
    predicted: {
      weight_bytes: weightBytes,
      kv_bytes: kvBytes,
      activation_bytes: activationBytes - logitBytes,
      logit_bytes: logitBytes,
      staging_bytes: stagingBytes,
      overhead_bytes: reserveBytes - stagingBytes,
      fixed_overhead_bytes: overheadBytes,
      resident_bytes: residentBytes,
      total_bytes: weightBytes + kvBytes + activationBytes + overheadBytes + reserveBytes + residentBytes,
      margin_bytes: marginBytes,
    },
    overhead: overheadBody(plan.overhead),
    kv_bytes_per_token: kv.reservedBytesPerToken,
    budget: { bytes: budgetBytes, free_bytes: gpu.freeBytes, source: gpu.memorySource },
    solves: {
      context: limits.context,
      concurrency: limits.concurrency,
      scheme: best === undefined ? null : { id: best.scheme.id, title: best.scheme.title, weight_bytes: best.weightBytes },
    },
    max_position_embeddings: subject.contextLimit,
    measured:
      measured === null
        ? null
        : {
            weight_bytes: measured.weightBytes,
            kv_bytes: measured.kvBytes,
            other_bytes: measured.otherBytes,
            total_bytes: measured.weightBytes + measured.kvBytes + measured.otherBytes,
            max_model_len: measured.contextLimit,
            kv_dtype: measured.kvDtype ?? null,
          },
    loaded: loaded.map(({ name: title, bytes, inUse }) => ({ name: title, bytes, in_use: inUse })),
    notes,
  }
}
