/**
 * What a preset that tries several results has done so far, beside the output: `.<name>.candidates/state.json` and one folder per finished or
 * unfinished candidate. Written whole after each step, so that whatever ends the process, a later run continues where it stopped; a state
 * that was begun with something else is refused.
 */
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { mismatch } from '../../compress/journal.ts'
import type { CompressReport } from '../../compress/types.ts'

const STATE_FILE = 'state.json'

const DivergenceSchema = z.object({
  /** Null = no number: JSON has no infinity. */
  kldMean: z.number().nullable(),
  kldStandardError: z.number().nullable(),
  top1Agreement: z.number().nullable(),
  tokens: z.number(),
})

const StateSchema = z.object({
  version: z.literal(1),
  /** SHA-256 of everything that results depend on. */
  subject: z.string(),
  /** Measured losses of layers: by unit id and option. */
  losses: z.record(z.string(), z.number()).default({}),
  /** Measured divergence of whole maps before anything was written: by place in the front. */
  maps: z.record(z.string(), z.number()).default({}),
  candidates: z
    .array(
      z.object({
        id: z.string(),
        report: z.custom<CompressReport>(
          (value) => typeof value === 'object' && value !== null && 'bytesOut' in value && 'tensors' in value,
        ),
        measured: DivergenceSchema.nullable(),
      }),
    )
    .default([]),
})
export type OutcomeState = z.infer<typeof StateSchema>

export interface StateStore {
  readonly folder: string
  readonly state: OutcomeState
  /** Changes it in memory and on the disk. */
  update(change: Partial<OutcomeState>): Promise<void>
}

/** Where candidates of `outFolder` are made. */
export function candidatesFolderOf(outFolder: string): string {
  const out = resolve(outFolder)
  return join(dirname(out), `.${basename(out)}.candidates`)
}

/** The folder of one candidate. Named like the output, so that its model card is. */
export function candidateFolder(outFolder: string, id: string): string {
  return join(candidatesFolderOf(outFolder), id, basename(resolve(outFolder)))
}

export async function discardCandidates(outFolder: string): Promise<void> {
  await rm(candidatesFolderOf(outFolder), { recursive: true, force: true })
}

/** Continues what is there, or begins. Throws `compress.journal-mismatch` for a state of another subject. */
export async function openState(outFolder: string, subject: string, resume: boolean): Promise<StateStore> {
  const folder = candidatesFolderOf(outFolder)
  if (!resume) await discardCandidates(outFolder)
  await mkdir(folder, { recursive: true })
  const path = join(folder, STATE_FILE)
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  let state: OutcomeState = { version: 1, subject, losses: {}, maps: {}, candidates: [] }
  if (text !== null) {
    const parsed = StateSchema.safeParse(parse(text))
    if (!parsed.success) throw mismatch('its record of candidates is damaged')
    if (parsed.data.subject !== subject) throw mismatch('it was begun with another source, preset, text or seed')
    state = parsed.data
  }
  let writing: Promise<void> = Promise.resolve()
  const store = {
    folder,
    get state(): OutcomeState {
      return state
    },
    async update(change: Partial<OutcomeState>): Promise<void> {
      state = { ...state, ...change }
      const bytes = JSON.stringify(state)
      writing = writing.then(async () => {
        await writeFile(`${path}.new`, bytes)
        await rename(`${path}.new`, path)
      })
      await writing
    },
  }
  if (text === null) await store.update({})
  return store
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    // The schema refuses what comes of it.
    return undefined
  }
}
