// Prunes PRUNE of every OF of up to 64 columns of every row, in order, each moved by the errors of those before it; what stays keeps the place it was
// moved to. One row per invocation; the block's own part of the factor is shared. OF divides 64.
struct Immediates {
  rows: u32,
  columns: u32,
  errorStride: u32,
  first: u32,
  count: u32,
  panelColumn: u32,
}
var<immediate> block: Immediates;
@group(0) @binding(0) var<storage, read> weights: array<f32>;
@group(0) @binding(1) var<storage, read> panel: array<f32>;
@group(0) @binding(2) var<storage, read> moved: array<f32>;
/// Weight minus what it became.
@group(0) @binding(3) var<storage, read_write> errors: array<f32>;
//#include feedback-factor

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  load_factor(index);
  let row = group.x * 64u + index;
  if (row >= block.rows) {
    return;
  }
  let weightRow = row * block.columns + block.first;
  let movedRow = row * PANEL_COLUMNS + block.panelColumn;
  let errorRow = row * block.errorStride + block.first;
  var difference: array<f32, 64>;
  for (var g = 0u; g < block.count; g += {OF}u) {
    // Scores are those of weights moved by all columns before the group and none within it: as if each stayed where it was moved.
    var scores: array<f32, {OF}>;
    for (var c = g; c < g + {OF}u; c++) {
      var place = weights[weightRow + c] + moved[movedRow + c];
      for (var i = 0u; i < c; i++) {
        place = fma(difference[i], factor[i * 64u + c], place);
      }
      difference[c] = weights[weightRow + c] - place;
      let score = place * factor[c * 64u + c];
      scores[c - g] = score * score;
    }
    // The earlier of equals goes first.
    var gone = array<u32, 2>(0u, 0u);
    for (var n = 0u; n < {PRUNE}u; n++) {
      var lowest = {OF}u;
      for (var c = 0u; c < {OF}u; c++) {
        if (((gone[c / 32u] >> (c % 32u)) & 1u) == 0u && (lowest == {OF}u || scores[c] < scores[min(lowest, {OF-1}u)])) {
          lowest = c;
        }
      }
      gone[lowest / 32u] |= 1u << (lowest % 32u);
    }
    for (var c = g; c < g + {OF}u; c++) {
      let weight = weights[weightRow + c];
      var place = weight + moved[movedRow + c];
      for (var i = 0u; i < c; i++) {
        place = fma(difference[i], factor[i * 64u + c], place);
      }
      difference[c] = weight - select(place, 0.0f, ((gone[(c - g) / 32u] >> ((c - g) % 32u)) & 1u) == 1u);
      errors[errorRow + c] = difference[c];
    }
  }
}
