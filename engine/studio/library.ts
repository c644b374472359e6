/**
 * The library: model folders that the user brought in and variants that Lathe wrote. Import reads headers only; nothing is copied, and a source
 * folder is never written to. A folder that moved keeps its entry (`missing`) until it is located again or removed.
 * Knows nothing of jobs or GPUs.
 */
import { randomUUID } from 'node:crypto'
import { access, realpath, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { LatheError, toErrorShape } from '../contract/index.ts'
import type { ModelDetail, ModelSummary, TensorInfo, TensorStats } from '../contract/index.ts'
import type { EventHub } from './events.ts'
import { readRunRecord } from './run-record.ts'
import { findSource } from './run-source.ts'
import { fingerprintOf, NO_FACTS, summarizeModel, toModelFacts } from './model-facts.ts'
import { nameOfFolder, resolveModelFolder } from './model-folder.ts'
import type { CheckpointPort, FolderFacts, Log } from './ports.ts'
import type { Endpoint, ModelRecord, ModelStore } from './store/model-store.ts'

export interface LibraryOptions {
  readonly store: ModelStore
  readonly events: EventHub
  readonly checkpoint: CheckpointPort
  readonly sampleFolder: string
  readonly log: Log
  readonly now?: () => Date
}

export interface VariantRegistration {
  readonly folder: string
  readonly parentId: string
  /** null for a recipe of the user's own. */
  readonly presetId: string | null
  readonly name: string
}

export interface ExternalEntry {
  readonly origin: 'remote' | 'published'
  /** Address and model, or the results file: what makes it itself. */
  readonly path: string
  readonly name: string
  readonly parentId: string | null
  readonly endpoint: Endpoint | null
}

export class Library {
  readonly #store: ModelStore
  readonly #events: EventHub
  readonly #checkpoint: CheckpointPort
  readonly #sampleFolder: string
  readonly #log: Log
  readonly #now: () => Date
  /** Entries whose folder was not there when last looked at. */
  readonly #missing = new Set<string>()
  #stopped = false

  constructor(options: LibraryOptions) {
    this.#store = options.store
    this.#events = options.events
    this.#checkpoint = options.checkpoint
    this.#sampleFolder = options.sampleFolder
    this.#log = options.log
    this.#now = options.now ?? (() => new Date())
  }

  /** Looks again at every folder; call once at start. Differences are published, never thrown. */
  async refresh(): Promise<void> {
    for (const record of this.#store.list()) {
      if (this.#stopped) return
      if (record.origin !== 'folder') continue
      if (await this.#look(record)) await this.#reread(record)
    }
  }

  /** Lets a running `refresh` end after the folder it is at. */
  stopRefreshing(): void {
    this.#stopped = true
  }

  async list(): Promise<ModelSummary[]> {
    // servers and published results stand on a board, not in the list of folders
    const records = this.#store.list().filter((record) => record.origin === 'folder')
    await Promise.all(records.map((record) => this.#look(record)))
    return records.map((record) => this.#summarize(record))
  }

  /** The entry, removed ones included, or `model.not-found`. */
  record(id: string): ModelRecord {
    const record = this.#store.find(id)
    if (record === null) throw new LatheError('model.not-found', `There is no model ${id} in the library.`, 'Import its folder again.')
    return record
  }

  summary(id: string): ModelSummary {
    return this.#summarize(this.record(id))
  }

  /** The entry if it is in the library and its folder is there; what every use of a model starts with. */
  async usable(id: string): Promise<ModelRecord> {
    const record = this.record(id)
    if (record.removedAt !== null || record.deletedAt !== null) {
      throw new LatheError('model.not-found', `"${record.name}" is no longer in the library.`, 'Import its folder again.')
    }
    if (record.origin !== 'folder') {
      throw new LatheError(
        'model.unsupported-architecture',
        record.origin === 'remote'
          ? `"${record.name}" runs on another server, not here.`
          : `"${record.name}" is a published result, not a model.`,
        record.origin === 'remote' ? 'Run tasks or a served benchmark on it.' : 'It can only be compared with.',
      )
    }
    if (!(await this.#look(record))) {
      throw new LatheError(
        'checkpoint.not-found',
        `The folder of "${record.name}" is no longer at ${record.path}.`,
        'Locate the folder, or remove the entry.',
      )
    }
    if (record.facts.trouble?.status === 'invalid') {
      const { code, message, hint } = record.facts.trouble.reason
      throw new LatheError('checkpoint.not-a-model', `"${record.name}" can't be read: ${message}`, hint, { data: { cause: code } })
    }
    return record
  }

  /** As `usable`, and Lathe can run it. */
  async runnable(id: string): Promise<ModelRecord> {
    const record = await this.usable(id)
    const trouble = record.facts.trouble
    if (trouble !== null)
      throw new LatheError(
        'model.unsupported-architecture',
        `"${record.name}" can be inspected, but not run: ${trouble.reason.message}`,
        trouble.reason.hint,
      )
    return record
  }

  async import(path: string): Promise<ModelSummary> {
    return this.#import(path, false)
  }

  /** The demo model, read in place. */
  async importSample(): Promise<ModelSummary> {
    return this.#import(this.#sampleFolder, true)
  }

  /** Puts a folder that Lathe has just written under its source. The same folder twice is the same entry. */
  async registerVariant(variant: VariantRegistration): Promise<ModelSummary> {
    const path = await realpath(variant.folder)
    const facts = await this.#checkpoint.inspect(path)
    const known = this.#store.findByPath(path)
    if (known !== null) {
      const updated = {
        ...known,
        parentId: variant.parentId,
        presetId: variant.presetId,
        fingerprint: fingerprintOf(facts),
        facts: toModelFacts(facts),
      }
      this.#store.update(updated)
      return this.#changed(updated)
    }
    const record: ModelRecord = {
      ...this.#newRecord(path, facts),
      name: variant.name,
      parentId: variant.parentId,
      presetId: variant.presetId,
      writtenByLathe: true,
    }
    this.#store.insert(record)
    const summary = this.#changed(record)
    this.#publishParent(record)
    return summary
  }

  async get(id: string): Promise<ModelDetail> {
    const record = await this.usable(id)
    const facts = await this.#checkpoint.inspect(record.path)
    const updated = this.#keepFacts(record, facts)
    const run = await readRunRecord(record.path)
    return {
      summary: this.#summarize(updated),
      config: { ...facts.config },
      bytesByDtype: { ...facts.bytesByDtype },
      bytesByKind: { ...facts.bytesByKind },
      files: facts.files.map((file) => ({ ...file })),
      tensorCount: facts.tensors.length,
      variants: this.#store.variantsOf(id).map((variant) => this.#summarize(variant)),
      run: run?.json ?? null,
      outcome: run?.outcome ?? null,
      kvBytesPerToken: facts.kvBytesPerToken,
    }
  }

  async tensors(id: string): Promise<TensorInfo[]> {
    const record = await this.usable(id)
    return (await this.#checkpoint.inspect(record.path)).tensors.map((tensor) => ({ ...tensor, shape: [...tensor.shape] }))
  }

  async tensorStats(id: string, name: string, signal: AbortSignal): Promise<TensorStats> {
    const record = await this.usable(id)
    return this.#checkpoint.tensorStats(record.path, name, signal)
  }

  rename(id: string, name: string): ModelSummary {
    const updated = { ...this.record(id), name: name.trim() }
    if (updated.name === '') throw new LatheError('request.invalid', 'A name needs at least one visible character.', 'Type a name.')
    this.#store.update(updated)
    return this.#changed(updated)
  }

  /** Takes the entry out of the library. Files, results and variants stay; `restore` undoes it. */
  remove(id: string): void {
    const record = this.record(id)
    if (record.removedAt !== null) return
    this.#store.update({ ...record, removedAt: this.#now().toISOString() })
    this.#events.publish({ kind: 'model.removed', modelId: id })
  }

  async restore(id: string): Promise<ModelSummary> {
    const record = this.record(id)
    if (record.deletedAt !== null) {
      throw new LatheError(
        'model.not-found',
        `The files of "${record.name}" were deleted.`,
        'Compress the source model again to make a new variant.',
      )
    }
    if (record.removedAt === null) return this.#summarize(record)
    const taken = this.#store.findByPath(record.path)
    if (taken !== null) return this.#summarize(taken)
    const restored = { ...record, removedAt: null }
    this.#store.update(restored)
    await this.#look(restored)
    return this.#changed(restored)
  }

  /** Deletes the folder of a variant that Lathe wrote. Anything that isn't clearly that is refused. */
  async deleteFiles(id: string, confirmName: string): Promise<number> {
    const record = this.record(id)
    if (!record.writtenByLathe) {
      throw new LatheError(
        'request.forbidden',
        `"${record.name}" was not written by Lathe, so Lathe won't delete its files.`,
        'Remove it from the library instead; the files stay.',
      )
    }
    if (confirmName !== record.name) {
      throw new LatheError('request.invalid', 'The typed name does not match.', `Type "${record.name}" to delete its files.`)
    }
    if (!(await this.#look(record))) {
      throw new LatheError('checkpoint.not-found', `The folder is no longer at ${record.path}.`, 'Remove the entry from the library.')
    }
    // The row could be older than what is on disk now: only a folder with the run.json of a compression is ours to delete.
    const run = await readRunRecord(record.path)
    if (run === null || (await realpath(record.path)) !== record.path) {
      throw new LatheError(
        'request.forbidden',
        `${record.path} no longer looks like a variant that Lathe wrote.`,
        'Delete the folder yourself if it is not needed.',
      )
    }
    const freedBytes = (await this.#checkpoint.inspect(record.path)).diskBytes
    await rm(record.path, { recursive: true })
    this.#store.update({ ...record, deletedAt: this.#now().toISOString() })
    this.#log('info', `Deleted the variant ${record.path} (${freedBytes} bytes).`)
    this.#events.publish({ kind: 'model.removed', modelId: id })
    return freedBytes
  }

  /** Points an entry at the folder's new place, if it really is the same model. */
  async locate(id: string, path: string): Promise<ModelSummary> {
    const record = this.record(id)
    const folder = await resolveModelFolder(path)
    const facts = await this.#checkpoint.inspect(folder)
    if (fingerprintOf(facts) !== record.fingerprint) {
      throw new LatheError(
        'model.mismatch',
        `${folder} holds a different model than "${record.name}".`,
        'Choose the folder that was moved, or import this one as a new model.',
      )
    }
    const taken = this.#store.findByPath(folder)
    if (taken !== null && taken.id !== id) {
      throw new LatheError(
        'checkpoint.already-exists',
        `${folder} is already in the library as "${taken.name}".`,
        'Remove one of the two entries.',
      )
    }
    this.#missing.delete(id)
    const updated = { ...record, path: folder, removedAt: null, facts: toModelFacts(facts) }
    this.#store.update(updated)
    return this.#changed(updated)
  }

  /** A server's model or a published results file, on the board of a family or on one of its own. The same one twice is the same entry. */
  addExternal(entry: ExternalEntry): ModelSummary {
    const known = this.#store.findByPath(entry.path)
    if (known !== null) {
      const updated = { ...known, name: entry.name, endpoint: entry.endpoint }
      this.#store.update(updated)
      return this.#changed(updated)
    }
    const parent = entry.parentId === null ? null : this.familyRoot(entry.parentId)
    const record: ModelRecord = {
      id: randomUUID(),
      path: entry.path,
      parentId: parent?.id ?? null,
      name: entry.name,
      createdAt: this.#now().toISOString(),
      lastUsedAt: null,
      removedAt: null,
      deletedAt: null,
      writtenByLathe: false,
      isSample: false,
      presetId: null,
      fingerprint: '',
      facts: NO_FACTS,
      origin: entry.origin,
      endpoint: entry.endpoint,
    }
    this.#store.insert(record)
    const summary = this.#changed(record)
    this.#publishParent(record)
    return summary
  }

  touch(id: string): void {
    const record = this.record(id)
    const updated = { ...record, lastUsedAt: this.#now().toISOString() }
    this.#store.update(updated)
    this.#changed(updated)
  }

  /** The source of a variant, or the model itself. */
  familyRoot(id: string): ModelRecord {
    const record = this.record(id)
    return record.parentId === null ? record : this.record(record.parentId)
  }

  /** Source first, then its variants by age. */
  family(id: string): ModelRecord[] {
    const root = this.familyRoot(id)
    return [root, ...this.#store.variantsOf(root.id)]
  }

  async #import(path: string, isSample: boolean): Promise<ModelSummary> {
    const folder = await resolveModelFolder(path)
    const known = this.#store.findByPath(folder)
    if (known !== null) {
      await this.#reread(known)
      return this.summary(known.id)
    }
    const facts = await this.#checkpoint.inspect(folder)
    const fingerprint = fingerprintOf(facts)
    const removed = this.#store.findRemovedByPath(folder)
    if (removed !== null && removed.fingerprint === fingerprint) return this.restore(removed.id)
    let record: ModelRecord = { ...this.#newRecord(folder, facts), ...(await this.#lineage(folder)), isSample }
    if (isSample && facts.title !== null) record = { ...record, name: facts.title }
    this.#store.insert(record)
    return this.#changed(record)
  }

  /** A variant that Lathe wrote earlier finds its source again, if that is in the library. */
  async #lineage(folder: string): Promise<Pick<ModelRecord, 'parentId' | 'presetId' | 'writtenByLathe'>> {
    const run = await readRunRecord(folder)
    if (run === null) return { parentId: null, presetId: null, writtenByLathe: false }
    const present = this.#store.list().filter((candidate) => candidate.origin === 'folder' && candidate.parentId === null)
    const source = await findSource(run, present, this.#checkpoint, (candidate) => this.#look(candidate))
    // Anyone can put a run.json into a folder, so what was imported is never deletable: only what this studio wrote itself.
    return { parentId: source?.id ?? null, presetId: run.presetId, writtenByLathe: false }
  }

  #newRecord(path: string, facts: FolderFacts): ModelRecord {
    return {
      id: randomUUID(),
      path,
      parentId: null,
      name: nameOfFolder(path),
      createdAt: this.#now().toISOString(),
      lastUsedAt: null,
      removedAt: null,
      deletedAt: null,
      writtenByLathe: false,
      isSample: false,
      presetId: null,
      fingerprint: fingerprintOf(facts),
      facts: toModelFacts(facts),
      origin: 'folder',
      endpoint: null,
    }
  }

  /** True if the folder is there. Publishes when that has changed. */
  async #look(record: ModelRecord): Promise<boolean> {
    const there = await access(join(record.path, 'config.json')).then(
      () => true,
      () => false,
    )
    if (there === this.#missing.has(record.id)) {
      if (there) this.#missing.delete(record.id)
      else this.#missing.add(record.id)
      if (record.removedAt === null && record.deletedAt === null) this.#changed(record)
    }
    return there
  }

  /** Reads the headers again; a folder that can't be read any more stays in the list with the reason. */
  async #reread(record: ModelRecord): Promise<void> {
    try {
      this.#keepFacts(record, await this.#checkpoint.inspect(record.path))
    } catch (error) {
      const reason = toErrorShape(error)
      this.#log('warn', `${record.path} can't be read: ${reason.message}`)
      const updated: ModelRecord = { ...record, facts: { ...record.facts, trouble: { status: 'invalid', reason } } }
      this.#store.update(updated)
      this.#changed(updated)
    }
  }

  #keepFacts(record: ModelRecord, facts: FolderFacts): ModelRecord {
    const updated: ModelRecord = { ...record, fingerprint: fingerprintOf(facts), facts: toModelFacts(facts) }
    if (JSON.stringify(updated) === JSON.stringify(record)) return record
    this.#store.update(updated)
    this.#changed(updated)
    return updated
  }

  #changed(record: ModelRecord): ModelSummary {
    const summary = this.#summarize(record)
    this.#events.publish({ kind: 'model.changed', model: summary })
    return summary
  }

  #publishParent(record: ModelRecord): void {
    const parent = record.parentId === null ? null : this.#store.find(record.parentId)
    if (parent !== null) this.#changed(parent)
  }

  #summarize(record: ModelRecord): ModelSummary {
    return summarizeModel(record, this.#missing.has(record.id))
  }
}
