// Joins the chunks that attention (SPLIT) left, in rising order and by the same steps as its undivided form. One workgroup per (head, token).
struct Params {
  chunks: u32,
}
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> scratch: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
const LOWEST: f32 = -3.0e38f;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let head = group_id.x;
  let token = group_id.y;
  let position = positions[token];
//#if WINDOW
  let firstKey = select(0u, position + 1u - WINDOW, position + 1u > WINDOW);
//#else
  let firstKey = 0u;
//#end
  let count = position / CHUNK - firstKey / CHUNK + 1u;
  for (var quad = index; quad < QUADS; quad += WORKGROUP) {
    var best = LOWEST;
    var sum = 0.0f;
    var mix = vec4<f32>(0.0f);
    var broken = 0.0f;
    for (var first = 0u; first < count; first += AHEAD) {
//#repeat t AHEAD
      let base_{t} = ((token * params.chunks + min(first + {t}u, count - 1u)) * HEADS + head) * (QUADS + 1u);
      let facts_{t} = scratch[base_{t} + QUADS];
      let part_{t} = scratch[base_{t} + quad];
//#end
//#repeat t AHEAD
      if (first + {t}u < count) {
        let next = max(best, facts_{t}.x);
        let old = exp(best - next);
        let fresh = exp(facts_{t}.x - next);
        sum = fma(sum, old, facts_{t}.y * fresh);
        mix = fma(mix, vec4<f32>(old), part_{t} * fresh);
        best = next;
        broken = max(broken, facts_{t}.z);
      }
//#end
    }
    var result = mix / sum;
    if (broken > 0.0f) {
      var quietNan = 0x7fc00000u;
      result = vec4<f32>(bitcast<f32>(quietNan));
    }
    let base = token * OUT_STRIDE + head * HEAD_DIM + 4u * quad;
//#repeat k 4
    if (4u * quad + {k}u < HEAD_DIM) {
      out[base + {k}u] = result[{k}];
    }
//#end
  }
}
