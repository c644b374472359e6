/** View state that belongs to no address: which overlay is open. Engine state never comes here. */
import { create } from 'zustand'

export interface FolderRequest {
  readonly title: string
  readonly confirm: string
  /** Said above the list, e.g. why the dialog opened after a drop. */
  readonly note: string | null
  /** Where to start; null = home folder. */
  readonly startPath: string | null
  /** The choice before this one and why it was refused: it is shown again, to be corrected. */
  readonly refused?: { readonly path: string; readonly error: unknown } | null
  readonly resolve: (path: string | null) => void
}

interface ViewState {
  readonly paletteOpen: boolean
  readonly cheatSheetOpen: boolean
  readonly jobsTrayOpen: boolean
  readonly folderRequest: FolderRequest | null
  readonly setPaletteOpen: (open: boolean) => void
  readonly setCheatSheetOpen: (open: boolean) => void
  readonly setJobsTrayOpen: (open: boolean) => void
  readonly toggleJobsTray: () => void
  readonly requestFolder: (request: Omit<FolderRequest, 'resolve'>) => Promise<string | null>
  readonly settleFolder: (path: string | null) => void
}

export const useViewStore = create<ViewState>()((set, get) => ({
  paletteOpen: false,
  cheatSheetOpen: false,
  jobsTrayOpen: false,
  folderRequest: null,
  setPaletteOpen: (paletteOpen) => set({ paletteOpen }),
  setCheatSheetOpen: (cheatSheetOpen) => set({ cheatSheetOpen }),
  setJobsTrayOpen: (jobsTrayOpen) => set({ jobsTrayOpen }),
  toggleJobsTray: () => set({ jobsTrayOpen: !get().jobsTrayOpen }),
  requestFolder: (request) =>
    new Promise((resolve) => {
      get().folderRequest?.resolve(null)
      set({ folderRequest: { ...request, resolve } })
    }),
  settleFolder: (path) => {
    get().folderRequest?.resolve(path)
    set({ folderRequest: null })
  },
}))
