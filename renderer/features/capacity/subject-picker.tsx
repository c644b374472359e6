/** The model to plan for: from the library, or a published configuration. */
import type { CapacityCatalog } from '../../../engine/contract/index.ts'
import { formatCount } from '../../lib/format.ts'
import { Select } from '../../ui/controls.tsx'
import { ModelPicker } from '../models/model-picker.tsx'
import type { Ask } from './request.ts'

const NONE = 'none'

interface SubjectPickerProps {
  readonly parameters: URLSearchParams
  readonly ask: Ask
  readonly models: CapacityCatalog['models']
}

export function SubjectPicker({ parameters, ask, models }: SubjectPickerProps) {
  const published = parameters.get('published') ?? NONE
  return (
    <>
      <ModelPicker
        label="A model of the library"
        modelId={published === NONE ? parameters.get('model') : null}
        onChange={(model) => ask({ model, published: null, scheme: null, context: null })}
        blocked={notBlocked}
      />
      <Select
        label="A published model"
        value={models.some((model) => model.id === published) ? published : NONE}
        onChange={(id) => ask(id === NONE ? { published: null } : { published: id, model: null, scheme: null, context: null })}
        options={[
          { value: NONE, title: 'Published models' },
          ...models.map((model) => ({ value: model.id, title: model.name, hint: formatCount(model.parameters) })),
        ]}
      />
    </>
  )
}

/** Planning needs headers only: what can't be run here can still be planned for. */
function notBlocked(): null {
  return null
}
