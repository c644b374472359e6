/** A capacity plan as one JSON object in snake_case and as tables for a terminal. */
import type { CapacityPlan, Estimate } from '../../../engine/contract/index.ts'
import { formatBytes, formatCount, formatFacts, formatTable } from '../format.ts'

export function planJson(model: string, plan: CapacityPlan): Readonly<Record<string, unknown>> {
  const { request, subject, gpu, parts, fit, kv, limits, speed, service, tensorParallel } = plan
  return {
    model,
    parameters: subject.parameters,
    scheme: subject.scheme,
    engine: request.engine,
    gpu: gpu.title,
    gpu_memory_bytes: gpu.memoryBytes,
    gpus_per_copy: tensorParallel.count,
    context: request.contextTokens,
    concurrency: request.concurrency,
    kv_dtype: request.kvElement,
    weight_bytes: fit.weightBytes,
    kv_bytes: fit.kvBytes,
    kv_bytes_per_token: kv.bytesPerToken,
    kv_bytes_per_token_reserved: kv.reservedBytesPerToken,
    kv_tokens: kv.tokens,
    activation_bytes: fit.activationBytes,
    reserve_bytes: parts.reserveBytes,
    fragmentation_bytes: parts.fragmentationBytes,
    budget_bytes: parts.budgetBytes,
    verdict: fit.verdict,
    largest_context: limits.context,
    model_context_limit: subject.contextLimit,
    largest_concurrency: limits.concurrency,
    usual_concurrency: limits.usualConcurrency,
    best_scheme: plan.bestSchemeId,
    schemes: plan.schemes.map((option) => ({
      id: option.scheme.id,
      bits_per_weight: option.scheme.bitsPerWeight,
      weight_bytes: option.weightBytes,
      verdict: option.verdict,
      largest_context: option.largestContext,
      largest_concurrency: option.largestConcurrency,
      estimated_decode_tokens_per_second: option.decode,
      caution: option.caution,
    })),
    estimated_decode_tokens_per_second: speed.decode,
    estimated_decode_tokens_per_second_together: speed.decodeTogether,
    estimated_prefill_tokens_per_second: speed.prefill,
    estimated_first_token_ms: speed.firstTokenMs,
    estimate_source: gpu.source,
    confidence: gpu.confidence,
    tensor_parallel: tensorParallel.choices,
    service:
      service === null
        ? null
        : {
            concurrency: service.concurrency,
            limited_by: service.limitedBy,
            output_tokens_per_second: service.tokensPerSecond,
            cost_per_million_tokens: service.costPerMillionTokens,
            gpus_for_users: service.gpusForUsers,
          },
    notes: plan.notes,
  }
}

const VERDICTS: Readonly<Record<CapacityPlan['fit']['verdict'], string>> = {
  fits: 'fits',
  tight: 'fits, with little to spare',
  context: 'does not fit at this context: shorten it, or serve fewer requests at once',
  weights: 'does not fit: the weights alone are too large; choose a smaller format or more GPUs',
  unknown: 'unknown: nobody says how much memory this adapter has',
}

const LIMITS: Readonly<Record<NonNullable<CapacityPlan['service']>['limitedBy'], string>> = {
  memory: 'by memory',
  'per-token': 'by the time per token',
  'first-token': 'by the time to the first token',
  server: 'by the sequences that the server takes',
}

function range(estimate: Estimate | null, unit: string): string {
  if (estimate === null) return 'unknown'
  return `${plainNumber(estimate.low)} to ${plainNumber(estimate.high)} ${unit}`
}

/** Two digits: more would be a lie. */
function plainNumber(value: number): string {
  return Number(value.toPrecision(2)).toLocaleString('en-US')
}

function count(value: number | null): string {
  return value === null ? 'unknown' : value.toLocaleString('en-US')
}

export function planText(plan: CapacityPlan): string {
  const { request, subject, gpu, parts, fit, kv, limits, speed, service, tensorParallel } = plan
  const refused = tensorParallel.choices.find((choice) => choice.count === tensorParallel.count && !choice.allowed)?.reason ?? null
  const each = tensorParallel.count > 1 ? ' on each GPU' : ''
  const facts: (readonly [string, string])[] = [
    ['Model', `${subject.title}, ${formatCount(subject.parameters)} parameters, ${subject.scheme}`],
    [
      'GPU',
      `${tensorParallel.count > 1 ? `${tensorParallel.count} × ` : ''}${gpu.title}${gpu.memoryBytes === null ? '' : `, ${formatBytes(gpu.memoryBytes)}`}, ${request.engine}`,
    ],
    ['Weights', formatBytes(fit.weightBytes) + each],
    [
      'KV cache',
      `${formatBytes(fit.kvBytes)}${each} for ${request.concurrency} × ${request.contextTokens} tokens (${request.kvElement}, ${formatBytes(kv.bytesPerToken)} a token)`,
    ],
    ['Activations, reserve', `${formatBytes(fit.activationBytes)}, ${formatBytes(parts.reserveBytes)}`],
    ['Verdict', refused === null ? VERDICTS[fit.verdict] : `no: ${refused}`],
    ['Largest context', `${count(limits.context)} tokens at ${request.concurrency} at once`],
    [
      'Most at once',
      `${count(limits.concurrency)} of ${request.contextTokens} tokens, ${count(limits.usualConcurrency)} of the usual ${request.promptTokens} + ${request.outputTokens}`,
    ],
    ['Most bits that fit', plan.bestSchemeId ?? 'none fits'],
    ['Decode (estimate)', `${range(speed.decode, 'tok/s')} alone, ${range(speed.decodeTogether, 'tok/s')} together`],
    ['Prefill (estimate)', `${range(speed.prefill, 'tok/s')}, first token after ${range(speed.firstTokenMs, 'ms')}`],
    ['Estimated from', gpu.source],
  ]
  if (service !== null) {
    facts.push([
      'Within the SLO',
      `${service.concurrency} at once (limited ${LIMITS[service.limitedBy]}), ${range(service.tokensPerSecond, 'tok/s')}`,
    ])
    if (service.costPerMillionTokens !== null)
      facts.push([
        'Cost of 1 M output tokens',
        `${service.costPerMillionTokens.low.toPrecision(2)} to ${service.costPerMillionTokens.high.toPrecision(2)}, serving ${(request.busyShare * 100).toFixed(0)} % of the paid time`,
      ])
    if (service.gpusForUsers !== null) facts.push(['GPUs for them', `${service.gpusForUsers} for ${count(request.users)} people`])
  }
  const schemes = formatTable([
    ['Scheme', 'Weights', 'Fits', 'Largest context', 'At once', 'Decode tok/s'],
    ...plan.schemes.map((option) => [
      option.scheme.id,
      formatBytes(option.weightBytes),
      option.caution === null ? option.verdict : `${option.verdict} *`,
      count(option.largestContext),
      count(option.largestConcurrency),
      option.decode === null ? '' : `${plainNumber(option.decode.low)}–${plainNumber(option.decode.high)}`,
    ]),
  ])
  const cautions = [...new Set(plan.schemes.flatMap((option) => (option.caution === null ? [] : [`* ${option.caution}`])))]
  return [formatFacts(facts), '', schemes, ...cautions, ...plan.notes.map((note) => `Note: ${note}`)].join('\n')
}
