/** POST /v1/embeddings: vectors of texts, from the hidden states of the model where its runtime can give them (specs/runtime.md §12). */
import { z } from 'zod'
import { ApiError } from './api-error.ts'
import { readJson, sendJson } from './http-exchange.ts'
import type { Handler } from './http-exchange.ts'
import type { ModelService } from './model-service.ts'
import { badRequest, optional, parseBody } from './parse-body.ts'

const TOKENS = z.array(z.number().int().min(0)).min(1)
const EmbeddingsSchema = z.object({
  model: z.string().min(1),
  input: z.union([z.string(), z.array(z.string()).min(1), TOKENS, z.array(TOKENS).min(1)]),
  encoding_format: optional(z.enum(['float', 'base64'])),
  dimensions: optional(z.number().int().min(1)),
  /** `last`: the state after the last token, as decoder models are trained for; `mean`: of all tokens. */
  pooling: optional(z.enum(['last', 'mean'])),
  normalize: optional(z.boolean()),
  truncate_prompt_tokens: optional(z.number().int().min(-1)),
  add_special_tokens: optional(z.boolean()),
})
/** Texts of one request; they are computed one after the other. */
const MAX_INPUTS = 2048

export function embeddingsRoute(service: ModelService): Handler {
  return async ({ request, response, signal }) => {
    const body = parseBody(EmbeddingsSchema, service.withModel(await readJson(request)))
    const inputs = inputsOf(body.input)
    if (inputs.length > MAX_INPUTS) throw badRequest('input', `There are ${inputs.length} inputs; at most ${MAX_INPUTS} are allowed.`)
    await service.use(body.model, signal, async ({ name, runtime, tokenizer }) => {
      if (runtime.embed === undefined) throw new ApiError(501, `${name} runs on a runtime that gives no hidden states.`, { param: 'model' })
      const { contextLimit, vocabulary } = runtime.info
      const data: object[] = []
      let promptTokens = 0
      for (const [index, input] of inputs.entries()) {
        const all =
          typeof input === 'string'
            ? tokenizer.encode(input, { addSpecialTokens: body.add_special_tokens ?? true })
            : Uint32Array.from(input)
        const keep = body.truncate_prompt_tokens === -1 ? contextLimit : (body.truncate_prompt_tokens ?? all.length)
        const tokens = all.slice(Math.max(0, all.length - keep))
        if (tokens.length === 0) throw badRequest('input', `Input ${index} has no tokens.`)
        if (tokens.some((id) => id >= vocabulary))
          throw badRequest('input', `Input ${index} holds a token outside of the vocabulary of ${vocabulary}.`)
        if (tokens.length > contextLimit)
          throw badRequest(
            'input',
            `This model's maximum context length is ${contextLimit} tokens. Input ${index} has ${tokens.length} tokens.`,
          )
        const vector = await runtime.embed({ tokens, pooling: body.pooling ?? 'last', signal })
        promptTokens += tokens.length
        const embedding = finished(vector, body.dimensions, body.normalize ?? true)
        data.push({ object: 'embedding', index, embedding: body.encoding_format === 'base64' ? base64(embedding) : [...embedding] })
      }
      sendJson(response, 200, {
        object: 'list',
        data,
        model: name,
        usage: { prompt_tokens: promptTokens, total_tokens: promptTokens, completion_tokens: 0 },
      })
    })
  }
}

function inputsOf(input: z.output<typeof EmbeddingsSchema>['input']): readonly (string | readonly number[])[] {
  if (typeof input === 'string') return [input]
  return typeof input[0] === 'number' ? [input as number[]] : (input as string[] | number[][])
}

/** Cut to the wanted length, then to length 1, so that a dot product is the cosine. */
function finished(vector: Float32Array, dimensions: number | undefined, normalize: boolean): Float32Array {
  if (dimensions !== undefined && dimensions > vector.length)
    throw badRequest('dimensions', `This model's vectors have ${vector.length} dimensions, not ${dimensions}.`)
  const cut = vector.slice(0, dimensions ?? vector.length)
  if (!normalize) return cut
  const norm = Math.sqrt(cut.reduce((sum, value) => sum + value * value, 0))
  return norm === 0 ? cut : cut.map((value) => value / norm)
}

/** Little-endian f32, as OpenAI's clients decode it. */
function base64(vector: Float32Array): string {
  const bytes = new DataView(new ArrayBuffer(4 * vector.length))
  for (const [index, value] of vector.entries()) bytes.setFloat32(4 * index, value, true)
  return Buffer.from(bytes.buffer).toString('base64')
}
