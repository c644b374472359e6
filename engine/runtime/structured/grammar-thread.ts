/**
 * A thread that compiles grammars for one vocabulary and follows answers through them: see grammar-host.ts for the messages. A grammar is parsed
 * in an instance that may die of it before the one that holds the compiled ones sees it. A thread of its own file; import it from nowhere.
 */
import { parentPort, workerData } from 'node:worker_threads'
import type { GrammarThreadData, HostMessage, ThreadMessage } from './grammar-host.ts'
import { MATCHER_HEADER, MatcherStatus } from './matcher-memory.ts'
import { loadXgrammar } from './xgrammar-module.ts'
import type { Xgrammar, XgrammarCompiler, XgrammarMatcher } from './xgrammar-module.ts'

interface Matcher {
  readonly state: XgrammarMatcher
  readonly header: Int32Array
  readonly mask: Int32Array
}

const data = workerData as GrammarThreadData
let messages: string[] = []
const print = (line: string): void => void messages.push(line)
let parser: Xgrammar | null = null
const engine = loadXgrammar(print)
const compilerReady = createCompiler()
const grammars = new Map<number, { dispose(): void }>()
const matchers = new Map<number, Matcher>()

async function createCompiler(): Promise<XgrammarCompiler> {
  const { bytes, offsets, vocabulary, stopTokenIds } = data
  const all = new Uint8Array(bytes)
  const ends = new Uint32Array(offsets)
  // embind copies; it refuses views of shared memory.
  const tokens = Array.from({ length: ends.length - 1 }, (_, id) => all.slice(ends[id], ends[id + 1]))
  const info = await engine.TokenizerInfo.createTokenizerInfo(tokens, 'raw', false, vocabulary, stopTokenIds)
  return engine.GrammarCompiler.createGrammarCompiler(info, false)
}

/** Rejects for what is not a grammar; the instance it was tried in is then gone. */
async function parse(ebnf: string): Promise<void> {
  parser ??= loadXgrammar(print)
  messages = []
  try {
    const grammar = await parser.Grammar.fromEBNF(ebnf)
    grammar.dispose()
  } catch (cause) {
    parser = null
    throw new Error(reason(), { cause })
  }
}

/** The library's own words, less its source file and line. */
function reason(): string {
  const fatal = messages.find((line) => line.includes('[FATAL]')) ?? messages[0] ?? 'it could not be compiled'
  return fatal.replace(/^\[[^\]]*\]\s*(?:\[FATAL\])?\s*\S+\.(?:cc|h):\d+:\s*/, '').replace(/^\[FATAL\]\s*\S+:\d+:\s*/, '')
}

async function advance(matcher: Matcher, rollback: number, accept: readonly number[]): Promise<number> {
  const { state, mask } = matcher
  if (rollback > 0) state.rollBack(rollback)
  for (const token of accept) {
    // After the end of the grammar nothing is bound any more.
    if (state.isTerminated()) return MatcherStatus.ended
    if (!state.acceptToken(token)) return MatcherStatus.refused
  }
  if (state.isTerminated()) return MatcherStatus.ended
  mask.set(await state.getNextTokenBitmask())
  return MatcherStatus.masked
}

async function handle(message: HostMessage): Promise<void> {
  switch (message.kind) {
    case 'compile': {
      try {
        await parse(message.ebnf)
        grammars.set(message.grammar, await (await compilerReady).compileGrammar(message.ebnf))
        reply({ kind: 'compiled', grammar: message.grammar, error: null })
      } catch (error) {
        reply({ kind: 'compiled', grammar: message.grammar, error: error instanceof Error ? error.message : String(error) })
      }
      return
    }
    case 'forget':
      grammars.get(message.grammar)?.dispose()
      grammars.delete(message.grammar)
      return
    case 'open': {
      const grammar = grammars.get(message.grammar)
      if (grammar === undefined) throw new Error(`no grammar ${message.grammar}`)
      const state = await engine.GrammarMatcher.createGrammarMatcher(grammar)
      const header = new Int32Array(message.memory, 0, MATCHER_HEADER.words)
      const mask = new Int32Array(message.memory, 4 * MATCHER_HEADER.words)
      matchers.set(message.matcher, { state, header, mask })
      return
    }
    case 'advance': {
      const matcher = matchers.get(message.matcher)
      if (matcher === undefined) throw new Error(`no matcher ${message.matcher}`)
      const { header } = matcher
      Atomics.store(header, MATCHER_HEADER.status, await advance(matcher, message.rollback, message.accept))
      Atomics.store(header, MATCHER_HEADER.sequence, message.sequence)
      Atomics.notify(header, MATCHER_HEADER.sequence)
      return
    }
    case 'close':
      matchers.get(message.matcher)?.state.dispose()
      matchers.delete(message.matcher)
      return
  }
}

function reply(message: ThreadMessage): void {
  parentPort?.postMessage(message, [])
}

// One after the other, although the library's calls return promises. What fails here is a defect: the thread ends with it.
let turn: Promise<void> = Promise.resolve()
parentPort?.on('message', (message: HostMessage) => {
  turn = turn.then(() => handle(message))
})
