// The rows of L below a diagonal block: X·Ldᵀ = A, one row per invocation. In place, and once more compactly for the update that follows.
struct Immediates {
  localRow: u32,
  rows: u32,
  column: u32,
  stride: u32,
  panelRow: u32,
}
var<immediate> block: Immediates;
@group(0) @binding(0) var<storage, read> factor: array<f32>;
@group(0) @binding(1) var<storage, read_write> matrix: array<f32>;
@group(0) @binding(2) var<storage, read_write> panel: array<f32>;
var<workgroup> diagonal: array<f32, 4096>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  for (var j = 0u; j < 64u; j++) {
    diagonal[j * 64u + index] = factor[j * 64u + index];
  }
  workgroupBarrier();
  let row = group.x * 64u + index;
  if (row >= block.rows) {
    return;
  }
  let at = (block.localRow + row) * block.stride + block.column;
  let to = (block.panelRow + row) * 64u;
  var x: array<f32, 64>;
  for (var j = 0u; j < 64u; j++) {
    var sum = matrix[at + j];
    for (var k = 0u; k < j; k++) {
      sum = fma(-x[k], diagonal[j * 64u + k], sum);
    }
    x[j] = sum / diagonal[j * 64u + j];
  }
  for (var j = 0u; j < 64u; j++) {
    matrix[at + j] = x[j];
    panel[to + j] = x[j];
  }
}
