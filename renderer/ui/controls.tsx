/** Form controls. Each is named by visible text, a wrapping label, or `label`. */
import { Checkbox as BaseCheckbox } from '@base-ui/react/checkbox'
import { Select as BaseSelect } from '@base-ui/react/select'
import { Slider as BaseSlider } from '@base-ui/react/slider'
import { Switch as BaseSwitch } from '@base-ui/react/switch'
import { Check, ChevronsUpDown, Search } from 'lucide-react'
import { useId, type ComponentProps, type ReactNode } from 'react'
import { classNames } from '../lib/class-names.ts'
import styles from './controls.module.css'
import popup from './popup.module.css'

export function TextInput({ className, ...rest }: ComponentProps<'input'>) {
  return <input type="text" spellCheck={false} autoComplete="off" {...rest} className={classNames(styles.input, className)} />
}

export function TextArea({ className, ...rest }: ComponentProps<'textarea'>) {
  return <textarea spellCheck={false} {...rest} className={classNames(styles.input, className)} />
}

export function SearchInput({ label, ...rest }: Omit<ComponentProps<'input'>, 'aria-label'> & { readonly label: string }) {
  return (
    <span className={styles.search}>
      <Search size={14} aria-hidden />
      <TextInput {...rest} type="search" aria-label={label} />
    </span>
  )
}

/** A label, its control and what there is to say about it. The control gets the id. */
export function Field({
  label,
  description,
  error,
  children,
}: {
  readonly label: ReactNode
  readonly description?: ReactNode
  readonly error?: ReactNode
  readonly children: (control: {
    readonly id: string
    readonly 'aria-describedby': string | undefined
    readonly 'aria-invalid': true | undefined
  }) => ReactNode
}) {
  const id = useId()
  const describedBy = description !== undefined || error !== undefined ? `${id}-about` : undefined
  return (
    <div className={styles.field}>
      <label htmlFor={id} className={styles.label}>
        {label}
      </label>
      {children({ id, 'aria-describedby': describedBy, 'aria-invalid': error === undefined ? undefined : true })}
      {describedBy !== undefined && (
        <div
          id={describedBy}
          className={error === undefined ? styles.description : styles.fieldError}
          role={error === undefined ? undefined : 'alert'}
        >
          {error ?? description}
        </div>
      )}
    </div>
  )
}

interface SwitchProps {
  readonly label: ReactNode
  readonly description?: ReactNode
  readonly checked: boolean
  readonly onChange: (checked: boolean) => void
  readonly disabled?: boolean
}

export function Switch({ label, description, checked, onChange, disabled = false }: SwitchProps) {
  const id = useId()
  return (
    <div className={styles.switchRow}>
      <span className={styles.switchText}>
        <label htmlFor={id} className={styles.label}>
          {label}
        </label>
        {description !== undefined && (
          <span id={`${id}-about`} className={styles.description}>
            {description}
          </span>
        )}
      </span>
      <BaseSwitch.Root
        id={id}
        checked={checked}
        onCheckedChange={(next) => onChange(next)}
        disabled={disabled}
        aria-describedby={description === undefined ? undefined : `${id}-about`}
        className={styles.switch}
      >
        <BaseSwitch.Thumb className={styles.thumb} />
      </BaseSwitch.Root>
    </div>
  )
}

export function Checkbox({
  label,
  checked,
  onChange,
  disabled = false,
}: {
  readonly label: string
  readonly checked: boolean
  readonly onChange: (checked: boolean) => void
  readonly disabled?: boolean
}) {
  return (
    <BaseCheckbox.Root
      aria-label={label}
      checked={checked}
      disabled={disabled}
      onCheckedChange={(next) => onChange(next)}
      className={styles.checkbox}
    >
      <BaseCheckbox.Indicator>
        <Check size={12} strokeWidth={3.5} aria-hidden />
      </BaseCheckbox.Indicator>
    </BaseCheckbox.Root>
  )
}

interface SliderProps {
  readonly label: ReactNode
  readonly value: number
  readonly min: number
  readonly max: number
  readonly step?: number
  readonly format: (value: number) => string
  readonly onChange: (value: number) => void
  /** Called once when the thumb is let go, for work too heavy to do on every move. */
  readonly onCommit?: (value: number) => void
  readonly marks?: readonly string[]
}

export function Slider({ label, value, min, max, step = 1, format, onChange, onCommit, marks }: SliderProps) {
  return (
    <BaseSlider.Root
      value={value}
      min={min}
      max={max}
      step={step}
      thumbAlignment="edge"
      onValueChange={(next) => onChange(Number(next))}
      onValueCommitted={(next) => onCommit?.(Number(next))}
      className={styles.slider}
    >
      <BaseSlider.Label className={styles.label}>{label}</BaseSlider.Label>
      <span className={classNames('numeric', styles.sliderValue)}>{format(value)}</span>
      <BaseSlider.Control className={styles.sliderControl}>
        <BaseSlider.Track className={styles.sliderTrack}>
          <BaseSlider.Indicator className={styles.sliderIndicator} />
          <BaseSlider.Thumb className={styles.sliderThumb} getAriaValueText={() => format(value)} />
        </BaseSlider.Track>
      </BaseSlider.Control>
      {marks !== undefined && (
        <span className={styles.sliderMarks} aria-hidden>
          {marks.map((mark) => (
            <span key={mark}>{mark}</span>
          ))}
        </span>
      )}
    </BaseSlider.Root>
  )
}

interface SelectProps<T extends string> {
  readonly label: string
  readonly value: T
  readonly onChange: (value: T) => void
  readonly options: readonly { readonly value: T; readonly title: string; readonly hint?: string; readonly disabled?: boolean }[]
  readonly size?: 'small' | 'medium'
  /** Shown before the value inside the control, e.g. "Sort by". */
  readonly prefix?: string
  readonly id?: string
}

export function Select<T extends string>({ label, value, onChange, options, size = 'medium', prefix, id }: SelectProps<T>) {
  return (
    <BaseSelect.Root
      value={value}
      onValueChange={(next) => next !== null && onChange(next)}
      items={options.map((option) => ({ value: option.value, label: option.title }))}
    >
      <BaseSelect.Trigger id={id} aria-label={label} className={classNames(styles.select, size === 'small' && styles.selectSmall)}>
        {prefix !== undefined && <span className={styles.selectPrefix}>{prefix}</span>}
        <BaseSelect.Value className={styles.selectText} />
        <BaseSelect.Icon>
          <ChevronsUpDown size={14} aria-hidden />
        </BaseSelect.Icon>
      </BaseSelect.Trigger>
      <BaseSelect.Portal>
        <BaseSelect.Positioner sideOffset={4} alignItemWithTrigger={false} className={popup.positioner}>
          <BaseSelect.Popup className={popup.popup}>
            <BaseSelect.List className={popup.list}>
              {options.map((option) => (
                <BaseSelect.Item key={option.value} value={option.value} disabled={option.disabled ?? false} className={popup.item}>
                  <span className={styles.check}>
                    <BaseSelect.ItemIndicator>
                      <Check size={14} aria-hidden />
                    </BaseSelect.ItemIndicator>
                  </span>
                  <BaseSelect.ItemText className={popup.grow}>{option.title}</BaseSelect.ItemText>
                  {option.hint !== undefined && <span className={popup.hint}>{option.hint}</span>}
                </BaseSelect.Item>
              ))}
            </BaseSelect.List>
          </BaseSelect.Popup>
        </BaseSelect.Positioner>
      </BaseSelect.Portal>
    </BaseSelect.Root>
  )
}
