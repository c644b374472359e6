/** Short facts in a row, separated by dots that disappear where the line breaks. */
import type { ReactNode } from 'react'
import { classNames } from '../lib/class-names.ts'
import styles from './dot-list.module.css'

export function DotList({ items, className }: { readonly items: readonly ReactNode[]; readonly className?: string | undefined }) {
  return (
    <p className={classNames(styles.list, className)}>
      {items.map((item, index) => (
        <span key={index} className={styles.item}>
          {item}
        </span>
      ))}
    </p>
  )
}
