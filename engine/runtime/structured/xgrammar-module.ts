/**
 * Loads XGrammar (Apache-2.0, WebAssembly inside one script). The package is a CommonJS-style script in a package marked as ES module, so
 * Node's import of it has no exports: its text is evaluated here as the function it is. Each call makes a new instance with memory of its own,
 * because a grammar that it rejects aborts the instance. Its messages go to `print`, without the paths of its own build.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { compileFunction } from 'node:vm'

interface Disposable {
  dispose(): void
}

export interface XgrammarMatcher extends Disposable {
  acceptToken(id: number): boolean
  getNextTokenBitmask(): Promise<Int32Array>
  isTerminated(): boolean
  rollBack(count: number): void
}

export interface XgrammarCompiler extends Disposable {
  compileGrammar(ebnf: string): Promise<Disposable>
}

export interface Xgrammar {
  readonly Grammar: { fromEBNF(ebnf: string): Promise<Disposable> }
  readonly TokenizerInfo: {
    createTokenizerInfo(
      vocabulary: readonly Uint8Array[],
      kind: 'raw',
      prependSpace: boolean,
      size: number,
      stopTokenIds: readonly number[],
    ): Promise<Disposable>
  }
  readonly GrammarCompiler: { createGrammarCompiler(info: Disposable, cache: boolean): Promise<XgrammarCompiler> }
  readonly GrammarMatcher: { createGrammarMatcher(grammar: Disposable): Promise<XgrammarMatcher> }
}

const PACKAGE = createRequire(import.meta.url).resolve('@mlc-ai/web-xgrammar')
let script: string | null = null

export function loadXgrammar(print: (line: string) => void): Xgrammar {
  script ??= readFileSync(PACKAGE, 'utf8')
  const write = (...parts: unknown[]): void => print(parts.join(' '))
  // Without `process` and with a location it takes itself to be in a browser, where it needs nothing but WebAssembly.
  const evaluate = compileFunction(script, ['exports', 'module', 'process', 'location', 'importScripts', 'console'], { filename: PACKAGE })
  const exports = {}
  evaluate(exports, { exports }, undefined, { href: 'https://xgrammar.invalid/' }, undefined, { log: write, warn: write, error: write })
  return exports as Xgrammar
}
