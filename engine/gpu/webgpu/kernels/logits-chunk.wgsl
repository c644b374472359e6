// First level of the reduction over a logits row: per chunk of CHUNK logits the maximum with its lowest index, Σ exp(x − maximum), and whether
// anything was NaN or infinite (tested by bits: comparisons with NaN are unreliable, specs/dawn-node.md §4). One workgroup per (chunk, row).
struct Params {
  vocabulary: u32,
  stride: u32,
  // Chunks per row.
  chunks: u32,
}
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> logits: array<f32>;
// [row][chunk] of (maximum, Σ exp, index bits, non-finite)
@group(0) @binding(1) var<storage, read_write> chunks: array<vec4<f32>>;
const LOWEST: f32 = -3.4e38f;
var<workgroup> best: array<f32, WORKGROUP>;
var<workgroup> where_: array<u32, WORKGROUP>;
var<workgroup> broken: array<u32, WORKGROUP>;
var<workgroup> sums: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let start = group_id.x * CHUNK;
  let end = min(start + CHUNK, params.vocabulary);
  let base = group_id.y * params.stride;
  var value = LOWEST;
  var id = start;
  var bad = 0u;
  for (var i = start + index; i < end; i += WORKGROUP) {
    let x = logits[base + i];
    if ((bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u) {
      bad = 1u;
    } else if (x > value) {
      value = x;
      id = i;
    }
  }
  best[index] = value;
  where_[index] = id;
  broken[index] = bad;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (index < half) {
      let other = best[index + half];
      if (other > best[index] || (other == best[index] && where_[index + half] < where_[index])) {
        best[index] = other;
        where_[index] = where_[index + half];
      }
      broken[index] |= broken[index + half];
    }
    workgroupBarrier();
  }
  let top = best[0];
  var sum = 0.0f;
  for (var i = start + index; i < end; i += WORKGROUP) {
    sum += exp(logits[base + i] - top);
  }
  sums[index] = sum;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (index < half) {
      sums[index] += sums[index + half];
    }
    workgroupBarrier();
  }
  if (index == 0u) {
    chunks[group_id.y * params.chunks + group_id.x] = vec4<f32>(top, sums[0], bitcast<f32>(where_[0]), f32(broken[0]));
  }
}
