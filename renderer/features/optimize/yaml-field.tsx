/** A plain text field for YAML with the numbers of its lines, and what is wrong beside the line it is wrong in. */
import { useId, type KeyboardEvent } from 'react'
import type { RecipeCheck } from '../../../engine/contract/index.ts'
import styles from './recipe.module.css'

/** In the style sheet too: numbers, text and remark share it. */
const LINE_REM = 1.25
const LEAST_LINES = 8

interface YamlFieldProps {
  readonly label: string
  readonly value: string
  readonly onChange: (value: string) => void
  readonly error: RecipeCheck['error']
}

export function YamlField({ label, value, onChange, error }: YamlFieldProps) {
  const errorId = useId()
  const lines = Math.max(LEAST_LINES, value.split('\n').length)
  // Tab leaves the field, as everywhere; Enter keeps the indentation, which is what YAML is made of.
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    const field = event.currentTarget
    if (event.key !== 'Enter' || event.shiftKey || event.nativeEvent.isComposing) return
    const before = field.value.slice(0, field.selectionStart)
    const indent = /^ */.exec(before.slice(before.lastIndexOf('\n') + 1))?.[0] ?? ''
    if (indent === '') return
    event.preventDefault()
    field.setRangeText(`\n${indent}`, field.selectionStart, field.selectionEnd, 'end')
    onChange(field.value)
  }
  return (
    <div className={styles.yaml}>
      <div className={styles.yamlBody}>
        <div className={styles.lineNumbers} aria-hidden>
          {Array.from({ length: lines }, (_, index) => (
            <span key={index} data-wrong={error?.line === index + 1 || undefined}>
              {index + 1}
            </span>
          ))}
        </div>
        <textarea
          className={styles.yamlText}
          aria-label={label}
          aria-invalid={error !== null}
          aria-describedby={error === null ? undefined : errorId}
          value={value}
          rows={lines}
          wrap="off"
          spellCheck={false}
          autoComplete="off"
          onChange={(event) => onChange(event.target.value)}
          onKeyDown={onKeyDown}
        />
        <div className={styles.remarks} aria-live="polite">
          {error !== null && (
            <div
              id={errorId}
              className={styles.remark}
              style={{ marginTop: error.line === null ? 0 : `${(error.line - 1) * LINE_REM}rem` }}
            >
              <strong>
                {error.line !== null && `Line ${error.line}: `}
                {error.message}
              </strong>{' '}
              {error.hint}
            </div>
          )}
        </div>
      </div>
    </div>
  )
}
