// Per column of x, added to what earlier steps left: Σ|x|, Σx², max(0, x), max(0, −x). One invocation per column, tokens in order.
struct Immediates {
  tokens: u32,
  width: u32,
  stride: u32,
}
var<immediate> step: Immediates;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let column = id.x;
  if (column >= step.width) {
    return;
  }
  var absolute = 0.0f;
  var square = 0.0f;
  var high = sums[2u * step.width + column];
  var low = sums[3u * step.width + column];
  for (var token = 0u; token < step.tokens; token++) {
    let value = x[token * step.stride + column];
    absolute += abs(value);
    square = fma(value, value, square);
    high = max(high, value);
    low = max(low, -value);
  }
  sums[column] += absolute;
  sums[step.width + column] += square;
  sums[2u * step.width + column] = high;
  sums[3u * step.width + column] = low;
}
