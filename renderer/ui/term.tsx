/** A piece of jargon with its one-line definition on hover. The definitions live here and only here. */
import type { ReactNode } from 'react'
import { Info } from './info.tsx'

const DEFINITIONS = {
  kld: 'KL divergence: how differently the two models predict the next token, in nats per token. 0 is identical.',
  perplexity: 'How surprised the model is by held-out text. Lower is better; compare only on the same text and protocol.',
  'bits-per-byte':
    'The same surprise per byte of the text instead of per token: models of different tokenizers can be compared by it. Lower is better.',
  'delta-p': 'How much the probability of the token that stands in the text changed, as a root mean square over the text. 0 is identical.',
  top1: 'How often both models pick the same most likely next token.',
  ttft: 'Time to first token: from sending the prompt to the first token of the answer.',
  itl: 'Inter-token latency: the pause between two tokens of an answer.',
  prefill: 'Reading the prompt. Many tokens at once, limited by arithmetic.',
  decode: 'Writing the answer, one token at a time. Limited by how fast the weights can be read.',
  energy: 'Energy that the device used while it answered, prompt included, per token of the answers. 1 J is one watt for a second.',
  kv: 'Keys and values of every token in the context, kept so that they are not computed again. Grows with the context.',
  activations: 'Scratch memory for the step being computed.',
  overhead: 'What earlier loads on this device took beyond their prediction: the middle of the newest few. Another driver starts anew.',
  reserve: 'Left to the driver, the server’s own buffers and the desktop; the model cannot have it.',
  'bits-per-weight': 'Average storage per parameter, scales and tensors left as they were included.',
  'group-size': 'How many neighbouring weights share one scale. Smaller groups follow the weights more closely and cost more bits.',
  scheme: 'What is stored: W is bits per weight, A bits per activation, g the group size.',
  sqnr: 'Signal to quantization-noise ratio in dB. Higher is closer to the original; 6 dB is about one bit.',
  'layer-output-error':
    'How far the layer’s output is from the original’s on calibration text, as a share of what the layer adds to its input.',
  'layer-weight-error': 'The largest relative error among the layer’s matrices. How much of it reaches the answers is measured afterwards.',
  context: 'How many tokens the model can look back on, your prompt and its answer together.',
  'non-inferior':
    'Tested on the same items: as good when the loss is smaller than what you allow, with 95 % confidence. Where the items can’t tell, nothing is claimed.',
  wilson: 'The range in which the true score lies with 95 % confidence, given how many items were asked.',
  'same-text': 'Greedy answers to the same items that are the same to the byte.',
  'first-difference':
    'Where answers that differ leave the original’s, counted from 0: a late place means a long common beginning. One other word is enough to part.',
  lead: 'How much more probable the original’s own token was than its second choice, where the answers part. Near 1× it was a tie that rounding alone can turn: then the words differ, and the models hardly. Not known for servers that do not tell, and for answers kept by earlier versions.',
  'to-edit': 'What would have to be put in, left out or replaced to turn one answer into the other, as a share of the longer one.',
  'prefix-cache': 'Share of prompt tokens that were not computed because an earlier request began the same way.',
  speculation: 'Share of the tokens guessed ahead by a draft that the model itself would have chosen.',
  'software-adapter': 'The graphics driver runs on the CPU here. Results are the same; speeds say nothing about a real GPU.',
} as const

export type TermName = keyof typeof DEFINITIONS

export function termDefinition(name: TermName): string {
  return DEFINITIONS[name]
}

export function Term({ name, children }: { readonly name: TermName; readonly children: ReactNode }) {
  return (
    <Info underlined card={DEFINITIONS[name]}>
      {children}
    </Info>
  )
}
