/**
 * An answer's markdown. What a model writes is not trusted: raw HTML is shown as text, pictures are named and never fetched, and a link is a link
 * only when it is https and leaves through the host. Finished blocks are memoised, so that a long answer costs no more per token than a short one.
 */
import { ImageOff } from 'lucide-react'
import { memo, type ReactNode } from 'react'
import ReactMarkdown, { type Components, type Options } from 'react-markdown'
import rehypeHighlight from 'rehype-highlight'
import remarkGfm from 'remark-gfm'
import { useHost } from '../../../ui/host-context.tsx'
import { splitBlocks } from '../markdown-blocks.ts'
import styles from '../markdown.module.css'
import { AnswerCode } from './code-block.tsx'

const remarkPlugins: Options['remarkPlugins'] = [remarkGfm]
const rehypePlugins: Options['rehypePlugins'] = [[rehypeHighlight, { detect: false }]]

function httpsUrl(url: string | undefined): string | null {
  if (url === undefined || !URL.canParse(url)) return null
  const parsed = new URL(url)
  return parsed.protocol === 'https:' ? parsed.href : null
}

function OutsideLink({ href, children }: { readonly href: string | undefined; readonly children?: ReactNode }) {
  const host = useHost()
  const url = httpsUrl(href)
  if (url === null) return <span title={href}>{children}</span>
  return (
    <a
      href={url}
      title={url}
      target="_blank"
      rel="noopener noreferrer"
      onClick={(event) => {
        event.preventDefault()
        host.openLink(url)
      }}
    >
      {children}
    </a>
  )
}

// An answer is a part of the page: its headings start below the page's own.
const components: Components = {
  h1: ({ children }) => <h3>{children}</h3>,
  h2: ({ children }) => <h3>{children}</h3>,
  h3: ({ children }) => <h4>{children}</h4>,
  h4: ({ children }) => <h5>{children}</h5>,
  h5: ({ children }) => <h6>{children}</h6>,
  a: ({ href, children }) => <OutsideLink href={href}>{children}</OutsideLink>,
  img: ({ alt }) => (
    <span className={styles.picture} title="Pictures in answers are never loaded">
      <ImageOff size={12} aria-hidden /> Picture not loaded{alt === undefined || alt === '' ? '' : `: ${alt}`}
    </span>
  ),
  input: ({ checked }) => (
    <input type="checkbox" checked={checked === true} disabled readOnly aria-label={checked === true ? 'done' : 'to do'} />
  ),
  table: ({ children }) => (
    <div className={styles.table} tabIndex={0} role="group" aria-label="Table">
      <table>{children}</table>
    </div>
  ),
  pre: ({ node, children }) => {
    const code = node?.children[0]
    const names = code?.type === 'element' ? code.properties['className'] : undefined
    const language = Array.isArray(names) ? names.map(String).find((name) => name.startsWith('language-')) : undefined
    return <AnswerCode language={language?.slice('language-'.length) ?? null}>{children}</AnswerCode>
  },
}

const Block = memo(function Block({ text }: { readonly text: string }) {
  return (
    <ReactMarkdown remarkPlugins={remarkPlugins} rehypePlugins={rehypePlugins} components={components}>
      {text}
    </ReactMarkdown>
  )
})

export function Markdown({ text }: { readonly text: string }) {
  return (
    <div className={styles.markdown}>
      {splitBlocks(text).map((block, index) => (
        <Block key={index} text={block} />
      ))}
    </div>
  )
}
