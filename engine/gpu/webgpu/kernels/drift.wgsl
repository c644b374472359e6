// KL(baseline ‖ candidate) of two logits rows and both argmaxes. With d = log p − log q and Σ q = Σ p = 1, KL = Σ p·(d − 1 + e^−d): every term
// is ≥ 0 and errors of the two log-sums cancel to second order, so that f32 resolves divergences far below 1e-6. One workgroup per row; lanes
// sum strided slices with compensation, then a fixed tree.
@group(0) @binding(0) var<storage, read> baseline: array<f32>;
@group(0) @binding(1) var<storage, read> candidate: array<f32>;
@group(0) @binding(2) var<storage, read> baselineFacts: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> candidateFacts: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> targets: array<u32>;
// Eight words a row: KL, baseline argmax, candidate argmax, baseline and candidate log-probability of the target, 3 spare
@group(0) @binding(5) var<storage, read_write> results: array<u32>;
var<workgroup> sums: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let row = group_id.x;
  let p = baselineFacts[row];
  let q = candidateFacts[row];
  var sum = 0.0f;
  var lost = 0.0f;
  for (var i = index; i < VOCABULARY; i += WORKGROUP) {
    let logP = baseline[row * BASELINE_STRIDE + i] - p.y;
    let logQ = candidate[row * CANDIDATE_STRIDE + i] - q.y;
    let d = logP - logQ;
    let near = d * d * (0.5f - d * (1.0f / 6.0f - d * (1.0f / 24.0f - d * (1.0f / 120.0f - d * (1.0f / 720.0f)))));
    // Far apart, e^−d may overflow where p underflows: p·e^−d is q.
    let far = exp(logP) * (d - 1.0f) + exp(logQ);
    let term = select(far, exp(logP) * near, abs(d) < 0.25f);
    let y = term - lost;
    let next = sum + y;
    lost = (next - sum) - y;
    sum = next;
  }
  sums[index] = sum;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (index < half) {
      sums[index] += sums[index + half];
    }
    workgroupBarrier();
  }
  if (index == 0u) {
    let base = row * 8u;
    var quietNan = 0x7fc00000u;
    results[base] = bitcast<u32>(sums[0]);
    results[base + 1u] = bitcast<u32>(p.z);
    results[base + 2u] = bitcast<u32>(q.z);
    results[base + 3u] = quietNan;
    results[base + 4u] = quietNan;
    let wanted = targets[row];
    if (wanted < VOCABULARY) {
      results[base + 3u] = bitcast<u32>(baseline[row * BASELINE_STRIDE + wanted] - p.y);
      results[base + 4u] = bitcast<u32>(candidate[row * CANDIDATE_STRIDE + wanted] - q.y);
    }
  }
}
