/** From a wish to a Speculator; loads the draft model beside its target, on the same device and under the same owner. */
import { openCheckpoint } from '../../checkpoint/open.ts'
import { LatheError } from '../../contract/errors.ts'
import type { Backend } from '../../gpu/program.ts'
import { loadModel, type LoadedModel } from '../../model/load.ts'
import { describeModel } from '../../model/spec.ts'
import type { OpenRuntimeOptions, Speculation } from '../types.ts'
import { DraftModelProposer } from './draft-model.ts'
import { NgramProposer } from './ngram.ts'
import type { Proposer } from './proposer.ts'
import { Speculator } from './speculator.ts'

/** Guesses per step: more are rarely all right, and each is a row to compute. */
const DEFAULT_TOKENS = 4
const MOST_TOKENS = 16
/** A draft model reads prompts between the target's steps: small bites keep answers flowing. */
const DRAFT_STEP_TOKENS = 256

export interface SpeculatorSetting {
  readonly model: LoadedModel
  readonly backend: Backend
  readonly owner: string
  readonly kvDtype: OpenRuntimeOptions['kvDtype']
  readonly signal?: AbortSignal | undefined
}

/** null without a wish. Throws `runtime.invalid-request`, and for a draft model what opening it throws or `gpu.unsupported` for another vocabulary. */
export async function openSpeculator(speculation: Speculation | undefined, setting: SpeculatorSetting): Promise<Speculator | null> {
  if (speculation === undefined) return null
  const { tokens = DEFAULT_TOKENS } = speculation
  if (!Number.isInteger(tokens) || tokens < 1 || tokens > MOST_TOKENS) {
    throw new LatheError('runtime.invalid-request', `${tokens} speculated tokens per step.`, `Ask for 1…${MOST_TOKENS}.`)
  }
  const proposer = speculation.kind === 'ngram' ? new NgramProposer() : await openDraftModel(speculation.source, setting)
  return new Speculator({ proposer, tokens, contextLimit: setting.model.contextTokens })
}

async function openDraftModel(
  source: Extract<Speculation, { kind: 'draft' }>['source'],
  { model, backend, owner, kvDtype, signal }: SpeculatorSetting,
): Promise<Proposer> {
  if (typeof source === 'string') {
    await using checkpoint = await openCheckpoint(source)
    return await openDraftModel(checkpoint, { model, backend, owner, kvDtype, signal })
  }
  const { vocabulary } = describeModel(source.config, source.generationConfig)
  if (vocabulary !== model.spec.vocabulary) {
    throw new LatheError(
      'gpu.unsupported',
      `The draft model has ${vocabulary} tokens, the model ${model.spec.vocabulary}.`,
      'Speculate with a smaller or more compressed model of the same family and tokenizer.',
    )
  }
  const { blocks, blockSize } = model.kv.layout
  const { sequences } = model.capacity
  const draft = await loadModel({
    checkpoint: source,
    backend,
    contextTokens: model.contextTokens,
    kvDtype,
    kvTokens: (blocks - 1) * blockSize,
    blockSize,
    capacity: { tokens: Math.max(DRAFT_STEP_TOKENS, sequences), rows: sequences, sequences },
    owner,
    signal,
  })
  return new DraftModelProposer({
    executable: draft.executable,
    blocks: draft.kv.layout.blocks,
    blockSize: draft.kv.layout.blockSize,
    contextLimit: draft.contextTokens,
    release: () => draft.dispose(),
  })
}
