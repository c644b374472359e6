/** The files of the folder. */
import type { ModelDetail } from '../../../engine/contract/index.ts'
import { Bytes } from '../../ui/numbers.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import styles from './inspector.module.css'

export function FilesTab({ detail }: { readonly detail: ModelDetail }) {
  return (
    <div className={styles.stack}>
      <p className={styles.fullName}>{detail.summary.path}</p>
      <Table label="Files" onSurface className={styles.files}>
        <thead>
          <tr>
            <HeaderCell>Name</HeaderCell>
            <HeaderCell align="end">Size</HeaderCell>
          </tr>
        </thead>
        <tbody>
          {detail.files.map((file) => (
            <Row key={file.name}>
              <Cell>{file.name}</Cell>
              <Cell align="end">
                <Bytes value={file.bytes} />
              </Cell>
            </Row>
          ))}
        </tbody>
      </Table>
    </div>
  )
}
