// out = silu(gate) · up with gateUp = [gate | up]. silu(g) = g / (1 + exp(−g)). One invocation per four columns of a row, rows along y; per single
// column where rows do not begin at whole fours.
@group(0) @binding(0) var<storage, read> gateUp: array<Element>;
@group(0) @binding(1) var<storage, read_write> out: array<Element>;
//#if QUADS
alias Element = vec4<f32>;
//#else
alias Element = f32;
//#end

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= COUNT) {
    return;
  }
  let base = id.y * IN_STRIDE + id.x;
  let gate = gateUp[base];
  let up = gateUp[base + COUNT];
  out[id.y * OUT_STRIDE + id.x] = gate / (Element(1.0f) + exp(-gate)) * up;
}
