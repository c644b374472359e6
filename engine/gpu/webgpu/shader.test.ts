/** The WGSL preprocessor, and that every kernel file passes through it. */
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { expandShader } from './shader.ts'

const lines = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')

describe('expandShader', () => {
  it('keeps one branch of a condition', () => {
    const text = '//#if A\na\n//#else\nb\n//#end\n//#if !A\nc\n//#end'
    expect(lines(expandShader(text, { A: true }, 'x'))).toEqual(['a'])
    expect(lines(expandShader(text, {}, 'x'))).toEqual(['b', 'c'])
    expect(lines(expandShader(text, { A: 0 }, 'x'))).toEqual(['b', 'c'])
  })

  it('repeats, nests and counts', () => {
    const text = '//#repeat r ROWS\nrow {r}\n//#repeat c 2\ncell {r}_{c} {2*c+1} {WIDTH}\n//#end\n//#end'
    expect(lines(expandShader(text, { ROWS: 2, WIDTH: 7 }, 'x'))).toEqual([
      'row 0',
      'cell 0_0 1 7',
      'cell 0_1 3 7',
      'row 1',
      'cell 1_0 1 7',
      'cell 1_1 3 7',
    ])
  })

  it('names the file and line of a mistake', () => {
    expect(() => expandShader('//#if A\na', {}, 'broken')).toThrow('broken.wgsl:1: block without //#end')
    expect(() => expandShader('//#frob', {}, 'broken')).toThrow('broken')
    expect(() => expandShader('//#repeat i N\n//#end', {}, 'broken')).toThrow('no constant N')
    expect(() => expandShader('{N}', {}, 'broken')).toThrow('no constant N')
  })
})

it('every kernel starts with what it computes', () => {
  const folder = new URL('./kernels/', import.meta.url)
  const files = readdirSync(folder).filter((name) => name.endsWith('.wgsl'))
  expect(files.length).toBeGreaterThan(10)
  for (const file of files) expect([file, readFileSync(new URL(file, folder), 'utf8').slice(0, 3)]).toEqual([file, '// '])
})
