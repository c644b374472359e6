// out = silu(gate) · up with gateUp = [gate | up]. silu(g) = g / (1 + exp(−g)).
struct Params {
  count: u32,
}
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> gateUp: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  // y folds grids beyond 65 535 workgroups; rows are the outer part of the index.
  let index = id.x + id.y * WORKGROUPS_X * WORKGROUP;
  if (index >= params.count) {
    return;
  }
  let row = index / WIDTH;
  let column = index % WIDTH;
  let gate = gateUp[row * IN_STRIDE + column];
  let up = gateUp[row * IN_STRIDE + WIDTH + column];
  out[row * OUT_STRIDE + column] = gate / (1.0f + exp(-gate)) * up;
}
