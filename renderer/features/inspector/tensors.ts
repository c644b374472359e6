/** The tensor list as a tree by layer, with filters. Plain functions over what the engine read from the headers. */
import type { TensorInfo } from '../../../engine/contract/index.ts'
import type { Share } from '../../ui/share-bar.tsx'

export interface TensorGroup {
  readonly kind: 'group'
  readonly id: string
  readonly title: string
  readonly count: number
  readonly bytes: number
}

export interface TensorLeaf {
  readonly kind: 'tensor'
  readonly id: string
  /** Name below its group: "self_attn.q_proj.weight". */
  readonly title: string
  readonly tensor: TensorInfo
}

export type TensorRow = TensorGroup | TensorLeaf

const KIND_TITLES: Readonly<Record<string, string>> = {
  attention: 'Attention',
  mlp: 'MLP',
  norm: 'Norms',
  embedding: 'Embedding',
  head: 'Output head',
  other: 'Other',
}

export function kindTitle(kind: string): string {
  return KIND_TITLES[kind] ?? kind
}

/** Largest first. */
export function sharesOf(bytesBy: Readonly<Record<string, number>>, title: (id: string) => string): readonly Share[] {
  return Object.entries(bytesBy)
    .map(([id, bytes]) => ({ id, title: title(id), bytes }))
    .sort((one, other) => other.bytes - one.bytes)
}

export interface TensorFilter {
  /** Words that must all occur in name, dtype, kind or shape. */
  readonly text: string
  readonly kind: string | null
}

export function filterTensors(tensors: readonly TensorInfo[], filter: TensorFilter): readonly TensorInfo[] {
  const words = filter.text
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '')
  return tensors.filter((tensor) => {
    if (filter.kind !== null && tensor.kind !== filter.kind) return false
    const haystack = `${tensor.name} ${tensor.dtype} ${tensor.kind} ${tensor.shape.join('x')}`.toLowerCase()
    return words.every((word) => haystack.includes(word))
  })
}

/** Layers in order, what belongs to no layer around them in file order: embeddings before, final norm and head after. */
export function tensorRows(tensors: readonly TensorInfo[], isOpen: (groupId: string) => boolean): readonly TensorRow[] {
  const before = tensors.filter((tensor) => tensor.layer === null && tensor.kind === 'embedding')
  const after = tensors.filter((tensor) => tensor.layer === null && tensor.kind !== 'embedding')
  const layers = [
    ...Map.groupBy(
      tensors.filter((tensor) => tensor.layer !== null),
      (tensor) => tensor.layer ?? 0,
    ),
  ].sort(([one], [other]) => one - other)
  const groups: { id: string; title: string; prefix: RegExp; members: readonly TensorInfo[] }[] = [
    { id: 'before', title: 'Embedding', prefix: /^$/, members: before },
    // Prefixes differ between families: everything up to the layer's number goes.
    ...layers.map(([layer, members]) => ({
      id: `layer-${layer}`,
      title: `Layer ${layer}`,
      prefix: new RegExp(`^.*?\\.${layer}\\.`),
      members,
    })),
    { id: 'after', title: 'After the layers', prefix: /^$/, members: after },
  ]
  return groups
    .filter((group) => group.members.length > 0)
    .flatMap((group): TensorRow[] => [
      {
        kind: 'group',
        id: group.id,
        title: group.title,
        count: group.members.length,
        bytes: group.members.reduce((sum, tensor) => sum + tensor.bytes, 0),
      },
      ...(isOpen(group.id)
        ? group.members.map((tensor): TensorRow => ({
            kind: 'tensor',
            id: tensor.name,
            title: tensor.name.replace(group.prefix, ''),
            tensor,
          }))
        : []),
    ])
}

export function formatShape(shape: readonly number[]): string {
  return shape.length === 0 ? 'scalar' : shape.join(' × ')
}
