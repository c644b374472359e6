/** Mappings from recipes: LLM Compressor's own patterns are understood, and what would change the model is refused. */
import { describe, expect, it } from 'vitest'
import { TINY_CONFIG } from '../../model/test/memory-checkpoint.ts'
import { describeModel } from '../../model/spec.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { checkMappings, inputsToSmooth } from './smoothing-mappings.ts'

const SHARED_HEADS = describeModel(TINY_CONFIG, null)
const OWN_HEADS = describeModel({ ...TINY_CONFIG, num_key_value_heads: 2 }, null)
const FUSED: ModelSpec = { ...OWN_HEADS, family: 'phi3', projections: 'fused' }

const QKV = ['re:.*q_proj', 're:.*k_proj', 're:.*v_proj']

describe('smoothing mappings', () => {
  it('are those of the architecture where a recipe has none', () => {
    expect(inputsToSmooth('awq', null, OWN_HEADS, 0)).toEqual(['attention', 'context', 'mlp', 'activated'])
    expect(inputsToSmooth('awq', null, FUSED, 0)).toEqual(['attention', 'context', 'mlp', 'activated'])
    expect(inputsToSmooth('awq', null, SHARED_HEADS, 0)).toEqual(['attention', 'mlp', 'activated'])
    expect(inputsToSmooth('smoothquant', null, SHARED_HEADS, 0)).toEqual(['attention', 'mlp'])
  })

  it('are read as LLM Compressor writes them', () => {
    const mappings = [
      { smooth: 're:.*input_layernorm', balance: QKV },
      { smooth: 're:.*v_proj', balance: ['re:.*o_proj'] },
      { smooth: 're:.*up_proj', balance: ['re:.*down_proj'] },
    ]
    checkMappings('awq', mappings, OWN_HEADS)
    expect(inputsToSmooth('awq', mappings, OWN_HEADS, 1)).toEqual(['attention', 'context', 'activated'])
    expect(
      inputsToSmooth('awq', [{ smooth: 'model.layers.1.post_attention_layernorm', balance: ['gate_proj', 'up_proj'] }], OWN_HEADS, 1),
    ).toEqual(['mlp'])
    expect(
      inputsToSmooth('awq', [{ smooth: 'model.layers.1.post_attention_layernorm', balance: ['gate_proj', 'up_proj'] }], OWN_HEADS, 0),
    ).toEqual([])
  })

  it.each([
    [{ smooth: 're:.*input_layernorm', balance: QKV.slice(0, 2) }, 'leaves out self_attn.v_proj, which reads the same input'],
    [{ smooth: 're:.*q_proj', balance: ['re:.*k_proj'] }, 'fits no layer of this model'],
    [{ smooth: 're:.*gate_proj', balance: ['re:.*down_proj'] }, 'fits no layer of this model'],
    [{ smooth: 're:.*pre_feedforward_layernorm', balance: ['re:.*gate_proj', 're:.*up_proj'] }, 'fits no layer of this model'],
  ])('refuse what would change the model: %j', (mapping, message) => {
    expect(() => checkMappings('awq', [mapping], OWN_HEADS)).toThrow(message)
  })

  it('refuse an architecture whose layers nobody has described', () => {
    expect(() => checkMappings('smoothquant', null, { ...OWN_HEADS, family: 'olmo2' })).toThrow(
      'SmoothQuant does not know which modules of "olmo2"',
    )
  })
})
