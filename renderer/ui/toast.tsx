/** Short reports of results, with Undo where it can be undone. Never the only place of an error: that stays inline where it happened. */
import { Toast } from '@base-ui/react/toast'
import { CircleAlert, CircleCheck, Info, X } from 'lucide-react'
import type { ReactNode } from 'react'
import styles from './toast.module.css'

const manager = Toast.createToastManager()

/** Long enough to read and to reach Undo. */
const TIMEOUT_MS = 6000

export interface ToastOptions {
  readonly title: string
  readonly description?: string
  readonly type?: 'success' | 'error' | 'info'
  readonly action?: { readonly title: string; readonly onPress: () => void }
}

export function showToast({ title, description, type = 'info', action }: ToastOptions): void {
  const id = manager.add({
    title,
    type,
    timeout: TIMEOUT_MS,
    priority: type === 'error' ? 'high' : 'low',
    ...(description === undefined ? {} : { description }),
    ...(action === undefined
      ? {}
      : {
          actionProps: {
            children: action.title,
            onClick: () => {
              manager.close(id)
              action.onPress()
            },
          },
        }),
  })
}

export function ToastProvider({ children }: { readonly children: ReactNode }) {
  return (
    <Toast.Provider toastManager={manager} limit={3}>
      {children}
      <Toast.Portal>
        <Toast.Viewport className={styles.viewport}>
          <ToastList />
        </Toast.Viewport>
      </Toast.Portal>
    </Toast.Provider>
  )
}

const ICONS = { success: CircleCheck, error: CircleAlert, info: Info } as const

function ToastList() {
  const { toasts } = Toast.useToastManager()
  return toasts.map((toast) => {
    const Icon = ICONS[toast.type as keyof typeof ICONS] ?? Info
    return (
      <Toast.Root key={toast.id} toast={toast} className={styles.toast}>
        <Toast.Content className={styles.content}>
          <Icon size={16} aria-hidden className={styles.icon} />
          <div className={styles.text}>
            <Toast.Title className={styles.title} render={<p />} />
            <Toast.Description className={styles.description} />
          </div>
          {toast.actionProps !== undefined && <Toast.Action className={styles.action} />}
          <Toast.Close className={styles.close} aria-label="Dismiss">
            <X size={14} aria-hidden />
          </Toast.Close>
        </Toast.Content>
      </Toast.Root>
    )
  })
}
