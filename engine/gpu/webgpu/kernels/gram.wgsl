// sums += xᵀ·x, one 64 × 64 tile of the lower triangle per workgroup. 256 invocations, 4 × 4 sums each; 16 tokens are staged at a time, each
// side as rows of 16 quads. The order of additions is that of the tokens.
//#include gram-bindings
var<workgroup> left: array<vec4<f32>, STAGED_TOKENS * 16u>;
var<workgroup> right: array<vec4<f32>, STAGED_TOKENS * 16u>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let firstRow = step.firstRow + group.y * 64u;
  let firstColumn = group.x * 64u;
  if (firstColumn > firstRow + 63u) {
    return;
  }
  let row = index / 16u;
  let column = index % 16u;
//#repeat r 4
  var sum_{r} = vec4<f32>(0.0f);
//#end
  for (var token = 0u; token < step.tokens; token += STAGED_TOKENS) {
    left[index] = load(token + row, firstRow / 4u + column);
    right[index] = load(token + row, firstColumn / 4u + column);
    workgroupBarrier();
    for (var k = 0u; k < STAGED_TOKENS; k++) {
      let a = left[k * 16u + row];
      let b = right[k * 16u + column];
      sum_0 = fma(vec4<f32>(a.x), b, sum_0);
      sum_1 = fma(vec4<f32>(a.y), b, sum_1);
      sum_2 = fma(vec4<f32>(a.z), b, sum_2);
      sum_3 = fma(vec4<f32>(a.w), b, sum_3);
    }
    workgroupBarrier();
  }
//#repeat r 4
  add(group.y * 64u + row * 4u + {r}u, firstColumn + column * 4u, sum_{r});
//#end
}
