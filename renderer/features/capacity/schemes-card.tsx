/** Every storage scheme on this device, as a table: what it takes, whether it fits, what it makes room for, how fast it may be. */
import type { CapacityPlan } from '../../../engine/contract/index.ts'
import { formatInteger } from '../../lib/format.ts'
import { FitDot } from '../../ui/fit-bar.tsx'
import { Info } from '../../ui/info.tsx'
import { Bytes, EstimateRange, Significant } from '../../ui/numbers.tsx'
import { Card } from '../../ui/page.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import { Button } from '../../ui/button.tsx'
import styles from './capacity.module.css'
import type { Ask } from './request.ts'

export function SchemesCard({ plan, ask }: { readonly plan: CapacityPlan; readonly ask: Ask }) {
  const { request, schemes } = plan
  return (
    <Card
      padded={false}
      className={styles.tableCard}
      title="Every storage scheme here"
      actions={
        request.schemeId !== null && (
          <Button size="small" variant="ghost" onClick={() => ask({ scheme: null })}>
            As it is stored
          </Button>
        )
      }
    >
      <Table label="Storage schemes" onSurface dense>
        <thead>
          <tr>
            <HeaderCell>Scheme</HeaderCell>
            <HeaderCell align="end" column="bits">
              Bits per weight
            </HeaderCell>
            <HeaderCell align="end">Weights</HeaderCell>
            <HeaderCell>Fits</HeaderCell>
            <HeaderCell align="end">Longest context</HeaderCell>
            <HeaderCell align="end" column="at-once">
              Most at once
            </HeaderCell>
            <HeaderCell align="end">Decode alone</HeaderCell>
          </tr>
        </thead>
        <tbody>
          {schemes.map((option) => (
            <Row key={option.scheme.id} selected={option.scheme.id === request.schemeId}>
              <th scope="row" className={styles.rowTitle}>
                <button type="button" className={styles.link} onClick={() => ask({ scheme: option.scheme.id })}>
                  {option.scheme.title}
                </button>
                {option.scheme.id === plan.bestSchemeId && <span className={styles.best}>best that fits</span>}
              </th>
              <Cell align="end" data-column="bits">
                <Significant value={option.scheme.bitsPerWeight} />
              </Cell>
              <Cell align="end">
                <Bytes value={option.weightBytes} />
              </Cell>
              <Cell>
                <span className={styles.fits}>
                  <FitDot fit={{ ...plan.fit, weightBytes: option.weightBytes / plan.tensorParallel.count, verdict: option.verdict }} />
                  {option.caution !== null && (
                    <Info card={option.caution} label={`Caution against ${option.scheme.title}: ${option.caution}`} underlined>
                      caution
                    </Info>
                  )}
                </span>
              </Cell>
              <Cell align="end">{option.largestContext === null ? '—' : formatInteger(option.largestContext)}</Cell>
              <Cell align="end" data-column="at-once">
                {option.largestConcurrency === null ? '—' : formatInteger(option.largestConcurrency)}
              </Cell>
              <Cell align="end">
                <EstimateRange value={option.decode} unit="tok/s" source={plan.gpu.source} />
              </Cell>
            </Row>
          ))}
        </tbody>
      </Table>
    </Card>
  )
}
