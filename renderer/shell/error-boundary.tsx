/** Catches a defect in one screen so that the rest of the studio keeps working. */
import { Component, type ReactNode } from 'react'
import { ErrorCard } from '../ui/state.tsx'
import styles from './error-boundary.module.css'

interface Props {
  readonly children: ReactNode
  /** A change of this (the address) tries the children again. */
  readonly resetKey: string
}
interface State {
  readonly error: unknown
  readonly resetKey: string
}

export class ErrorBoundary extends Component<Props, State> {
  override state: State = { error: null, resetKey: this.props.resetKey }

  static getDerivedStateFromError(error: unknown): Partial<State> {
    return { error: error ?? new Error('Something was thrown without a reason') }
  }

  static getDerivedStateFromProps(props: Props, state: State): Partial<State> | null {
    return props.resetKey === state.resetKey ? null : { error: null, resetKey: props.resetKey }
  }

  override render(): ReactNode {
    if (this.state.error === null) return this.props.children
    return (
      <div className={styles.frame}>
        <h1 className={styles.title}>This screen stopped working</h1>
        <ErrorCard error={this.state.error} onRetry={() => this.setState({ error: null })} />
      </div>
    )
  }
}
