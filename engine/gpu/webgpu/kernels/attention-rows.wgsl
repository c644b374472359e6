// Causal grouped-query attention for adapters whose "threads" are SIMD lanes of a CPU: one invocation computes TEAM query heads of one kv head
// for one token, alone, so nothing is shared and nothing waits. Keys are taken in CHUNKs of absolute positions in rising order, with the softmax
// rescaled once per chunk: a row's bits depend on its position and its sequence only (specs/runtime.md §9.2).
struct Params {
  tokens: u32,
  // Length of a head row in 16-byte units and in quads. Immediates, so that no compiler unrolls the loops over them: a software driver takes
  // seconds to compile what it unrolls.
  units: u32,
  quads: u32,
  // Invocations of a workgroup that work, so that few of them still occupy all cores.
  busy: u32,
}
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> q: array<f32>;
//#if KV_WORDS
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> vals: array<u32>;
//#include kv-read
//#else
@group(0) @binding(1) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> vals: array<vec4<u32>>;
//#end
@group(0) @binding(3) var<storage, read> positions: array<u32>;
@group(0) @binding(4) var<storage, read> sequenceOfToken: array<u32>;
@group(0) @binding(5) var<storage, read> blockTable: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

// Below every score that is kept; finite, since −inf − (−inf) differs between drivers (specs/dawn-node.md §4).
const LOWEST: f32 = -3.0e38f;

fn notFinite(value: f32) -> bool {
  return (bitcast<u32>(value) & 0x7f800000u) == 0x7f800000u;
}
fn dotQuad(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

// Indexed arrays of fewer than 32 elements become branches in Mesa.
const PLACES: u32 = max(32u, TEAM * QUADS);

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let task = group_id.x * params.busy + index;
  let token = task / GROUPS;
  if (index >= params.busy || token >= params.tokens) {
    return;
  }
  let firstHead = (task % GROUPS) * TEAM;
  let kvHead = firstHead / HEADS_PER_KV;
  let position = positions[token];
  let table = sequenceOfToken[token] * BLOCKS_PER_SEQUENCE;
//#if WINDOW
  let firstKey = select(0u, position + 1u - WINDOW, position + 1u > WINDOW);
//#else
  let firstKey = 0u;
//#end
  var query: array<vec4<f32>, PLACES>;
  var mix: array<vec4<f32>, PLACES>;
  for (var i = 0u; i < params.quads * TEAM; i++) {
    let d = 4u * (i % params.quads);
    let base = token * Q_STRIDE + (firstHead + i / params.quads) * HEAD_DIM + d;
    var value = vec4<f32>(0.0f);
//#repeat k 4
    if (d + {k}u < HEAD_DIM) {
      value[{k}] = q[base + {k}u] * SCALE;
    }
//#end
    query[i] = value;
    mix[i] = vec4<f32>(0.0f);
  }
//#repeat g TEAM
  var max_{g} = LOWEST;
  var sum_{g} = 0.0f;
  var weights_{g}: array<f32, CHUNK + TOGETHER>;
//#end
  var places: array<u32, CHUNK + TOGETHER>;
//#if KV_WORDS
  var scales: array<f32, CHUNK + TOGETHER>;
//#end
  var broken = false;
  for (var origin = firstKey - firstKey % CHUNK; origin <= position; origin += CHUNK) {
    let count = min(CHUNK, position - origin + 1u);
//#repeat g TEAM
    var best_{g} = max_{g};
//#end
    // Keys before the first and past the last of the chunk are read as valid ones and weigh nothing.
    for (var i = 0u; i < count + TOGETHER - 1u; i++) {
      let key = clamp(origin + i, firstKey, position);
      places[i] = ((blockTable[table + key / BLOCK_SIZE] * KV_HEADS + kvHead) * BLOCK_SIZE + key % BLOCK_SIZE)
//#if !KV_WORDS
        * params.units
//#end
        ;
    }
    for (var i = 0u; i < count; i += TOGETHER) {
//#repeat t TOGETHER
      let place_{t} = places[i + {t}u];
//#repeat g TEAM
      var score_{g}_{t} = 0.0f;
//#end
//#end
//#if KV_WORDS
      for (var quad = 0u; quad < params.quads; quad++) {
//#repeat g TEAM
        let four_{g} = query[{g}u * QUADS + quad];
//#end
//#repeat t TOGETHER
        {
          let four = keyQuad(place_{t}, quad);
//#repeat g TEAM
          score_{g}_{t} = dotQuad(four_{g}, four, score_{g}_{t});
//#end
        }
//#end
      }
//#repeat t TOGETHER
      {
        let scale = keyScale(place_{t});
//#repeat g TEAM
        score_{g}_{t} *= scale;
//#end
      }
//#end
//#else
      for (var unit = 0u; unit < params.units; unit++) {
//#if KV_F16
//#repeat g TEAM
        let low_{g} = query[{g}u * QUADS + 2u * unit];
        let high_{g} = query[{g}u * QUADS + 2u * unit + 1u];
//#end
//#repeat t TOGETHER
        {
          let word = keys[place_{t} + unit];
          let low = vec4<f32>(unpack2x16float(word.x), unpack2x16float(word.y));
          let high = vec4<f32>(unpack2x16float(word.z), unpack2x16float(word.w));
//#repeat g TEAM
          score_{g}_{t} = dotQuad(high_{g}, high, dotQuad(low_{g}, low, score_{g}_{t}));
//#end
        }
//#end
//#else
//#repeat g TEAM
        let four_{g} = query[{g}u * QUADS + unit];
//#end
//#repeat t TOGETHER
        {
          let four = bitcast<vec4<f32>>(keys[place_{t} + unit]);
//#repeat g TEAM
          score_{g}_{t} = dotQuad(four_{g}, four, score_{g}_{t});
//#end
        }
//#end
//#end
      }
//#end
//#repeat g TEAM
//#repeat t TOGETHER
      weights_{g}[i + {t}u] = score_{g}_{t};
//#end
//#end
    }
    for (var i = 0u; i < count; i++) {
      let counts = origin + i >= firstKey;
//#repeat g TEAM
      let score_{g} = weights_{g}[i];
      broken = broken || (counts && notFinite(score_{g}));
      best_{g} = max(best_{g}, select(LOWEST, score_{g}, counts));
//#end
    }
//#repeat g TEAM
    let old_{g} = exp(max_{g} - best_{g});
    sum_{g} *= old_{g};
    max_{g} = best_{g};
//#end
    for (var i = 0u; i < count; i++) {
      let counts = origin + i >= firstKey;
//#repeat g TEAM
      let weight_{g} = select(0.0f, exp(weights_{g}[i] - max_{g}), counts);
      weights_{g}[i] = weight_{g};
      sum_{g} += weight_{g};
//#end
    }
//#if KV_WORDS
    for (var i = 0u; i < count; i++) {
      scales[i] = valueScale(places[i]);
    }
    for (var quad = 0u; quad < params.quads; quad++) {
//#repeat g TEAM
      var four_{g} = mix[{g}u * QUADS + quad] * old_{g};
//#end
      for (var i = 0u; i < count; i++) {
        let four = valueQuad(places[i], quad) * scales[i];
//#repeat g TEAM
        four_{g} = fma(vec4<f32>(weights_{g}[i]), four, four_{g});
//#end
      }
//#repeat g TEAM
      mix[{g}u * QUADS + quad] = four_{g};
//#end
    }
//#else
    for (var unit = 0u; unit < params.units; unit++) {
//#if KV_F16
//#repeat g TEAM
      var low_{g} = mix[{g}u * QUADS + 2u * unit] * old_{g};
      var high_{g} = mix[{g}u * QUADS + 2u * unit + 1u] * old_{g};
//#end
      for (var i = 0u; i < count; i++) {
        let word = vals[places[i] + unit];
        let low = vec4<f32>(unpack2x16float(word.x), unpack2x16float(word.y));
        let high = vec4<f32>(unpack2x16float(word.z), unpack2x16float(word.w));
//#repeat g TEAM
        low_{g} = fma(vec4<f32>(weights_{g}[i]), low, low_{g});
        high_{g} = fma(vec4<f32>(weights_{g}[i]), high, high_{g});
//#end
      }
//#repeat g TEAM
      mix[{g}u * QUADS + 2u * unit] = low_{g};
      mix[{g}u * QUADS + 2u * unit + 1u] = high_{g};
//#end
//#else
//#repeat g TEAM
      var four_{g} = mix[{g}u * QUADS + unit] * old_{g};
//#end
      for (var i = 0u; i < count; i++) {
        let four = bitcast<vec4<f32>>(vals[places[i] + unit]);
//#repeat g TEAM
        four_{g} = fma(vec4<f32>(weights_{g}[i]), four, four_{g});
//#end
      }
//#repeat g TEAM
      mix[{g}u * QUADS + unit] = four_{g};
//#end
//#end
    }
//#end
  }
  var quietNan = 0x7fc00000u; // a constant NaN is a compile error
//#repeat g TEAM
  for (var quad = 0u; quad < params.quads; quad++) {
    let result = select(mix[{g}u * QUADS + quad] / sum_{g}, vec4<f32>(bitcast<f32>(quietNan)), broken);
    let base = token * OUT_STRIDE + (firstHead + {g}u) * HEAD_DIM + 4u * quad;
//#repeat k 4
    if (4u * quad + {k}u < HEAD_DIM) {
      out[base + {k}u] = result[{k}];
    }
//#end
  }
//#end
}
