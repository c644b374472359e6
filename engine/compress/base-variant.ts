/**
 * A finished result as something to take tensors from: what its recipe.yaml and run.json say of how it was made and of each tensor's bytes.
 * Believes neither: take-over.ts hashes what it takes. Knows no journal and writes nothing.
 */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { openCheckpoint } from '../checkpoint/open.ts'
import type { Checkpoint } from '../checkpoint/types.ts'
import { LatheError } from '../contract/errors.ts'
import { BYTES_VERSION } from './journal.ts'
import { RECIPE_FILE, RUN_FILE } from './output-files.ts'
import { planCompression } from './plan.ts'
import { parseRecipeYaml } from './recipe-yaml.ts'
import type { Recipe } from './recipe.ts'
import { rotateCheckpoint } from './rotation/rotated-checkpoint.ts'
import { sameMaking } from './same-making.ts'
import type { Making, SameMaking } from './same-making.ts'
import { sha256 } from './sha256.ts'
import type { BaseVariant } from './types.ts'

/** A run.json has a few hundred bytes per tensor; far beyond the largest model, and small enough to parse. */
const MAX_RUN_BYTES = 64 << 20

const DigestSchema = z.object({ sha256: z.string() })

const RunSchema = z.object({
  run: z.literal('lathe-compression'),
  bytes_version: z.number(),
  seed: z.number(),
  recipe_sha256: z.string(),
  calibration: z.object({ sha256: z.string(), adapter: z.string(), propagate: z.enum(['compressed', 'original']) }).nullable(),
  source: z.object({ tensors: z.record(z.string(), DigestSchema) }),
  tensors: z.array(
    z.object({
      name: z.string(),
      sqnr_db: z.number().nullable(),
      relative_error: z.number(),
      max_error: z.number(),
      cosine: z.number(),
    }),
  ),
  scales: z.record(z.string(), z.object({ count: z.number(), of_zero_groups: z.number() })),
  output: z.record(z.string(), DigestSchema.extend({ bytes: z.number() })),
  decoded: z.record(z.string(), DigestSchema),
  layers: z.array(z.object({ layer: z.number(), output_error: z.number().nullable() })),
  sparsities: z.record(z.string(), z.array(z.number())),
})

export type BaseRun = z.infer<typeof RunSchema>

export interface OpenedBase extends AsyncDisposable {
  readonly name: string
  readonly checkpoint: Checkpoint
  readonly run: BaseRun
  /** Resolved against the source that the new run has. */
  readonly making: Making
}

/** What `base` was made of, seen over `source`; a text says why it is no base. Headers and side files only. */
export async function openBase({ folder, name }: BaseVariant, source: Checkpoint): Promise<OpenedBase | string> {
  const run = await readRun(folder)
  if (typeof run === 'string') return run
  const text = await readFile(join(folder, RECIPE_FILE), 'utf8').catch(() => null)
  if (text === null || sha256(text) !== run.recipe_sha256) return `its ${RECIPE_FILE} is not the one that it was made with`
  try {
    const recipe = parseRecipeYaml(text)
    const plan = planCompression(source, recipe)
    const checkpoint = await openCheckpoint(folder)
    return {
      name,
      checkpoint,
      run,
      making: { recipe, plan, seed: run.seed, calibration: run.calibration },
      [Symbol.asyncDispose]: () => checkpoint[Symbol.asyncDispose](),
    }
  } catch (error) {
    if (error instanceof LatheError) return error.message
    throw error
  }
}

/** What a run of `recipe` over `checkpoint` would take over, were its seed, text and adapter those of the base. */
export async function takenOverBy(
  checkpoint: Checkpoint,
  recipe: Recipe,
  variant: BaseVariant,
): Promise<Pick<SameMaking, 'layers' | 'ofLayers' | 'nothing'>> {
  // The seed of a rotation changes values, never shapes.
  const rotation = recipe.steps.find((step) => step.kind === 'rotation')
  const source = rotation === undefined ? checkpoint : rotateCheckpoint(checkpoint, rotation, { seed: 0 }).checkpoint
  const plan = planCompression(source, recipe)
  const opened = await openBase(variant, source)
  if (typeof opened === 'string') return { ...sameMaking(source, { recipe, plan, seed: 0, calibration: null }, null), nothing: opened }
  await using base = opened
  return sameMaking(source, { ...base.making, recipe, plan }, base.making)
}

async function readRun(folder: string): Promise<BaseRun | string> {
  const path = join(folder, RUN_FILE)
  let json: unknown
  try {
    if ((await stat(path)).size > MAX_RUN_BYTES) return `its ${RUN_FILE} is not one that Lathe wrote`
    json = JSON.parse(await readFile(path, 'utf8'))
  } catch {
    return `it has no ${RUN_FILE} that can be read`
  }
  const run = RunSchema.safeParse(json)
  if (!run.success || run.data.bytes_version !== BYTES_VERSION) return 'it was made by another version of Lathe'
  return run.data
}
