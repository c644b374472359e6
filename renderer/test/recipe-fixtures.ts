/** What the fake engine answers about recipes: a reader that knows one key, schemes and layers of plausible sizes, calibration text. */
import type {
  AutomaticEvent,
  CalibrationChoice,
  CalibrationReport,
  CustomRecipe,
  ModelSummary,
  Predicted,
  RecipeCheck,
  RecipeForm,
  SchemeInfo,
  SchemeMap,
} from '../../engine/contract/index.ts'
import { PRESETS, tensorsOf } from './fixtures.ts'

export const SCHEMES: readonly SchemeInfo[] = [
  { id: 'W4A16', bits: 4, groupSizes: [128, 64, 32, null], needsCalibration: false, inputElements: [] },
  { id: 'W8A16', bits: 8, groupSizes: [128, 64, 32, null], needsCalibration: false, inputElements: [] },
  { id: 'FP8_DYNAMIC', bits: 8, groupSizes: [null], needsCalibration: false, inputElements: ['e4m3'] },
  { id: 'NVFP4', bits: 4, groupSizes: [16], needsCalibration: true, inputElements: ['e2m1'] },
]

const OPTIONS: readonly (readonly [scheme: string, bits: number])[] = [
  ['W3A16 g128', 3.125],
  ['W4A16 g128', 4.125],
  ['W4A16 g32 asymmetric', 4.625],
  ['W8A16 channel', 8],
  ['FP8_DYNAMIC', 8],
]

export function yamlOf(form: RecipeForm): string {
  const modifier = form.algorithm === 'gptq' ? 'GPTQModifier' : 'QuantizationModifier'
  return [
    'default_stage:',
    '  default_modifiers:',
    ...(form.algorithm === 'awq' ? ['    AWQModifier: {}'] : []),
    `    ${modifier}:`,
    `      scheme: ${form.scheme}`,
    `      group_size: ${form.groupSize ?? -1}`,
    `      ignore: [${form.ignore.join(', ')}]`,
    '',
  ].join('\n')
}

export function presetRecipeOf(presetId: string): CustomRecipe {
  const preset = PRESETS.find((candidate) => candidate.id === presetId)
  const scheme = preset?.scheme.split(' ')[0] ?? 'W4A16'
  const form: RecipeForm = { algorithm: 'rtn', scheme, groupSize: scheme === 'W8A16' ? null : 128, ignore: ['lm_head'] }
  return { title: preset?.title ?? presetId, yaml: yamlOf(form) }
}

/** Knows the form that `yamlOf` writes, and refuses `bits:` as the real reader does. */
export function checkOf(yaml: string, predict: (bits: number) => Predicted): RecipeCheck {
  const lines = yaml.split('\n')
  const wrong = lines.findIndex((line) => /^\s*(bits|sheme):/.test(line))
  if (wrong !== -1) {
    const key = /(\w+):/.exec(lines[wrong] ?? '')?.[1] ?? ''
    const message = `QuantizationModifier: "${key}" is not known.`
    const hint = key === 'sheme' ? 'Did you mean "scheme"?' : 'Known here: config_groups, scheme, targets, ignore.'
    return { error: { code: 'compress.invalid-recipe', message, hint, line: wrong + 1 }, recipe: null }
  }
  const scheme = /scheme: (\S+)/.exec(yaml)?.[1]
  if (scheme === undefined) {
    const message = 'The recipe has no modifiers.'
    return {
      error: { code: 'compress.invalid-recipe', message, hint: 'Correct the recipe, or choose a preset.', line: null },
      recipe: null,
    }
  }
  const size = Number(/group_size: (-?\d+)/.exec(yaml)?.[1] ?? 128)
  const algorithm = /GPTQModifier/.test(yaml) ? 'gptq' : /AWQModifier/.test(yaml) ? 'awq' : 'rtn'
  const ignore = (/ignore: \[(.*)\]/.exec(yaml)?.[1] ?? '').split(', ').filter((name) => name !== '')
  const form: RecipeForm = { algorithm, scheme, groupSize: size === -1 ? null : size, ignore }
  return {
    error: null,
    recipe: {
      yaml,
      form: /PruningModifier/.test(yaml) ? null : form,
      needsCalibration: algorithm !== 'rtn',
      scheme: `${scheme}${size === -1 ? ' channel' : ` g${size}`}`,
      predicted: predict(scheme.startsWith('W8') || scheme.startsWith('FP8') ? 8 : 4 + 16 / Math.max(16, size)),
      blockedBy: null,
      warnings: [],
    },
  }
}

const UNITS: readonly (readonly [suffix: string, members: readonly string[]])[] = [
  ['self_attn.q_proj+k_proj+v_proj', ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj']],
  ['self_attn.o_proj', ['self_attn.o_proj']],
  ['mlp.gate_proj+up_proj', ['mlp.gate_proj', 'mlp.up_proj']],
  ['mlp.down_proj', ['mlp.down_proj']],
]

export function schemeMapOf(model: ModelSummary, scheme: string, losses = false): SchemeMap {
  const bytesOf = new Map(tensorsOf(model).map((tensor) => [tensor.name, tensor.bytes]))
  const units = Array.from({ length: model.architecture.layers ?? 0 }, (_, layer) =>
    UNITS.map(([suffix, members]): SchemeMap['units'][number] => {
      const modules = members.map((member) => `model.layers.${layer}.${member}`)
      const plainBytes = modules.reduce((sum, module) => sum + (bytesOf.get(`${module}.weight`) ?? 0), 0)
      const options = OPTIONS.map(([name, bits]) => ({ scheme: name, bytes: Math.round((plainBytes * bits) / 16) }))
      return {
        id: `model.layers.${layer}.${suffix}`,
        layer,
        role: members.map((member) => member.slice(member.indexOf('.') + 1)).join(' + '),
        modules,
        parameters: plainBytes / 2,
        scheme,
        bytes: options.find((option) => option.scheme === scheme)?.bytes ?? plainBytes,
        plainBytes,
        options,
        refused: null,
        loss: losses ? 0.002 / (layer + 1) : null,
      }
    }),
  ).flat()
  const plain = units.reduce((sum, unit) => sum + unit.plainBytes, 0)
  const weightBytes = model.weightBytes - plain + units.reduce((sum, unit) => sum + unit.bytes, 0)
  return { units, weightBytes, bitsPerWeight: (weightBytes * 8) / model.parameters, parameters: model.parameters }
}

export function calibrationReportOf({ source, samples, sequenceLength }: CalibrationChoice): CalibrationReport {
  if (source.kind === 'file' && source.path.includes('broken')) {
    const message = 'Line 3 of broken.jsonl is not JSON.'
    const hint = 'Each line must be one object: {"text": "…"} or {"messages": […]}. Save plain text as .txt.'
    const error = { code: 'compress.invalid-calibration' as const, message, hint, line: 3 }
    return { name: 'broken.jsonl', documents: 0, kind: 'text', excerpts: [], samples: 0, tokens: 0, exact: true, warnings: [], error }
  }
  const used = Math.min(512, samples)
  return {
    name: source.kind === 'bundled' ? 'calibration.jsonl' : (source.path.split('/').at(-1) ?? source.path),
    documents: 512,
    kind: 'text',
    excerpts: ['system You are Pebble, a helpful guide to Tidewater.', 'Leo the boat builder lived on Heron Road.'],
    samples: used,
    tokens: used * Math.min(sequenceLength, 118),
    exact: false,
    warnings: samples > 512 ? [`${samples} samples were asked for; the text has 512.`] : [],
    error: null,
  }
}

export function automaticOf(model: ModelSummary, target: string): AutomaticEvent[] {
  const map = schemeMapOf(model, 'W4A16 g128', true)
  const units = map.units.map((unit) =>
    unit.layer === 0 ? { ...unit, scheme: 'W8A16 channel', bytes: Math.round(unit.plainBytes / 2) } : unit,
  )
  const added = units.reduce((sum, unit) => sum + unit.bytes, 0) - map.units.reduce((sum, unit) => sum + unit.bytes, 0)
  const weightBytes = map.weightBytes + added
  return [
    { kind: 'progress', done: 1, total: units.length, unit: units[0]?.id ?? '' },
    {
      kind: 'done',
      yaml: `# ${target}\n${yamlOf({ algorithm: 'rtn', scheme: 'W4A16', groupSize: 128, ignore: ['lm_head'] })}`,
      map: { ...map, units, weightBytes, bitsPerWeight: (weightBytes * 8) / map.parameters },
      predictedLoss: units.reduce((sum, unit) => sum + (unit.loss ?? 0), 0),
      exact: true,
    },
  ]
}
