// As rope-append.wgsl where a whole head is rotated, nothing is normed and the cache holds plain numbers: an invocation turns two neighbouring
// dimensions with their two partners half a head away, so that it needs nobody else and packs words of f16 alone. Same operations, same bits.
@group(0) @binding(0) var<storage, read> qkv: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
// [position][pair] of (cos, sin), two pairs at a time
@group(0) @binding(3) var<storage, read> rope: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> q: array<vec2<f32>>;
//#if KV_F16
@group(0) @binding(5) var<storage, read_write> keys: array<u32>;
@group(0) @binding(6) var<storage, read_write> vals: array<u32>;
//#else
@group(0) @binding(5) var<storage, read_write> keys: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> vals: array<vec2<f32>>;
//#end
// Two dimensions a word of qkv, q and the cache.
const HEAD_WORDS: u32 = HEAD_DIM / 2u;
const TASKS: u32 = HEAD_DIM / 4u;

//#if KV_F16
// See rope-append.wgsl for the limits.
fn word(value: vec2<f32>) -> u32 {
  return pack2x16float(clamp(value, vec2<f32>(-65504.0f), vec2<f32>(65504.0f)));
}
//#else
fn word(value: vec2<f32>) -> vec2<f32> {
  return value;
}
//#end

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let head = id.x / TASKS;
  let task = id.x % TASKS;
  let token = id.y;
  if (head >= HEADS + 2u * KV_HEADS) {
    return;
  }
  let source = token * (QKV_STRIDE / 2u) + head * HEAD_WORDS + task;
  var low = qkv[source];
  var high = qkv[source + TASKS];
  if (head < HEADS + KV_HEADS) {
    let turn = rope[positions[token] * TASKS + task];
    let a = low;
    let b = high;
    low = fma(a, turn.xz, -(b * turn.yw));
    high = fma(b, turn.xz, a * turn.yw);
  }
  if (head < HEADS) {
    let target_ = token * (Q_STRIDE / 2u) + head * HEAD_WORDS + task;
    q[target_] = low;
    q[target_ + TASKS] = high;
    return;
  }
  // Cache layout [block][kv head][token in block][HEAD_DIM].
  let slot = slots[token];
  let isKey = head < HEADS + KV_HEADS;
  let kvHead = select(head - HEADS - KV_HEADS, head - HEADS, isKey);
  let place = (((slot / BLOCK_SIZE) * KV_HEADS + kvHead) * BLOCK_SIZE + slot % BLOCK_SIZE) * HEAD_WORDS + task;
  if (isKey) {
    keys[place] = word(low);
    keys[place + TASKS] = word(high);
  } else {
    vals[place] = word(low);
    vals[place + TASKS] = word(high);
  }
}
