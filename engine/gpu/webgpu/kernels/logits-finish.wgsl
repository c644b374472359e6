// Second level: joins a row's chunks in order into its maximum and log Σ exp, and writes what every row reports: argmax (lowest index on
// ties), the target's log-probability, and for greedy rows the choice itself. One invocation per row.
struct Params {
  vocabulary: u32,
  stride: u32,
  // Chunks per row.
  chunks: u32,
  rows: u32,
}
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> chunks: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
// Sixteen words a row: kind (0 none, 1 greedy, 2 random, 3 adjusted greedy, 4 adjusted random), 1/temperature, topK, topP, ln(minP), seedLow,
// seedHigh, outputIndex, mask, edits, number of edits, presence, frequency, repetition, 2 spare
@group(0) @binding(3) var<storage, read> samplers: array<u32>;
// [row] of (maximum, log Σ exp, argmax bits, non-finite); what sampling, top-k and drift read
@group(0) @binding(4) var<storage, read_write> rowFacts: array<vec4<f32>>;
// Eight words a row: sampled, its log-probability, argmax, target's log-probability, non-finite, 3 spare
@group(0) @binding(5) var<storage, read_write> results: array<u32>;
const LOWEST: f32 = -3.4e38f;
const NONE: u32 = 0xffffffffu;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.x;
  if (row >= params.rows) {
    return;
  }
  var best = LOWEST;
  var argmax = 0u;
  var broken = 0.0f;
  for (var c = 0u; c < params.chunks; c++) {
    let facts = chunks[row * params.chunks + c];
    broken = max(broken, facts.w);
    if (facts.x > best) {
      best = facts.x;
      argmax = bitcast<u32>(facts.z);
    }
  }
  // Neumaier's compensated sum: with 150 000 logits the chunks' sums differ by orders of magnitude.
  var sum = 0.0f;
  var lost = 0.0f;
  for (var c = 0u; c < params.chunks; c++) {
    let facts = chunks[row * params.chunks + c];
    let term = facts.y * exp(facts.x - best);
    let next = sum + term;
    lost += select((term - next) + sum, (sum - next) + term, sum >= term);
    sum = next;
  }
  let logSum = best + log(sum + lost);
  rowFacts[row] = vec4<f32>(best, logSum, bitcast<f32>(argmax), broken);
  let kind = samplers[row * 16u];
  let base = row * 8u;
  results[base] = select(NONE, argmax, kind != 0u);
  results[base + 2u] = argmax;
  var quietNan = 0x7fc00000u;
  results[base + 1u] = select(quietNan, bitcast<u32>(best - logSum), kind != 0u);
  var targetLogprob = quietNan;
  if (targets[row] < params.vocabulary) {
    targetLogprob = bitcast<u32>(logits[row * params.stride + targets[row]] - logSum);
  }
  results[base + 3u] = targetLogprob;
  results[base + 4u] = u32(broken);
}
