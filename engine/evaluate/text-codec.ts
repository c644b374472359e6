/** What evaluation needs of a tokenizer; engine/tokenizer satisfies it. */
export interface TextCodec {
  /** Token ids of a text as it stands: special tokens written in it are parsed, none are added. */
  encode(text: string, options: { readonly addSpecialTokens: boolean }): Uint32Array
  readonly bosTokenId: number | null
  readonly eosTokenId: number | null
}
