// As rms-norm.wgsl for adapters whose subgroups are SIMD vectors of a CPU: one subgroup per row, so that nothing waits at a barrier, which costs such
// an adapter more than the row. The lanes' sums are added in a fixed tree.
struct Params {
  // Of a row; an immediate, so that no compiler unrolls the loops.
  quads: u32,
}
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
  let base = group_id.x * params.quads;
  var sum = 0.0f;
  for (var quad = lane; quad < params.quads; quad += SUBGROUP) {
    var four = x[base + quad];
//#if TAIL
    // Beyond the row's end lies whatever was there before.
    four = select(vec4<f32>(0.0f), four, vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(WIDTH));
//#end
    sum += dot(four, four);
  }
//#repeat s STEPS
  sum += subgroupShuffleXor(sum, 1u << {s}u);
//#end
  let factor = 1.0f / sqrt(sum / f32(WIDTH) + EPSILON);
  for (var quad = lane; quad < params.quads; quad += SUBGROUP) {
    out[base + quad] = x[base + quad] * factor * weight[quad];
  }
}
