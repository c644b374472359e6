// Gumbel-max sampling of rows with a temperature, as program.ts defines it (RowSampler) and random.ts defines the noise. Thresholds are found
// on an order-preserving u32 of the logit by four rounds of 8-bit digits, counting tokens (top-k) or probability (top-p). Probability is counted
// in integers of 2⁻²⁴ of the most likely token's, in two halves of 12 bits, so that the sums are exact and their order does not matter: up to
// 2²⁰ tokens. One workgroup per row. ADJUSTED serves the rows whose logits adjust-logits has changed, with their masks; plain rows are left to the
// other variant, so that a row's bits do not depend on its neighbours' options.
struct Params {
  vocabulary: u32,
  stride: u32,
}
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> samplers: array<u32>;
@group(0) @binding(2) var<storage, read> rowFacts: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> results: array<u32>;
//#if ADJUSTED
@group(0) @binding(4) var<storage, read> adjustments: array<u32>;
const FORBIDDEN: u32 = 0xff7fffffu;
const NONE: u32 = 0xffffffffu;
//#end

var<workgroup> countOf: array<atomic<u32>, 256>;
var<workgroup> highOf: array<atomic<u32>, 256>;
var<workgroup> lowOf: array<atomic<u32>, 256>;
var<workgroup> digit: u32;
var<workgroup> aboveCount: u32;
var<workgroup> aboveHigh: u32;
var<workgroup> aboveLow: u32;
var<workgroup> bestOf: array<f32, WORKGROUP>;
var<workgroup> bestId: array<u32, WORKGROUP>;

// Greater logit ⇔ greater key.
fn keyOf(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn rotate(x: u32, distance: u32) -> u32 {
  return (x << distance) | (x >> (32u - distance));
}

// Threefry-2x32-20 (Salmon et al. 2011), first word.
fn threefry(key0: u32, key1: u32, counter0: u32, counter1: u32) -> u32 {
  let key2 = key0 ^ key1 ^ 0x1bd11bdau;
  var a = counter0 + key0;
  var b = counter1 + key1;
  a += b; b = rotate(b, 13u) ^ a;
  a += b; b = rotate(b, 15u) ^ a;
  a += b; b = rotate(b, 26u) ^ a;
  a += b; b = rotate(b, 6u) ^ a;
  a += key1; b += key2 + 1u;
  a += b; b = rotate(b, 17u) ^ a;
  a += b; b = rotate(b, 29u) ^ a;
  a += b; b = rotate(b, 16u) ^ a;
  a += b; b = rotate(b, 24u) ^ a;
  a += key2; b += key0 + 2u;
  a += b; b = rotate(b, 13u) ^ a;
  a += b; b = rotate(b, 15u) ^ a;
  a += b; b = rotate(b, 26u) ^ a;
  a += b; b = rotate(b, 6u) ^ a;
  a += key0; b += key1 + 3u;
  a += b; b = rotate(b, 17u) ^ a;
  a += b; b = rotate(b, 29u) ^ a;
  a += b; b = rotate(b, 16u) ^ a;
  a += b; b = rotate(b, 24u) ^ a;
  a += key1; b += key2 + 4u;
  a += b; b = rotate(b, 13u) ^ a;
  a += b; b = rotate(b, 15u) ^ a;
  a += b; b = rotate(b, 26u) ^ a;
  a += b; b = rotate(b, 6u) ^ a;
  a += key2; b += key0 + 5u;
  return a;
}

// −log(−log1p(−v)): the noise is decided by small v, where 1 − v would lose it and log near 1 is only good to 2⁻²¹.
fn gumbel(word: u32) -> f32 {
  let surplus = u32(max(0, 8 - i32(countLeadingZeros(word))));
  let leading = (word >> surplus) << surplus;
  let v = select(f32(leading) * 0x1p-32f, 0x1p-33f, word == 0u);
  let s = v / (2.0f - v);
  let t = s * s;
  let series = 2.0f * s * (1.0f + t * (1.0f / 3.0f + t * (1.0f / 5.0f + t * (1.0f / 7.0f + t * (1.0f / 9.0f)))));
  let exponential = select(-log(1.0f - v), series, v < 0.25f);
  return -log(exponential);
}

fn massOf(z: f32) -> u32 {
  return u32(exp(z) * 16777216.0f + 0.5f);
}

fn massSum(high: u32, low: u32) -> f32 {
  return f32(high) * 4096.0f + f32(low);
}

fn clearDigits(index: u32) {
  for (var i = index; i < 256u; i += WORKGROUP) {
    atomicStore(&countOf[i], 0u);
    atomicStore(&highOf[i], 0u);
    atomicStore(&lowOf[i], 0u);
  }
}

//#if ADJUSTED
fn left(mask: u32, i: u32, x: f32) -> bool {
  if (mask != NONE && ((adjustments[mask + (i >> 5u)] >> (i & 31u)) & 1u) == 0u) {
    return false;
  }
  return bitcast<u32>(x) != FORBIDDEN;
}

// For a token that was edited, adjust-logits puts the log-probability right when it puts the logit back.
fn report(row: u32, base: u32, chosen: u32, logSum: f32) {
  results[row * 8u] = chosen;
  var logprob = 0x7fc00000u; // a constant NaN is a compile error
  if (chosen < params.vocabulary) {
    logprob = bitcast<u32>(logits[base + chosen] - logSum);
  }
  results[row * 8u + 1u] = logprob;
}
//#end

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let row = group_id.x;
  let base = row * params.stride;
  let mode = row * 16u;
//#if ADJUSTED
  if (samplers[mode] < 3u) {
    return;
  }
  let greedy = samplers[mode] == 3u;
  let mask = samplers[mode + 8u];
//#else
  if (samplers[mode] != 2u) {
    return;
  }
//#end
  let inverse = bitcast<f32>(samplers[mode + 1u]);
  let topK = samplers[mode + 2u];
  let topP = bitcast<f32>(samplers[mode + 3u]);
  let lowestZ = bitcast<f32>(samplers[mode + 4u]);
  let facts = rowFacts[row];
  var threshold = 0u;
//#if ADJUSTED
  // The greatest logit that is left; as all thresholds are relative to it, it stands for the row's own maximum.
  var top = bitcast<f32>(FORBIDDEN);
  var topId = NONE;
  for (var i = index; i < params.vocabulary; i += WORKGROUP) {
    let x = logits[base + i];
    if (left(mask, i, x) && (topId == NONE || x > top)) {
      top = x;
      topId = i;
    }
  }
  bestOf[index] = top;
  bestId[index] = topId;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (index < half) {
      let other = bestOf[index + half];
      if (other > bestOf[index] || (other == bestOf[index] && bestId[index + half] < bestId[index])) {
        bestOf[index] = other;
        bestId[index] = bestId[index + half];
      }
    }
    workgroupBarrier();
  }
  topId = workgroupUniformLoad(&bestId[0]);
  let maximum = workgroupUniformLoad(&bestOf[0]);
  if (greedy || topId == NONE) {
    if (index == 0u) {
      report(row, base, topId, facts.y);
    }
    return;
  }
//#else
  let maximum = facts.x;
//#end

  if (topK > 0u && topK < params.vocabulary) {
    // The topK-th greatest key, ties kept: the greatest key with at least topK tokens at or above it.
    var above = 0u;
    for (var shift = 24u; shift < 32u; shift -= 8u) {
      clearDigits(index);
      workgroupBarrier();
      for (var i = index; i < params.vocabulary; i += WORKGROUP) {
        let key = keyOf(logits[base + i]);
//#if ADJUSTED
        if (left(mask, i, logits[base + i]) && (shift == 24u || (key >> (shift + 8u)) == (threshold >> (shift + 8u)))) {
//#else
        if (shift == 24u || (key >> (shift + 8u)) == (threshold >> (shift + 8u))) {
//#end
          atomicAdd(&countOf[(key >> shift) & 255u], 1u);
        }
      }
      workgroupBarrier();
      if (index == 0u) {
        var sum = above;
        var d = 255u;
        loop {
          let next = sum + atomicLoad(&countOf[d]);
          if (next >= topK || d == 0u) {
            break;
          }
          sum = next;
          d--;
        }
        digit = d;
        aboveCount = sum;
      }
      threshold |= workgroupUniformLoad(&digit) << shift;
      above = workgroupUniformLoad(&aboveCount);
    }
  }

  if (topP < 1.0f) {
    clearDigits(index);
    workgroupBarrier();
    for (var i = index; i < params.vocabulary; i += WORKGROUP) {
      let x = logits[base + i];
//#if ADJUSTED
      if (left(mask, i, x) && keyOf(x) >= threshold) {
//#else
      if (keyOf(x) >= threshold) {
//#end
        let mass = massOf((x - maximum) * inverse);
        atomicAdd(&highOf[0], mass >> 12u);
        atomicAdd(&lowOf[0], mass & 4095u);
      }
    }
    workgroupBarrier();
    if (index == 0u) {
      aboveHigh = atomicLoad(&highOf[0]);
      aboveLow = atomicLoad(&lowOf[0]);
    }
    let wanted = massSum(workgroupUniformLoad(&aboveHigh), workgroupUniformLoad(&aboveLow)) * topP;
    // The least key whose greater keys hold less than `wanted`.
    var kept = 0u;
    var high = 0u;
    var low = 0u;
    for (var shift = 24u; shift < 32u; shift -= 8u) {
      clearDigits(index);
      workgroupBarrier();
      for (var i = index; i < params.vocabulary; i += WORKGROUP) {
        let x = logits[base + i];
        let key = keyOf(x);
//#if ADJUSTED
        if (left(mask, i, x) && key >= threshold && (shift == 24u || (key >> (shift + 8u)) == (kept >> (shift + 8u)))) {
//#else
        if (key >= threshold && (shift == 24u || (key >> (shift + 8u)) == (kept >> (shift + 8u)))) {
//#end
          let mass = massOf((x - maximum) * inverse);
          let bin = (key >> shift) & 255u;
          atomicAdd(&countOf[bin], 1u);
          atomicAdd(&highOf[bin], mass >> 12u);
          atomicAdd(&lowOf[bin], mass & 4095u);
        }
      }
      workgroupBarrier();
      if (index == 0u) {
        var sumHigh = high;
        var sumLow = low;
        var d = 255u;
        // Lowest digit with tokens so far, in case rounding lets no digit reach `wanted`; its mass must then not be counted as above.
        var last = 256u;
        var lastHigh = high;
        var lastLow = low;
        loop {
          if (atomicLoad(&countOf[d]) > 0u) {
            last = d;
            lastHigh = sumHigh;
            lastLow = sumLow;
            sumHigh += atomicLoad(&highOf[d]);
            sumLow += atomicLoad(&lowOf[d]);
            if (massSum(sumHigh, sumLow) >= wanted) {
              break;
            }
          }
          if (d == 0u) {
            break;
          }
          d--;
        }
        digit = last & 255u;
        aboveHigh = lastHigh;
        aboveLow = lastLow;
      }
      kept |= workgroupUniformLoad(&digit) << shift;
      high = workgroupUniformLoad(&aboveHigh);
      low = workgroupUniformLoad(&aboveLow);
    }
    threshold = max(threshold, kept);
  }

  var value = -3.4e38f;
  var id = 0xffffffffu;
  for (var i = index; i < params.vocabulary; i += WORKGROUP) {
    let x = logits[base + i];
    let z = (x - maximum) * inverse;
//#if ADJUSTED
    if (left(mask, i, x) && keyOf(x) >= threshold && z >= lowestZ) {
//#else
    if (keyOf(x) >= threshold && z >= lowestZ) {
//#end
      let score = z + gumbel(threefry(samplers[mode + 5u], samplers[mode + 6u], samplers[mode + 7u], i));
      if (score > value) {
        value = score;
        id = i;
      }
    }
  }
  bestOf[index] = value;
  bestId[index] = id;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (index < half) {
      let other = bestOf[index + half];
      if (other > bestOf[index] || (other == bestOf[index] && bestId[index + half] < bestId[index])) {
        bestOf[index] = other;
        bestId[index] = bestId[index + half];
      }
    }
    workgroupBarrier();
  }
  if (index == 0u) {
//#if ADJUSTED
    report(row, base, bestId[0], facts.y);
//#else
    // A row of NaN keeps nothing; its choice is unspecified but must be a token.
    let chosen = select(bitcast<u32>(facts.z), bestId[0], bestId[0] < params.vocabulary);
    results[row * 8u] = chosen;
    results[row * 8u + 1u] = bitcast<u32>(logits[base + chosen] - facts.y);
//#end
  }
}
