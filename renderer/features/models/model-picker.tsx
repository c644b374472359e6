/** Choosing a model, the same way everywhere: found by typing, variants under their source, each with its fit and size. */
import { Popover } from '@base-ui/react/popover'
import { Command as Cmdk } from 'cmdk'
import { Check, ChevronsUpDown } from 'lucide-react'
import { useState } from 'react'
import type { ModelSummary } from '../../../engine/contract/index.ts'
import { classNames } from '../../lib/class-names.ts'
import { Badge } from '../../ui/badge.tsx'
import { FitDot } from '../../ui/fit-bar.tsx'
import styles from './model-picker.module.css'
import { Bytes } from '../../ui/numbers.tsx'
import popup from '../../ui/popup.module.css'
import { blockedReason, modelTree, variantTitle } from './library.ts'
import { useFit, useModels } from './queries.ts'

interface ModelPickerProps {
  readonly label: string
  readonly modelId: string | null
  readonly onChange: (modelId: string) => void
  /** Which models are offered: all, or only sources (variants can't be compressed again). */
  readonly offer?: 'all' | 'sources'
  /** Why this one can't be chosen here; null = it can. By default a model that can't be run. */
  readonly blocked?: (model: ModelSummary) => string | null
}

export function ModelPicker({ label, modelId, onChange, offer = 'all', blocked = blockedReason }: ModelPickerProps) {
  const models = useModels().data ?? []
  const fitOf = useFit()
  const [open, setOpen] = useState(false)
  const chosen = models.find((model) => model.id === modelId)
  const chosenFit = chosen === undefined ? null : fitOf(chosen)
  const entry = (model: ModelSummary, source?: ModelSummary) => {
    const fit = fitOf(model)
    const reason = blocked(model)
    return (
      <Cmdk.Item
        key={model.id}
        value={model.id}
        keywords={[model.name, model.scheme]}
        disabled={reason !== null}
        className={styles.item}
        data-variant={source !== undefined || undefined}
        title={reason ?? model.path}
        onSelect={() => {
          onChange(model.id)
          setOpen(false)
        }}
      >
        <span className={styles.dot}>{fit !== null && reason === null && <FitDot fit={fit} />}</span>
        <span className={styles.name}>{variantTitle(model, source)}</span>
        <Badge>{model.scheme}</Badge>
        <span className={styles.size}>
          <Bytes value={model.weightBytes} />
        </span>
        <span className={styles.check}>{model.id === modelId && <Check size={14} aria-label="chosen" />}</span>
      </Cmdk.Item>
    )
  }
  return (
    <Popover.Root open={open} onOpenChange={(next) => setOpen(next)}>
      <Popover.Trigger className={styles.trigger} aria-label={chosen === undefined ? label : `${label}: ${chosen.name}`}>
        {chosenFit !== null && <FitDot fit={chosenFit} />}
        <span className={classNames(styles.name, chosen === undefined && styles.placeholder)}>{chosen?.name ?? label}</span>
        <ChevronsUpDown size={14} aria-hidden />
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Positioner sideOffset={4} align="start" collisionPadding={8} className={popup.positioner}>
          <Popover.Popup className={classNames(popup.popup, styles.popup)} aria-label={label}>
            <Cmdk label={label} defaultValue={modelId ?? ''} loop>
              <Cmdk.Input className={styles.input} placeholder="Find a model" />
              <Cmdk.List className={styles.list}>
                <Cmdk.Empty className={styles.empty}>No such model in the library.</Cmdk.Empty>
                {modelTree(models).map((node) => [
                  entry(node.model),
                  ...(offer === 'all' ? node.variants.map((variant) => entry(variant.model, node.model)) : []),
                ])}
              </Cmdk.List>
            </Cmdk>
          </Popover.Popup>
        </Popover.Positioner>
      </Popover.Portal>
    </Popover.Root>
  )
}
