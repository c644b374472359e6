// What both families of linear kernels bind, how they read an input and where they put a result.
struct Params {
  columns: u32,
  // First row of this shard within the whole weight, and how many rows it has.
  firstRow: u32,
  rows: u32,
  outOffset: u32,
  outStride: u32,
  // 1: add to what is there; 2: add the bias.
  flags: u32,
//#if DYNAMIC
  // Shape of the weight, so that all shapes of a format share one pipeline: see linear.ts.
  cols: u32,
  xQuads: u32,
  granules: u32,
  granuleStride: u32,
  chunk: u32,
  groupSize: u32,
  groups: u32,
  // Results of a tile, ROWS · COLUMNS or half of it, which the compiler must not know: it would unroll the loop over it.
  tile: u32,
//#end
}
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> values: array<Stored>;
//#if MATRIX
// Halves, eight to a place (halve-input.wgsl).
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
//#else
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
//#end
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
//#if PACKED
@group(0) @binding(4) var<storage, read> scales: array<u32>;
//#end
//#if ZERO
@group(0) @binding(5) var<storage, read> zeros: array<u32>;
//#end
//#if ROW_GAIN
@group(0) @binding(5) var<storage, read> rowGains: array<f32>;
//#end

//#if SPARSE
@group(0) @binding({POSITIONS_BINDING}) var<storage, read> positions: array<u32>;
// Places of a unit's values: four bits for each four columns.
fn positionsOf(row: u32, unit: u32) -> u32 {
  let bit = unit * UNIT_ELEMENTS;
  return positions[row * POSITION_WORDS + (bit >> 5u)] >> (bit & 31u);
}
// Four columns from two values: `places` has two bits for each, and the others hold `zero`.
fn spread(a: f32, b: f32, places: u32, zero: f32) -> vec4<f32> {
  let column = vec4<u32>(0u, 1u, 2u, 3u);
  let first = select(vec4<f32>(zero), vec4<f32>(a), column == vec4<u32>(places & 3u));
  return select(first, vec4<f32>(b), column == vec4<u32>((places >> 2u) & 3u));
}
struct SparseUnit {
  values: vec2<u32>,
  places: u32,
}
//#end

//#if DYNAMIC
fn cols() -> u32 { return params.cols; }
fn xQuads() -> u32 { return params.xQuads; }
fn groups() -> u32 { return params.groups; }
//#else
//#if !MATRIX
fn cols() -> u32 { return COLS; }
fn xQuads() -> u32 { return X_QUADS; }
//#end
//#if PACKED
fn groups() -> u32 { return GROUPS; }
//#end
//#end

//#if !MATRIX
// Four inputs of one column, zero beyond the row's end: padded weights would otherwise meet whatever lies there.
fn inputQuad(base: u32, quad: u32) -> vec4<f32> {
//#if TAIL
  let value = x[base + min(quad, xQuads() - 1u)];
  let index = vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u);
  return select(vec4<f32>(0.0f), value, index < vec4<u32>(cols()));
//#else
  return x[base + quad];
//#end
}
//#end

// The product of a row and a column from its sum.
fn finished(row: u32, sum: f32) -> f32 {
//#if ROW_GAIN
  var value = sum * rowGains[params.firstRow + row];
//#else
  var value = sum;
//#end
  if ((params.flags & 2u) != 0u) {
    value += bias[params.firstRow + row];
  }
  return value;
}

//#if GATED
// The first half of the weight's rows are gates: out = silu(gate) · up, as swiglu.wgsl. Each tile has as many gates as rows that go with them.
const HALF_ROWS: u32 = ROWS / 2u;
fn rowOf(first: u32, r: u32) -> u32 {
  let half = params.rows / 2u;
  return min(first / 2u + r % HALF_ROWS, half - 1u) + select(0u, half, r >= HALF_ROWS);
}
fn storeGated(row: u32, column: u32, gateSum: f32, upSum: f32) {
  let gate = finished(row, gateSum);
  let up = finished(row + params.rows / 2u, upSum);
  out[column * params.outStride + row] = gate / (1.0f + exp(-gate)) * up;
}
//#else
fn rowOf(first: u32, r: u32) -> u32 {
  return min(first + r, params.rows - 1u);
}
fn store(row: u32, column: u32, sum: f32) {
  let index = column * params.outStride + params.outOffset + params.firstRow + row;
  let value = finished(row, sum);
  if ((params.flags & 1u) != 0u) {
    out[index] += value;
  } else {
    out[index] = value;
  }
}
//#end
