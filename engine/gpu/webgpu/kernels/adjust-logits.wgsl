// Changes the listed logits of adjusted rows in place (RowAdjustment in program.ts) before sampling, and puts them back after it (RESTORE), so
// that everything else sees what the model said. The old value waits in the edit itself. One invocation per (edit, row).
struct Params {
  vocabulary: u32,
  stride: u32,
}
var<immediate> params: Params;
// As bits: a copy out and back must change none.
@group(0) @binding(0) var<storage, read_write> logits: array<u32>;
@group(0) @binding(1) var<storage, read> samplers: array<u32>;
// Edits of four words: token | BANNED | SEEN, bias, times generated, place for the old value
@group(0) @binding(2) var<storage, read_write> adjustments: array<u32>;
@group(0) @binding(3) var<storage, read> rowFacts: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> results: array<u32>;
const SEEN: u32 = 0x80000000u;
const BANNED: u32 = 0x40000000u;
// The most negative float: what sampling takes for "forbidden"; no other adjusted logit gets below LOWEST.
const FORBIDDEN: u32 = 0xff7fffffu;
const LOWEST: f32 = -3.0e38f;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.y;
  let mode = row * 16u;
  if (samplers[mode] < 3u || id.x >= samplers[mode + 10u]) {
    return;
  }
  let edit = samplers[mode + 9u] + 4u * id.x;
  let word = adjustments[edit];
  let token = word & 0x3fffffffu;
  let place = row * params.stride + token;
//#if RESTORE
  let old = adjustments[edit + 3u];
  logits[place] = old;
  if (results[row * 8u] == token) {
    results[row * 8u + 1u] = bitcast<u32>(bitcast<f32>(old) - rowFacts[row].y);
  }
//#else
  let old = logits[place];
  adjustments[edit + 3u] = old;
  var x = bitcast<f32>(old) + bitcast<f32>(adjustments[edit + 1u]);
  if ((word & SEEN) != 0u) {
    let repetition = bitcast<f32>(samplers[mode + 13u]);
    x = select(x * repetition, x / repetition, x > 0.0f);
  }
  let generated = adjustments[edit + 2u];
  x -= bitcast<f32>(samplers[mode + 12u]) * f32(generated);
  if (generated > 0u) {
    x -= bitcast<f32>(samplers[mode + 11u]);
  }
  logits[place] = select(bitcast<u32>(max(x, LOWEST)), FORBIDDEN, (word & BANNED) != 0u);
//#end
}
