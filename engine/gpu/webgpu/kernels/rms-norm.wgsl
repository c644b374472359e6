// out = x / sqrt(mean(x²) + epsilon) · weight. One workgroup per row; each lane sums a strided slice, then lanes are added in a fixed tree. A
// lane's quads stay in registers between the two passes, and are all asked for before the first is used: one row is all latency.
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
var<workgroup> sums: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let base = group_id.x * QUADS;
//#repeat k LANE_QUADS
  var quad_{k} = vec4<f32>(0.0f);
  var scale_{k} = vec4<f32>(0.0f);
  if ({k}u * WORKGROUP + index < QUADS) {
    quad_{k} = x[base + {k}u * WORKGROUP + index];
    scale_{k} = weight[{k}u * WORKGROUP + index];
//#if TAIL
    // Beyond the row's end lies whatever was there before.
    let first_{k} = 4u * ({k}u * WORKGROUP + index);
    quad_{k} = select(vec4<f32>(0.0f), quad_{k}, vec4<u32>(first_{k}) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(WIDTH));
//#end
  }
//#end
  var sum = 0.0f;
//#repeat k LANE_QUADS
  sum += dot(quad_{k}, quad_{k});
//#end
  sums[index] = sum;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (index < half) {
      sums[index] += sums[index + half];
    }
    workgroupBarrier();
  }
  let factor = 1.0f / sqrt(sums[0] / f32(WIDTH) + EPSILON);
//#repeat k LANE_QUADS
  if ({k}u * WORKGROUP + index < QUADS) {
    out[base + {k}u * WORKGROUP + index] = quad_{k} * factor * scale_{k};
  }
//#end
}
