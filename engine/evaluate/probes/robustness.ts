/**
 * The same questions in other clothes (specs/evaluation.md §10.1): typing mistakes, case, spaces, punctuation, look-alike letters, made by rules from
 * a seed, and choices in another order where the prompt lists them. Consistency is the share of pairs of versions that get the same answer; the worst
 * version's score says what a careless user gets.
 */
import { createHash } from 'node:crypto'
import { createIndexSampler } from '../random.ts'
import type { RunOptions, TaskAnswers } from '../tasks/run-task.ts'
import { runTask } from '../tasks/run-task.ts'
import type { TaskDocuments } from '../tasks/prompts.ts'
import { scoreTask } from '../tasks/score-task.ts'
import type { ScoredTask } from '../tasks/score-task.ts'
import type { EvaluationTarget } from '../tasks/target.ts'
import type { TaskConfig } from '../tasks/task-config.ts'
import type { Doc } from '../tasks/template.ts'
import { probeRow } from './probe.ts'
import type { ProbeOutcome } from './probe.ts'

export type Perturbation = 'typos' | 'lowercase' | 'spaces' | 'punctuation' | 'look-alikes' | 'polite'
export const PERTURBATIONS: readonly Perturbation[] = ['typos', 'lowercase', 'spaces', 'punctuation', 'look-alikes', 'polite']

/** One word in twenty gets a slip of the finger: what hurried people write. */
const TYPO_SHARE = 0.05
const SEED = 'lathe-robustness-1'
/** Template marks and the role after them are not text that a person typed. */
const MARKS = /(<\|[^|>]*\|>(?:system|user|assistant)?\n?)/

/** Cyrillic letters that look Latin: text copied from elsewhere has them. */
const LOOK_ALIKES: Readonly<Record<string, string>> = { a: 'а', c: 'с', e: 'е', o: 'о', p: 'р', x: 'х', y: 'у' }

const NEIGHBOURS: Readonly<Record<string, string>> = {
  a: 's',
  b: 'v',
  c: 'x',
  d: 's',
  e: 'r',
  f: 'g',
  g: 'h',
  h: 'j',
  i: 'o',
  j: 'k',
  k: 'l',
  l: 'k',
  m: 'n',
  n: 'm',
  o: 'p',
  p: 'o',
  q: 'w',
  r: 't',
  s: 'd',
  t: 'r',
  u: 'i',
  v: 'b',
  w: 'e',
  x: 'c',
  y: 'u',
  z: 'x',
}

function slip(word: string, pick: (n: number) => number): string {
  const at = 1 + pick(Math.max(1, word.length - 2))
  const letter = word[at] ?? ''
  switch (pick(4)) {
    case 0:
      return word.slice(0, at) + (word[at + 1] ?? '') + letter + word.slice(at + 2)
    case 1:
      return word.slice(0, at) + word.slice(at + 1)
    case 2:
      return word.slice(0, at) + letter + word.slice(at)
    default:
      return word.slice(0, at) + (NEIGHBOURS[letter.toLowerCase()] ?? letter) + word.slice(at + 1)
  }
}

function perturbSegment(text: string, kind: Perturbation, pick: (n: number) => number): string {
  switch (kind) {
    case 'typos': {
      let changed = false
      const words = text.split(/(\s+)/)
      const candidates = words.flatMap((word, i) => (/^\p{L}{4,}/u.test(word) ? [i] : []))
      const out = words.map((word, i) => {
        if (!candidates.includes(i) || pick(1000) >= TYPO_SHARE * 1000) return word
        changed = true
        return slip(word, pick)
      })
      // A short question would often stay as it is; one slip it gets.
      const chosen = candidates[pick(Math.max(1, candidates.length))]
      if (!changed && chosen !== undefined) out[chosen] = slip(words[chosen] ?? '', pick)
      return out.join('')
    }
    case 'lowercase':
      return text.toLowerCase()
    case 'spaces':
      return text.replaceAll(/ /g, () => (pick(4) === 0 ? '  ' : ' '))
    case 'punctuation':
      return text.replaceAll(/[,;:!]/g, '').replaceAll(/[.?](?=\s|$)/g, '')
    case 'look-alikes':
      return text.replaceAll(/\p{L}{4,}/gu, (word) =>
        pick(1000) < TYPO_SHARE * 1000 ? word.replaceAll(/[aceopxy]/g, (letter) => LOOK_ALIKES[letter] ?? letter) : word,
      )
    case 'polite':
      return `Please answer the following. ${text}`
  }
}

/** The last thing that a person says in the prompt, changed; marks of a chat template and what comes before stay. */
export function perturb(prompt: string, kind: Perturbation): string {
  const seed = createHash('sha256').update(`${SEED}:${kind}:${prompt}`).digest().readUInt32LE(0)
  const pick = createIndexSampler(seed)
  const parts = prompt.split(MARKS)
  const typed = parts.flatMap((part, i) => (i % 2 === 0 && part.trim() !== '' && !(parts[i - 1] ?? '').includes('assistant') ? [i] : []))
  const last = typed.at(-1)
  return parts
    .map((part, i) => {
      if (i !== last) return part
      // Space at the border belongs to the prompt's form, which is not what is tested.
      const [, head = '', text = '', tail = ''] = /^(\s*)([^]*?)(\s*)$/.exec(part) ?? []
      return head + perturbSegment(text, kind, pick) + tail
    })
    .join('')
}

/** The target asked in other clothes. */
function dressed(target: EvaluationTarget, kind: Perturbation): EvaluationTarget {
  return {
    name: target.name,
    kind: target.kind,
    fingerprint: `${target.fingerprint}:${kind}`,
    protocol: `${target.protocol}:${kind}`,
    parallel: target.parallel,
    renderChat: target.renderChat,
    endText: target.endText,
    loglikelihood: (request, signal) => target.loglikelihood({ ...request, context: perturb(request.context, kind) }, signal),
    rolling: (text, window, signal) => target.rolling(text, window, signal),
    generate: (request, signal) =>
      target.generate(
        {
          ...request,
          prompt:
            typeof request.prompt === 'string'
              ? perturb(request.prompt, kind)
              : request.prompt.map((turn, i, all) => (i === all.length - 1 ? { ...turn, content: perturb(turn.content, kind) } : turn)),
        },
        signal,
      ),
  }
}

/**
 * Every document with its choices moved on by one and the right one's number with them; null where the prompt does not list the choices, so that their
 * order can't matter, or where a document does not tell them apart from its other fields.
 */
function rotated(task: TaskConfig, docs: readonly Doc[]): Doc[] | null {
  const { docToChoice: choices, docToTarget: gold, docToText: text } = task
  if (task.outputType !== 'multiple_choice' || typeof choices !== 'string' || typeof gold !== 'string' || typeof text !== 'string')
    return null
  if (!/^\w+$/.test(choices) || !new RegExp(`\\b${choices}\\b`).test(text) || text === choices) return null
  const out: Doc[] = []
  for (const doc of docs) {
    const list: unknown = doc[choices]
    if (!Array.isArray(list) || list.length < 2) return null
    const right = doc[gold]
    const moved = typeof right === 'number' && Number.isInteger(right) ? { [gold]: (right + list.length - 1) % list.length } : {}
    // A right answer given as text stays the same text.
    if (typeof right !== 'number' && typeof right !== 'string') return null
    out.push({ ...doc, [choices]: [...list.slice(1), list[0]], ...moved })
  }
  return out
}

/** Asks the task in every version, the clean one included. */
export async function measureRobustness(
  task: TaskConfig,
  target: EvaluationTarget,
  documents: TaskDocuments & { readonly available: number },
  options: RunOptions,
): Promise<ProbeOutcome> {
  const rotation = rotated(task, documents.docs)
  const versions = ['clean', ...PERTURBATIONS, ...(rotation === null ? [] : (['rotated'] as const))] as const
  const scored: ScoredTask[] = []
  for (const [index, version] of versions.entries()) {
    const asked = version === 'clean' || version === 'rotated' ? target : dressed(target, version)
    const docs = version === 'rotated' && rotation !== null ? { ...documents, docs: rotation } : documents
    const answers: TaskAnswers = await runTask(task, asked, docs, {
      ...options,
      onProgress: (done, total) => options.onProgress?.(index * total + done, versions.length * total),
    })
    scored.push(scoreTask(answers))
  }
  return robustnessOutcome(task, versions, scored)
}

export function robustnessOutcome(task: TaskConfig, versions: readonly string[], scored: readonly ScoredTask[]): ProbeOutcome {
  const [clean] = scored
  const [figure] = clean?.figures ?? []
  if (clean === undefined || figure === undefined) throw new Error(`${task.name} gave no figure`)
  const answersOf = (version: ScoredTask): readonly string[] =>
    version.samples.filter(({ filter }) => filter === figure.filter).map(({ answer }) => answer)
  const answers = scored.map(answersOf)
  const samples = clean.samples.filter(({ filter }) => filter === figure.filter)
  const consistency = new Map<string, number>()
  const worst = new Map<string, number>()
  for (const [i, sample] of samples.entries()) {
    let agreeing = 0
    let pairs = 0
    for (let a = 0; a < answers.length; a++) {
      for (let b = a + 1; b < answers.length; b++) {
        pairs++
        if (answers[a]?.[i] === answers[b]?.[i]) agreeing++
      }
    }
    const key = `${sample.item.docId}:${sample.item.docHash}`
    consistency.set(key, pairs === 0 ? 1 : agreeing / pairs)
  }
  // The version with the lowest score, named.
  const scores = scored.map((version) => version.figures[0]?.value ?? Number.NaN)
  const lowest = scores.indexOf(Math.min(...scores))
  const values = scored[lowest]?.figures[0]?.values ?? []
  for (const [i, sample] of samples.entries()) worst.set(`${sample.item.docId}:${sample.item.docHash}`, values[i]?.value ?? 0)
  return {
    name: `robustness:${task.name}`,
    title: `${task.title}, perturbed`,
    dataset: `robustness:${versions.join('+')}:${clean.dataset}`,
    figures: [
      {
        metric: 'consistency',
        title: 'same answer in all versions',
        values: consistency,
        higherIsBetter: true,
        note: `Share of pairs of ${versions.length} versions with the same answer: ${versions.join(', ')}.`,
      },
      {
        metric: `worst_${figure.metric}`,
        title: `worst version (${versions[lowest] ?? ''})`,
        values: worst,
        higherIsBetter: true,
        ...(clean.chance === null ? {} : { chance: clean.chance }),
        note: scores.map((score, i) => `${versions[i]} ${(score * 100).toFixed(1)} %`).join(', '),
      },
    ],
    rows: samples.map((sample, i) =>
      probeRow({
        docId: sample.item.docId,
        docHash: sample.item.docHash,
        prompt: sample.item.contexts[0] ?? '',
        target: sample.item.target,
        choices: [...sample.item.choices],
        output: versions.map((version, v) => `${version}: ${answers[v]?.[i] ?? ''}`).join('\n'),
        answer: answers.map((version) => version[i] ?? '').join(' | '),
        correct: (consistency.get(`${sample.item.docId}:${sample.item.docHash}`) ?? 0) === 1,
        metrics: { consistency: consistency.get(`${sample.item.docId}:${sample.item.docHash}`) ?? null },
      }),
    ),
  }
}
