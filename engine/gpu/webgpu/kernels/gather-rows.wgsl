// out[r] = x[logitRows[r]]. One workgroup per row.
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> logitRows: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let source = logitRows[group_id.x] * QUADS;
  for (var i = index; i < QUADS; i += WORKGROUP) {
    out[group_id.x * QUADS + i] = x[source + i];
  }
}
