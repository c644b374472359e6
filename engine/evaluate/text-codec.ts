/** What evaluation needs of a tokenizer; engine/tokenizer satisfies it. */
export interface TextCodec {
  /** Token ids of a text as it stands: special tokens written in it are parsed, none are added. */
  encode(text: string, options: { readonly addSpecialTokens: boolean }): Uint32Array
  /** Bytes that a token stands for; absent where they are not known. */
  tokenBytes?(id: number): Uint8Array
  readonly bosTokenId: number | null
  readonly eosTokenId: number | null
}
