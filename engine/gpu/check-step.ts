/**
 * Rules of one ragged batch (specs/runtime.md §2), checked before it runs: an index out of range in a shader is silently clamped, so the
 * symptom of a scheduler mistake would be plausible nonsense. Costs a few comparisons per token. Backends call it; schedulers may.
 */
import { LatheError } from '../contract/errors.ts'
import type { Capacity, KvLayout, Program, RowAdjustment, StepInput } from './program.ts'

/** Marks "no target" and "not sampled". */
export const NO_TOKEN = 0xffffffff
/** More would need a selection that does not fit one workgroup's shared memory; APIs cap at 20 (specs/runtime.md §5.2). */
export const MAX_TOP_COUNT = 32

/** Throws `gpu.invalid-operation` naming the first rule that the step breaks. */
export function checkStep(input: StepInput, program: Program, capacity: Capacity, kv: KvLayout): void {
  const tokens = input.tokenIds.length
  const sequences = input.sequenceLength.length
  const rows = input.logitRows.length
  require(tokens > 0 && tokens <= capacity.tokens, `${tokens} tokens, capacity ${capacity.tokens}`)
  require(sequences > 0 && sequences <= capacity.sequences, `${sequences} sequences, capacity ${capacity.sequences}`)
  require(rows <= capacity.rows, `${rows} logit rows, capacity ${capacity.rows}`)
  checkLength('positions', input.positions, tokens)
  checkLength('slots', input.slots, tokens)
  checkLength('sequenceOfToken', input.sequenceOfToken, tokens)
  checkLength('queryStart', input.queryStart, sequences + 1)
  checkLength('blockTable', input.blockTable, sequences * capacity.blocksPerSequence)
  checkLength('samplers', input.samplers, rows)
  checkLength('targets', input.targets, rows)
  checkTokens(input, program)
  checkSequences(input, capacity, kv)
  checkRows(input, program.vocabulary)
}

function checkTokens(input: StepInput, program: Program): void {
  const embeddings = program.operations.flatMap((operation) => (operation.op === 'embed' ? [operation.weight.rows] : []))
  const ids = Math.min(...embeddings)
  const positions = Math.min(...program.ropes.map((rope) => rope.positions))
  for (const id of input.tokenIds) if (id >= ids) fail(`token id ${id} of ${ids}`)
  for (const position of input.positions) if (position >= positions) fail(`position ${position} of ${positions}`)
}

function checkSequences(input: StepInput, capacity: Capacity, kv: KvLayout): void {
  const { queryStart, sequenceLength, blockTable, sequenceOfToken, positions, slots } = input
  const taken = new Set<number>()
  require(queryStart[0] === 0 && queryStart.at(-1) === input.tokenIds.length, 'queryStart does not span the tokens')
  for (let sequence = 0; sequence < sequenceLength.length; sequence++) {
    const start = at(queryStart, sequence)
    const end = at(queryStart, sequence + 1)
    const length = at(sequenceLength, sequence)
    const blocks = Math.ceil(length / kv.blockSize)
    const table = blockTable.subarray(sequence * capacity.blocksPerSequence, (sequence + 1) * capacity.blocksPerSequence)
    require(end > start && end - start <= length, `sequence ${sequence} has ${end - start} new tokens in a context of ${length}`)
    require(blocks <= capacity.blocksPerSequence, `sequence ${sequence} needs ${blocks} blocks, capacity ${capacity.blocksPerSequence}`)
    for (const block of table.subarray(0, blocks)) if (block === 0 || block >= kv.blocks) fail(`block ${block} of sequence ${sequence}`)
    for (let token = start; token < end; token++) {
      const position = length - (end - token)
      const slot = at(table, Math.floor(position / kv.blockSize)) * kv.blockSize + (position % kv.blockSize)
      if (sequenceOfToken[token] !== sequence) fail(`token ${token} belongs to sequence ${sequence}`)
      if (positions[token] !== position) fail(`token ${token} is at position ${positions[token]}, its sequence says ${position}`)
      if (slots[token] !== slot) fail(`token ${token} goes to slot ${slots[token]}, its block table says ${slot}`)
      if (taken.has(slot)) fail(`slot ${slot} is written twice`)
      taken.add(slot)
    }
  }
}

function checkRows(input: StepInput, vocabulary: number): void {
  const { topCount } = input
  require(topCount >= 0 && topCount <= Math.min(MAX_TOP_COUNT, vocabulary), `topCount ${topCount}`)
  for (const row of input.logitRows) if (row >= input.tokenIds.length) fail(`logit row ${row} of ${input.tokenIds.length} tokens`)
  for (const target of input.targets) if (target >= vocabulary && target !== NO_TOKEN) fail(`target ${target} of ${vocabulary}`)
  for (const sampler of input.samplers) {
    if (sampler === null) continue
    const { temperature, topK, topP, minP } = sampler
    require(temperature >= 0 && Number.isFinite(temperature), `temperature ${temperature}`)
    require(Number.isInteger(topK) && topK >= 0, `topK ${topK}`)
    require(topP > 0 && topP <= 1, `topP ${topP}`)
    require(minP >= 0 && minP <= 1, `minP ${minP}`)
    if (sampler.adjust !== undefined) checkAdjustment(sampler.adjust, vocabulary)
  }
}

/** Which adjustment last listed a token: finds one that is listed twice without a set per row. */
let listedBy = new Uint32Array(0)
let adjustments = 0

function checkAdjustment(adjust: RowAdjustment, vocabulary: number): void {
  const { allowed, ids, bias, generated, seen, presence, frequency, repetition } = adjust
  if (allowed !== null) checkLength('allowed', allowed, Math.ceil(vocabulary / 32))
  checkLength('bias', bias, ids.length)
  checkLength('generated', generated, ids.length)
  checkLength('seen', seen, ids.length)
  require(Number.isFinite(presence) && Number.isFinite(frequency), `penalties ${presence}, ${frequency}`)
  require(repetition > 0 && Number.isFinite(repetition), `repetition ${repetition}`)
  if (listedBy.length < vocabulary || adjustments >= 0xffffffff) {
    listedBy = new Uint32Array(Math.max(vocabulary, listedBy.length))
    adjustments = 0
  }
  adjustments++
  for (let i = 0; i < ids.length; i++) {
    const id = at(ids, i)
    if (id >= vocabulary) fail(`adjusted token ${id} of ${vocabulary}`)
    if (listedBy[id] === adjustments) fail(`token ${id} is adjusted twice`)
    listedBy[id] = adjustments
    const added = bias[i] ?? NaN
    if (!(added < Infinity)) fail(`bias ${added} of token ${id}`)
  }
}

function checkLength(name: string, array: { readonly length: number }, length: number): void {
  require(array.length === length, `${name} has ${array.length} entries, needs ${length}`)
}

function at(array: Uint32Array, index: number): number {
  return array[index] ?? NO_TOKEN
}

function require(holds: boolean, what: string): void {
  if (!holds) fail(what)
}

function fail(what: string): never {
  throw new LatheError('gpu.invalid-operation', `The step is malformed: ${what}.`, 'This is a defect in Lathe. Report it.')
}
