/** A chat without messages: what this is, and three prompts that this model can do something with. */
import { MessageSquare } from 'lucide-react'
import type { ModelSummary } from '../../../../engine/contract/index.ts'
import { Button } from '../../../ui/button.tsx'
import { EmptyState } from '../../../ui/state.tsx'
import styles from '../chat.module.css'

/** The sample model knows one made-up town and nothing else (assets/demo-model/README.md). */
const SAMPLE_PROMPTS = ['What kind of pet does Gus have?', 'How much is 12 minus 7?', 'Tell me a short story about Tidewater.']
const PROMPTS = [
  'Explain in three sentences how a transformer predicts the next word.',
  'Write a function that checks whether a word is a palindrome.',
  'Give me five names for a small bakery by the sea.',
]

interface SuggestionsProps {
  readonly model: ModelSummary
  /** The sample itself or a variant of it. */
  readonly isSample: boolean
  readonly onChoose: (prompt: string) => void
}

export function Suggestions({ model, isSample, onChoose }: SuggestionsProps) {
  return (
    <EmptyState
      icon={MessageSquare}
      title={`Chat with ${model.name}`}
      actions={
        <ul className={styles.suggestions} aria-label="Prompts to try">
          {(isSample ? SAMPLE_PROMPTS : PROMPTS).map((prompt) => (
            <li key={prompt}>
              <Button className={styles.suggestion} onClick={() => onChoose(prompt)}>
                {prompt}
              </Button>
            </li>
          ))}
        </ul>
      }
    >
      {isSample
        ? 'A tiny model that knows the made-up town of Tidewater and nothing else. It runs on this machine; nothing leaves it.'
        : 'It runs on this machine; nothing leaves it.'}
    </EmptyState>
  )
}
