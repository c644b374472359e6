/** `lathe inspect`: what a model folder is, from its headers alone. */
import type { Command } from '../command.ts'
import { formatBytes, formatCount, formatFacts, formatTable } from '../format.ts'

export const inspect: Command = {
  usage: 'lathe inspect <folder> [--tensors]',
  summary: 'what a model folder is, from its headers alone',
  options: { tensors: { type: 'boolean', help: 'list every tensor' } },
  async run(args, context) {
    const folder = args.onlyPositional('model folder')
    const { checkpoint } = await context.engine()
    const facts = await checkpoint.inspect(folder)
    const { architecture } = facts
    const bytes = Object.entries(facts.bytesByDtype).map(([dtype, sum]) => `${dtype} ${formatBytes(sum)}`)
    const summary = formatFacts([
      ['Architecture', `${architecture.className} (${architecture.family})`],
      ['Parameters', formatCount(facts.parameters)],
      ['Weights', `${formatBytes(facts.weightBytes)} as ${facts.scheme}, ${facts.bitsPerWeight.toFixed(2)} bits per weight`],
      ['Stored', bytes.join(', ')],
      ['Layers', String(architecture.layers ?? 'unknown')],
      ['Context', `${architecture.contextLength ?? 'unknown'} tokens`],
      ['KV cache', kvCacheLine(facts)],
      ['Tokenizer', facts.hasTokenizer ? `yes, ${facts.hasChatTemplate ? 'with' : 'without'} a chat template` : 'none'],
      ['Licence', facts.license ?? 'not stated'],
      ['Runs here', facts.unsupported === null ? 'yes' : `no: ${facts.unsupported.message}`],
    ])
    const tensors = facts.tensors.map((tensor) => [
      tensor.name,
      tensor.dtype,
      tensor.shape.join(' × '),
      formatBytes(tensor.bytes),
      tensor.file,
    ])
    return {
      json: {
        path: folder,
        architecture: {
          family: architecture.family,
          class_name: architecture.className,
          layers: architecture.layers,
          hidden_size: architecture.hiddenSize,
          intermediate_size: architecture.intermediateSize,
          attention_heads: architecture.attentionHeads,
          key_value_heads: architecture.keyValueHeads,
          head_dim: architecture.headDim,
          vocab_size: architecture.vocabSize,
          context_length: architecture.contextLength,
          tied_embeddings: architecture.tiedEmbeddings,
          sliding_window: architecture.slidingWindow,
        },
        parameters: facts.parameters,
        weight_bytes: facts.weightBytes,
        disk_bytes: facts.diskBytes,
        scheme: facts.scheme,
        bits_per_weight: facts.bitsPerWeight,
        bytes_by_dtype: facts.bytesByDtype,
        bytes_by_kind: facts.bytesByKind,
        kv_bytes_per_token: facts.kvBytesPerToken,
        kv_cache_dtype: facts.kvCacheDtype ?? null,
        kv_cache_scales: facts.hasKvScales === true,
        has_tokenizer: facts.hasTokenizer,
        has_chat_template: facts.hasChatTemplate,
        license: facts.license,
        runnable: facts.unsupported === null,
        unsupported: facts.unsupported?.toShape() ?? null,
        files: facts.files,
        tensors: facts.tensors,
      },
      text: args.flag('tensors') ? `${summary}\n\n${formatTable([['Tensor', 'Type', 'Shape', 'Size', 'File'], ...tensors])}` : summary,
    }
  },
}

function kvCacheLine({
  kvBytesPerToken,
  hasKvScales,
  kvCacheDtype,
}: {
  readonly kvBytesPerToken: number | null
  readonly hasKvScales?: boolean
  readonly kvCacheDtype?: string | null
}): string {
  const named = (kvCacheDtype ?? null) === null ? '' : `; names ${kvCacheDtype}, which serving takes unless told otherwise`
  const scales = hasKvScales === true ? (named === '' ? '; brings scales for --kv-dtype fp8' : ', and brings its scales') : ''
  return kvBytesPerToken === null ? 'unknown' : `${formatBytes(kvBytesPerToken)} per token (f16)${named}${scales}`
}
