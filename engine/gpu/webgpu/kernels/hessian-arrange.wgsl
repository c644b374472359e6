// One shard of A = P·H·P + damping, lower triangle: rows and columns of H in processing order, reversed. `source` is one shard of H, of which
// only the lower triangle is used; elements of other shards are left to other dispatches. Rows past H's are those of the identity.
struct Immediates {
  columns: u32,
  stride: u32,
  firstRow: u32,
  rows: u32,
  sourceFirst: u32,
  sourceRows: u32,
}
var<immediate> shard: Immediates;
@group(0) @binding(0) var<storage, read> order: array<u32>;
@group(0) @binding(1) var<storage, read> damping: array<f32>;
@group(0) @binding(2) var<storage, read> source: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = shard.firstRow + id.y;
  let j = id.x;
  if (j > i) {
    return;
  }
  let at = id.y * shard.stride + j;
  if (i >= shard.columns) {
    out[at] = select(0.0f, 1.0f, i == j);
    return;
  }
  let a = order[shard.columns - 1u - i];
  let b = order[shard.columns - 1u - j];
  let row = max(a, b);
  if (row >= shard.sourceFirst && row < shard.sourceFirst + shard.sourceRows) {
    let value = source[(row - shard.sourceFirst) * shard.columns + min(a, b)];
    out[at] = select(value, value + damping[a], i == j);
  }
}
