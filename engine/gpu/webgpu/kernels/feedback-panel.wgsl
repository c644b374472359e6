// out[i, c] = R[i, k] / R[k, k] for k = first + c and i < k, and R[k, k] for i = k; in processing order, from one shard of L (R is L with both orders reversed).
struct Immediates {
  columns: u32,
  stride: u32,
  firstRow: u32,
  rows: u32,
  first: u32,
  width: u32,
}
var<immediate> panel: Immediates;
@group(0) @binding(0) var<storage, read> factor: array<f32>;
@group(0) @binding(1) var<storage, read> pivots: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let c = id.x;
  let i = id.y;
  let k = panel.first + c;
  let row = panel.columns - 1u - i;
  if (c >= panel.width || row < panel.firstRow || row >= panel.firstRow + panel.rows) {
    return;
  }
  var value = 0.0f;
  if (i <= k) {
    let column = panel.columns - 1u - k;
    value = factor[(row - panel.firstRow) * panel.stride + column];
    if (i < k) {
      value /= pivots[column];
    }
  }
  out[i * PANEL_COLUMNS + c] = value;
}
