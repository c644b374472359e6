// out = x / sqrt(mean(x²) + epsilon) · weight. One workgroup per row; each lane sums a strided slice, then lanes are added in a fixed tree.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
var<workgroup> sums: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let base = group_id.x * STRIDE;
  var sum = 0.0f;
  for (var i = index; i < WIDTH; i += WORKGROUP) {
    let value = x[base + i];
    sum = fma(value, value, sum);
  }
  sums[index] = sum;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (index < half) {
      sums[index] += sums[index + half];
    }
    workgroupBarrier();
  }
  let factor = 1.0f / sqrt(sums[0] / f32(WIDTH) + EPSILON);
  for (var i = index; i < WIDTH; i += WORKGROUP) {
    out[base + i] = x[base + i] * factor * weight[i];
  }
}
