// What all Gram kernels bind, read and add to: a shard of `rows` rows of the matrix from `firstRow` on, `width` columns.
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

// Four inputs of a token, zero beyond the last.
fn load(token: u32, quad: u32) -> vec4<f32> {
  if (token >= step.tokens || quad >= step.quads) {
    return vec4<f32>(0.0f);
  }
  return x[token * step.quads + quad];
}

// Adds four columns from `j` on to row `i` of the shard.
fn add(i: u32, j: u32, sum: vec4<f32>) {
  if (i >= step.rows) {
    return;
  }
  let at = i * step.width + j;
  if (j < step.width) { sums[at] += sum.x; }
  if (j + 1u < step.width) { sums[at + 1u] += sum.y; }
  if (j + 2u < step.width) { sums[at + 2u] += sum.z; }
  if (j + 3u < step.width) { sums[at + 3u] += sum.w; }
}
