/**
 * What the chat screen holds that the engine does not: text being typed, choices not sent yet, and answers while they stream.
 * Drafts live in the session's storage, so that a reload or a crash of the page costs no word; streams die with the page and are kept apart.
 */
import { create } from 'zustand'
import { createJSONStorage, persist, type StateStorage } from 'zustand/middleware'
import type { ChatEvent, ChatMessage, Sampling } from '../../../engine/contract/index.ts'
import type { UiError } from '../../lib/errors.ts'

/** Key of the conversation that has no thread yet. */
export const NEW_CHAT = 'new'

export interface Parameters {
  readonly systemPrompt: string
  readonly sampling: Sampling
}

interface DraftState {
  /** By thread; what is typed into an edited message is under `editKey`. */
  readonly drafts: Readonly<Record<string, string>>
  readonly parameters: Readonly<Record<string, Parameters>>
  /** The prompt that is being edited, by thread. */
  readonly editing: Readonly<Record<string, string>>
  /** Text that reached the page but not the engine's disk before the engine died, by message. */
  readonly rescued: Readonly<Record<string, string>>
  /** What the columns of the arena have been told, by model: a thread of each. */
  readonly arenaThreads: Readonly<Record<string, string>>
  readonly drawerOpen: boolean
  readonly listOpen: boolean
  readonly setDraft: (key: string, text: string) => void
  readonly setParameters: (key: string, parameters: Parameters | null) => void
  readonly setEditing: (threadId: string, messageId: string | null) => void
  readonly rescue: (messageId: string, text: string) => void
  readonly setArenaThreads: (threads: Readonly<Record<string, string>>) => void
  readonly setDrawerOpen: (open: boolean) => void
  readonly setListOpen: (open: boolean) => void
}

export function editKey(messageId: string): string {
  return `edit:${messageId}`
}

function without<T>(record: Readonly<Record<string, T>>, key: string): Readonly<Record<string, T>> {
  return Object.fromEntries(Object.entries(record).filter(([other]) => other !== key))
}

/** A full or forbidden storage must not stop anybody from typing: the text is still in memory. */
const patientStorage: StateStorage = {
  getItem: (name) => {
    try {
      return sessionStorage.getItem(name)
    } catch {
      return null
    }
  },
  setItem: (name, value) => {
    try {
      sessionStorage.setItem(name, value)
    } catch {
      // quota: an enormous draft survives thread switches but not a reload
    }
  },
  removeItem: (name) => sessionStorage.removeItem(name),
}

export const useDraftStore = create<DraftState>()(
  persist(
    (set) => ({
      drafts: {},
      parameters: {},
      editing: {},
      rescued: {},
      arenaThreads: {},
      drawerOpen: false,
      listOpen: true,
      setDraft: (key, text) => set(({ drafts }) => ({ drafts: text === '' ? without(drafts, key) : { ...drafts, [key]: text } })),
      setParameters: (key, parameters) =>
        set((state) => ({ parameters: parameters === null ? without(state.parameters, key) : { ...state.parameters, [key]: parameters } })),
      setEditing: (threadId, messageId) =>
        set(({ editing }) => ({ editing: messageId === null ? without(editing, threadId) : { ...editing, [threadId]: messageId } })),
      rescue: (messageId, text) => set(({ rescued }) => ({ rescued: { ...rescued, [messageId]: text } })),
      setArenaThreads: (arenaThreads) => set({ arenaThreads }),
      setDrawerOpen: (drawerOpen) => set({ drawerOpen }),
      setListOpen: (listOpen) => set({ listOpen }),
    }),
    { name: 'lathe.chat', version: 1, storage: createJSONStorage(() => patientStorage) },
  ),
)

export type AnswerPhase = 'sending' | 'loading' | 'prefill' | 'writing' | 'stopping' | 'failed'
export type AnswerOrigin = 'composer' | 'edit' | 'regenerate'

type Progress<Kind extends ChatEvent['kind']> = Omit<Extract<ChatEvent, { kind: Kind }>, 'kind'>

/** An answer on its way, from pressing Send until the engine's own copy of it is complete. */
export interface LiveAnswer {
  readonly prompt: string
  readonly origin: AnswerOrigin
  readonly replaceFrom: string | null
  readonly modelId: string
  readonly phase: AnswerPhase
  /** null until the engine has stored the prompt: before that nothing in the thread has changed. */
  readonly userMessage: ChatMessage | null
  readonly assistantMessageId: string | null
  readonly loading: Progress<'loading'> | null
  readonly prefill: Progress<'prefill'> | null
  readonly text: string
  readonly tokens: number
  readonly failure: UiError | null
}

interface ChatState {
  /** By thread: answers of different threads never meet. */
  readonly live: Readonly<Record<string, LiveAnswer>>
  /** Deleted on screen, not yet in the engine: Undo brings them back. */
  readonly leaving: ReadonlySet<string>
  /** The last completion, for screen readers. */
  readonly announcement: string
  readonly begin: (threadId: string, answer: Pick<LiveAnswer, 'prompt' | 'origin' | 'replaceFrom' | 'modelId'>) => void
  readonly change: (threadId: string, change: (answer: LiveAnswer) => Partial<LiveAnswer>) => void
  readonly move: (from: string, to: string) => void
  readonly end: (threadId: string) => void
  readonly setLeaving: (threadId: string, leaving: boolean) => void
  readonly announce: (text: string) => void
}

export const useChatStore = create<ChatState>()((set) => ({
  live: {},
  leaving: new Set(),
  announcement: '',
  begin: (threadId, answer) =>
    set(({ live }) => ({
      announcement: '',
      live: {
        ...live,
        [threadId]: {
          ...answer,
          phase: 'sending',
          userMessage: null,
          assistantMessageId: null,
          loading: null,
          prefill: null,
          text: '',
          tokens: 0,
          failure: null,
        },
      },
    })),
  change: (threadId, change) =>
    set(({ live }) => {
      const answer = live[threadId]
      return answer === undefined ? {} : { live: { ...live, [threadId]: { ...answer, ...change(answer) } } }
    }),
  move: (from, to) =>
    set(({ live }) => {
      const answer = live[from]
      return answer === undefined ? {} : { live: { ...without(live, from), [to]: answer } }
    }),
  end: (threadId) => set(({ live }) => ({ live: without(live, threadId) })),
  setLeaving: (threadId, leaving) =>
    set((state) => {
      const next = new Set(state.leaving)
      if (leaving) next.add(threadId)
      else next.delete(threadId)
      return { leaving: next }
    }),
  announce: (announcement) => set({ announcement }),
}))

export function isBusy(answer: Pick<LiveAnswer, 'phase'> | undefined): boolean {
  return answer !== undefined && answer.phase !== 'failed'
}

/** The stores outside of rendering: in event handlers, effects and streams. */
export function readDrafts(): DraftState {
  return useDraftStore.getState()
}

export function readChats(): ChatState {
  return useChatStore.getState()
}
