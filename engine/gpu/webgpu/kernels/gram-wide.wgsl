// As gram.wgsl, one 128 × 128 tile per workgroup: 256 invocations, 8 × 8 sums each (two runs of four rows by two quads of columns), so that what
// is staged is used twice as often. For matrices with enough tiles to fill a GPU. The order of additions is that of the tokens.
struct Immediates {
  tokens: u32,
  firstRow: u32,
  rows: u32,
  width: u32,
  quads: u32,
}
var<immediate> step: Immediates;
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
var<workgroup> left: array<vec4<f32>, STAGED_TOKENS * 32u>;
var<workgroup> right: array<vec4<f32>, STAGED_TOKENS * 32u>;

fn load(token: u32, quad: u32) -> vec4<f32> {
  if (token >= step.tokens || quad >= step.quads) {
    return vec4<f32>(0.0f);
  }
  return x[token * step.quads + quad];
}

fn add(i: u32, j: u32, sum: vec4<f32>) {
  if (i < step.rows) {
    let at = i * step.width + j;
    if (j < step.width) { sums[at] += sum.x; }
    if (j + 1u < step.width) { sums[at + 1u] += sum.y; }
    if (j + 2u < step.width) { sums[at + 2u] += sum.z; }
    if (j + 3u < step.width) { sums[at + 3u] += sum.w; }
  }
}

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
