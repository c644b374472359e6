/**
 * What the HTTP surface needs of a model and of the collection it comes from. The studio and the command line implement it; tests use a
 * model of their own. The surface itself never loads files and never picks an adapter.
 */
import type { Runtime } from '../runtime/types.ts'

export interface ServedTokenizer {
  encode(text: string, options: { readonly addSpecialTokens: boolean }): Uint32Array
  decode(ids: Uint32Array, options: { readonly skipSpecialTokens: boolean }): string
  /** The exact bytes a token stands for. */
  tokenBytes(id: number): Uint8Array
}

export interface ServedModel {
  /** Name clients use; no spaces, since load tools split metric lines on them. */
  readonly name: string
  /** Unix seconds. */
  readonly created: number
  readonly runtime: Runtime
  readonly tokenizer: ServedTokenizer
  /** Renders with the model's own template. Throws `tokenizer.no-chat-template`. */
  renderChat(
    messages: readonly { readonly role: string; readonly content: string }[],
    options: { readonly addGenerationPrompt: boolean },
  ): string
}

export interface ServedModelCard {
  readonly name: string
  readonly aliases: readonly string[]
  readonly created: number
  /** Effective context, which memory may have made smaller than the checkpoint's; null until loaded. */
  readonly contextLimit: number | null
}

export interface ServedModels {
  cards(): readonly ServedModelCard[]
  /** The model of that exact name or alias, loading it if need be; null when there is none: no other model ever answers in its place. */
  acquire(name: string, signal: AbortSignal): Promise<{ readonly model: ServedModel; release(): void } | null>
}
