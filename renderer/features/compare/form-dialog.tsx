/** A dialog whose fields ask the engine for one thing: it closes when that is done, and stays with what was typed when it is refused. */
import { useMutation } from '@tanstack/react-query'
import { useId, type ReactNode } from 'react'
import { Button } from '../../ui/button.tsx'
import { Dialog } from '../../ui/dialog.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import styles from './compare.module.css'

interface FormDialogProps<T> {
  readonly title: string
  readonly description: string
  /** On the button that submits. */
  readonly action: string
  /** Whether what was entered can be sent. */
  readonly ready: boolean
  readonly submit: () => Promise<T>
  readonly onDone: (result: T) => void
  readonly onClose: () => void
  readonly children: ReactNode
}

export function FormDialog<T>({ title, description, action, ready, submit, onDone, onClose, children }: FormDialogProps<T>) {
  const id = useId()
  const submitting = useMutation({
    mutationFn: submit,
    onSuccess: (result) => {
      onDone(result)
      onClose()
    },
  })
  return (
    <Dialog
      open
      onClose={onClose}
      title={title}
      description={description}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" form={id} variant="primary" busy={submitting.isPending} disabled={!ready}>
            {action}
          </Button>
        </>
      }
    >
      <form
        id={id}
        className={styles.form}
        onSubmit={(event) => {
          event.preventDefault()
          if (ready) submitting.mutate()
        }}
      >
        {children}
        {submitting.error !== null && <ErrorCard error={submitting.error} />}
      </form>
    </Dialog>
  )
}
