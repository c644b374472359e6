// Micro-benchmarks of memory and arithmetic: COPY moves quads, READ sums them with every invocation far from its neighbours' next loads
// already under way, MULTIPLY runs independent fused multiply-adds in registers. What they store keeps the compiler from removing the work.
struct Params {
  quads: u32,
  stride: u32,
  rounds: u32,
}
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
//#if COPY
  for (var i = id.x; i < params.quads; i += params.stride) {
    target_[i] = source[i];
  }
//#end
//#if READ
  var a = vec4<u32>(0u);
  var b = vec4<u32>(0u);
  var c = vec4<u32>(0u);
  var d = vec4<u32>(0u);
  for (var i = id.x; i + 3u * params.stride < params.quads; i += 4u * params.stride) {
    a ^= source[i];
    b ^= source[i + params.stride];
    c ^= source[i + 2u * params.stride];
    d ^= source[i + 3u * params.stride];
  }
  target_[id.x] = (a ^ b) ^ (c ^ d);
//#end
//#if MULTIPLY
  var a = bitcast<vec4<f32>>(source[id.x]);
  var b = a + 1.0f;
  var c = a + 2.0f;
  var d = a + 3.0f;
  let x = a * 0.5f;
  for (var i = 0u; i < params.rounds; i++) {
//#repeat k 8
    a = fma(a, x, x);
    b = fma(b, x, x);
    c = fma(c, x, x);
    d = fma(d, x, x);
//#end
  }
  target_[id.x] = bitcast<vec4<u32>>((a + b) + (c + d));
//#end
}
