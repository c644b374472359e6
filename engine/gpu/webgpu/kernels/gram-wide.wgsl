// As gram.wgsl, one 128 × 128 tile per workgroup: 256 invocations, 8 × 8 sums each (two runs of four rows by two quads of columns), so that what
// is staged is used twice as often. For matrices with enough tiles to fill a GPU. The order of additions is that of the tokens.
//#include gram-bindings
var<workgroup> left: array<vec4<f32>, STAGED_TOKENS * 32u>;
var<workgroup> right: array<vec4<f32>, STAGED_TOKENS * 32u>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let firstRow = step.firstRow + group.y * 128u;
  let firstColumn = group.x * 128u;
  if (firstColumn > firstRow + 127u) {
    return;
  }
  let row = index / 16u;
  let column = index % 16u;
//#repeat r 8
  var low_{r} = vec4<f32>(0.0f);
  var high_{r} = vec4<f32>(0.0f);
//#end
  for (var token = 0u; token < step.tokens; token += STAGED_TOKENS) {
    for (var i = index; i < STAGED_TOKENS * 32u; i += 256u) {
      left[i] = load(token + i / 32u, firstRow / 4u + i % 32u);
      right[i] = load(token + i / 32u, firstColumn / 4u + i % 32u);
    }
    workgroupBarrier();
    for (var k = 0u; k < STAGED_TOKENS; k++) {
      let a = left[k * 32u + row];
      let b = left[k * 32u + 16u + row];
      let c = right[k * 32u + column];
      let d = right[k * 32u + 16u + column];
//#repeat r 4
      low_{r} = fma(vec4<f32>(a[{r}]), c, low_{r});
      high_{r} = fma(vec4<f32>(a[{r}]), d, high_{r});
      low_{r+4} = fma(vec4<f32>(b[{r}]), c, low_{r+4});
      high_{r+4} = fma(vec4<f32>(b[{r}]), d, high_{r+4});
//#end
    }
    workgroupBarrier();
  }
  let top = group.y * 128u + row * 4u;
  let leading = firstColumn + column * 4u;
//#repeat r 4
  add(top + {r}u, leading, low_{r});
  add(top + {r}u, leading + 64u, high_{r});
  add(top + 64u + {r}u, leading, low_{r+4});
  add(top + 64u + {r}u, leading + 64u, high_{r+4});
//#end
}
