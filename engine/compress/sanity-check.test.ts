/** A result generates a few tokens before it gets its name, and one that can't is not published. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Backend, Executable } from '../gpu/program.ts'
import { createReferenceBackend } from '../gpu/reference/backend.ts'
import { compress } from './pipeline.ts'
import { parseRecipeYaml } from './recipe-yaml.ts'
import { writeRandomModel } from './testing/random-model.ts'
import type { CompressOptions } from './types.ts'

let root: string
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'lathe-sanity-'))
  await writeRandomModel(join(root, 'model'), { layers: 1, hidden: 32, intermediate: 64, heads: 2, kvHeads: 1, seed: 7 })
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

function optionsFor(name: string, openTrial: () => Promise<Backend | null>, log: string[]): CompressOptions {
  return {
    sourceFolder: join(root, 'model'),
    outFolder: join(root, name),
    recipe: { recipe: parseRecipeYaml('QuantizationModifier: {scheme: W8A8, ignore: [lm_head]}') },
    seed: 0,
    resume: false,
    latheVersion: 'test',
    openTrial,
    onLog: (line) => log.push(`${line.level}: ${line.text}`),
  }
}

/** Every step says that a logit was no number. */
function spoiled(executable: Executable): Executable {
  return new Proxy(executable, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target)
      if (key === 'step') return async (...input: Parameters<Executable['step']>) => ({ ...(await target.step(...input)), nonFinite: true })
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}

function broken(backend: Backend): Backend {
  return new Proxy(backend, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target)
      if (key === 'compile') return async (...input: Parameters<Backend['compile']>) => spoiled(await target.compile(...input))
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}

it('runs what was made without calibration, says where it could not, and publishes nothing that gives no numbers', async () => {
  const log: string[] = []
  const reference = createReferenceBackend()
  await compress(
    optionsFor('runs', () => Promise.resolve(reference), log),
    { threads: 1 },
  )
  expect(log).toContain('info: It runs: a few tokens were generated, all logits finite.')
  expect([...reference.usage().values()].reduce((sum, { bytes }) => sum + bytes, 0)).toBe(0)
  await compress(
    optionsFor('untried', () => Promise.resolve(null), log),
    { threads: 1 },
  )
  expect(log.findLast((line) => line.startsWith('warn: It was not run'))).toMatch(/without a GPU a model of this size takes too long/)
  const failing = compress(
    optionsFor('broken', () => Promise.resolve(broken(createReferenceBackend())), log),
    { threads: 1 },
  )
  await expect(failing).rejects.toMatchObject({ code: 'compress.verification-failed' })
  expect(existsSync(join(root, 'broken'))).toBe(false)
})
