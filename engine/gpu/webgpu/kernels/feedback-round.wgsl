// Rounds up to 64 columns of every row to its grid, one after another in processing order, each moved by the errors of those before it. One row
// per invocation; the block's own part of the factor is shared.
struct Immediates {
  rows: u32,
  columns: u32,
  errorStride: u32,
  first: u32,
  count: u32,
  panelColumn: u32,
  columnsPerScale: u32,
  groups: u32,
}
var<immediate> block: Immediates;
@group(0) @binding(0) var<storage, read> order: array<u32>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
/// Scales, then zero points (if any), each [rows, groups].
@group(0) @binding(2) var<storage, read> grid: array<f32>;
@group(0) @binding(3) var<storage, read> panel: array<f32>;
@group(0) @binding(4) var<storage, read> moved: array<f32>;
@group(0) @binding(5) var<storage, read_write> errors: array<f32>;
/// Per row: four codes a word, and in one more word the loss so far, as bits.
@group(0) @binding(6) var<storage, read_write> codes: array<u32>;
//#if MASKED
@group(0) @binding(7) var<storage, read> mask: array<u32>;
//#end
//#include feedback-factor
//#include grid-code

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  load_factor(index);
  let row = group.x * 64u + index;
  if (row >= block.rows) {
    return;
  }
  let errorRow = row * block.errorStride + block.first;
  let codeRow = row * (block.errorStride / 4u + 1u);
  let gridRow = row * block.groups;
  var difference: array<f32, 64>;
  var total = 0.0f;
  var word = 0u;
  for (var c = 0u; c < block.count; c++) {
    let column = order[block.first + c];
    let weight = weights[row * block.columns + column];
    var place = weight + moved[row * PANEL_COLUMNS + block.panelColumn + c];
    for (var i = 0u; i < c; i++) {
      place = fma(difference[i], factor[i * 64u + c], place);
    }
    let at = gridRow + column / block.columnsPerScale;
    let scale = grid[at];
    var zero = 0.0f;
//#if ZERO_POINTS
    zero = grid[block.rows * block.groups + at];
//#end
    var code = code_of(place / scale, zero);
//#if MASKED
    let bit = row * block.columns + column;
    if (((mask[bit / 32u] >> (bit % 32u)) & 1u) == 1u) {
      code = code_of(0.0f, zero);
    }
//#end
    let stored = value_of(code, zero) * scale;
    let error = (place - stored) * factor[c * 64u + c];
    total = fma(error * 0.5f, error, total);
    difference[c] = weight - stored;
    errors[errorRow + c] = difference[c];
    word |= code << (8u * (c % 4u));
    if (c % 4u == 3u || c + 1u == block.count) {
      codes[codeRow + (block.first + c) / 4u] = word;
      word = 0u;
    }
  }
  let last = codeRow + block.errorStride / 4u;
  codes[last] = bitcast<u32>(bitcast<f32>(codes[last]) + total);
}
