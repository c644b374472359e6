// out[i] = diagonal element i of the rows in this shard of a square matrix.
struct Immediates {
  firstRow: u32,
  rows: u32,
  width: u32,
}
var<immediate> shard: Immediates;
@group(0) @binding(0) var<storage, read> matrix: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < shard.rows) {
    let i = shard.firstRow + id.x;
    out[i] = matrix[id.x * shard.width + i];
  }
}
