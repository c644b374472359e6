/** Code in an answer: its language, and one press to copy it as it is. */
import { Check, Copy } from 'lucide-react'
import { useRef, useState, type ReactNode } from 'react'
import { Button } from '../../../ui/button.tsx'
import { useHost } from '../../../ui/host-context.tsx'
import styles from '../markdown.module.css'

export function AnswerCode({ language, children }: { readonly language: string | null; readonly children: ReactNode }) {
  const code = useRef<HTMLPreElement>(null)
  const host = useHost()
  const [copied, setCopied] = useState(false)
  const copy = async () => {
    await host.copyText((code.current?.textContent ?? '').replace(/\n$/, ''))
    setCopied(true)
  }
  return (
    <div className={styles.code}>
      <div className={styles.codeHeader}>
        <span>{language ?? 'text'}</span>
        <Button
          size="small"
          variant="ghost"
          icon={copied ? Check : Copy}
          aria-label={copied ? 'Code copied' : 'Copy code'}
          onClick={() => void copy()}
          onBlur={() => setCopied(false)}
        >
          {copied ? 'Copied' : 'Copy'}
        </Button>
      </div>
      {/* Wide code scrolls, so it must be reachable by keyboard. */}
      <pre ref={code} tabIndex={0} role="group" aria-label={language === null ? 'Code' : `Code in ${language}`}>
        {children}
      </pre>
    </div>
  )
}
