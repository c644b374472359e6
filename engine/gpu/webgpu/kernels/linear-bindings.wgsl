struct Params {
  columns: u32,
  // First row of this shard within the whole weight, and how many rows it has.
  firstRow: u32,
  rows: u32,
  outOffset: u32,
  outStride: u32,
  accumulate: u32,
}
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> values: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
//#if PACKED
@group(0) @binding(4) var<storage, read> scales: array<u32>;
//#end
//#if ZERO
@group(0) @binding(5) var<storage, read> zeros: array<u32>;
//#end

// Four inputs of one column, zero beyond the row's end: padded weights would otherwise meet whatever lies there.
fn inputQuad(base: u32, quad: u32) -> vec4<f32> {
//#if TAIL
  let value = x[base + min(quad, X_QUADS - 1u)];
  let index = vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u);
  return select(vec4<f32>(0.0f), value, index < vec4<u32>(COLS));
//#else
  return x[base + quad];
//#end
}

fn store(row: u32, column: u32, value: f32) {
  let index = column * params.outStride + params.outOffset + params.firstRow + row;
//#if BIAS
  let sum = value + bias[params.firstRow + row];
//#else
  let sum = value;
//#end
  if (params.accumulate != 0u) {
    out[index] += sum;
  } else {
    out[index] = sum;
  }
}
