// From a row of q|k|v: optional RMS norm per head, NeoX rotation of q and k, q to its buffer, k and v into the cache at the token's slot.
// One workgroup per (head of q, k or v; token). The head goes through shared memory, since rotation pairs dimensions half a head apart and the
// f16 cache packs neighbours.
@group(0) @binding(0) var<storage, read> qkv: array<f32>;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
// [position][rotaryDim/2] of (cos, sin)
@group(0) @binding(3) var<storage, read> rope: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> q: array<f32>;
@group(0) @binding(5) var<storage, read_write> keys: array<u32>;
@group(0) @binding(6) var<storage, read_write> vals: array<u32>;
@group(0) @binding(7) var<storage, read> qNorm: array<f32>;
@group(0) @binding(8) var<storage, read> kNorm: array<f32>;
//#if STATIC_SCALES
// Of the keys' heads, then of the values'.
@group(0) @binding(9) var<storage, read> staticScales: array<f32>;
//#end
var<workgroup> row: array<f32, PADDED_DIM>;
var<workgroup> sums: array<f32, WORKGROUP>;
//#if KV_WORDS
var<workgroup> lows: array<f32, WORKGROUP>;
var<workgroup> broken: u32;
//#end

// SwiftShader's pack2x16float makes NaN of values beyond f16's range, others Inf: the cache holds the nearest finite value instead.
fn half2(a: f32, b: f32) -> u32 {
  return pack2x16float(clamp(vec2<f32>(a, b), vec2<f32>(-65504.0f), vec2<f32>(65504.0f)));
}

//#if KV_WORDS
// Nearest e4m3 code of a value within ±448, ties to even.
fn e4m3Code(value: f32) -> u32 {
  let sign = (bitcast<u32>(value) >> 24u) & 128u;
  let magnitude = min(abs(value), 448.0f);
  let bits = bitcast<u32>(magnitude);
  let normal = ((bits + 0x7ffffu + ((bits >> 20u) & 1u)) >> 20u) - 960u;
  // Below the least normal number codes are multiples of 2⁻⁹; the eighth of them is that number's own code.
  return sign | select(normal, u32(round(magnitude * 512.0f)), magnitude < 0x1p-6f);
}
//#end

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let head = group_id.x;
  let token = group_id.y;
  let isQuery = head < HEADS;
  let isKey = !isQuery && head < HEADS + KV_HEADS;
  let source = token * QKV_STRIDE + head * HEAD_DIM;
  for (var i = index; i < PADDED_DIM; i += WORKGROUP) {
    var value = 0.0f;
    if (i < HEAD_DIM) {
      value = qkv[source + i];
    }
    row[i] = value;
  }
  workgroupBarrier();
//#if HEAD_NORM
  if (isQuery || isKey) {
    var sum = 0.0f;
    for (var i = index; i < HEAD_DIM; i += WORKGROUP) {
      sum = fma(row[i], row[i], sum);
    }
    sums[index] = sum;
  }
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (index < half) {
      sums[index] += sums[index + half];
    }
    workgroupBarrier();
  }
  let factor = 1.0f / sqrt(sums[0] / f32(HEAD_DIM) + EPSILON);
  for (var i = index; i < HEAD_DIM; i += WORKGROUP) {
//#if Q_NORM
    if (isQuery) {
      row[i] = row[i] * factor * qNorm[i];
    }
//#end
//#if K_NORM
    if (isKey) {
      row[i] = row[i] * factor * kNorm[i];
    }
//#end
  }
  workgroupBarrier();
//#end
  if (isQuery || isKey) {
    let table = positions[token] * ROTARY_PAIRS;
    for (var i = index; i < ROTARY_PAIRS; i += WORKGROUP) {
      let turn = rope[table + i];
      let a = row[i];
      let b = row[i + ROTARY_PAIRS];
      row[i] = fma(a, turn.x, -(b * turn.y));
      row[i + ROTARY_PAIRS] = fma(b, turn.x, a * turn.y);
    }
  }
  workgroupBarrier();
  if (isQuery) {
    for (var i = index; i < HEAD_DIM; i += WORKGROUP) {
      q[token * Q_STRIDE + head * HEAD_DIM + i] = row[i];
    }
    return;
  }
  // Cache layout [block][kv head][token in block][PADDED_DIM].
  let kvHead = select(head - HEADS - KV_HEADS, head - HEADS, isKey);
  let slot = slots[token];
  let place = ((slot / BLOCK_SIZE) * KV_HEADS + kvHead) * BLOCK_SIZE + slot % BLOCK_SIZE;
//#if KV_WORDS
//#include kv-write
//#else
//#if KV_F16
  let base = place * (PADDED_DIM / 2u);
  for (var i = index; i < PADDED_DIM / 2u; i += WORKGROUP) {
    let word = half2(row[2u * i], row[2u * i + 1u]);
    if (isKey) {
      keys[base + i] = word;
    } else {
      vals[base + i] = word;
    }
  }
//#else
  let base = place * PADDED_DIM;
  for (var i = index; i < PADDED_DIM; i += WORKGROUP) {
    let word = bitcast<u32>(row[i]);
    if (isKey) {
      keys[base + i] = word;
    } else {
      vals[base + i] = word;
    }
  }
//#end
//#end
}
