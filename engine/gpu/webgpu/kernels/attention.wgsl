// Causal grouped-query attention of one token over its sequence's paged cache. A workgroup serves TEAM query heads of one kv head.
// Keys are taken in chunks of CHUNK absolute positions: scores, their maximum and exponentials, and the weighted values of a chunk are computed
// the same way whoever else is in the batch, and chunks are joined in rising order; so a row's bits do not depend on batch, chunking of the
// prompt, or how the chunks were spread (specs/runtime.md §9.2). With SPLIT each workgroup leaves one chunk's (max, sum, weighted values) for
// attention-combine, which joins them by the same steps.
struct Params {
  // Chunks per token in this step's scratch (SPLIT only).
  chunks: u32,
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

var<workgroup> query: array<vec4<f32>, TEAM * QUADS>;
// Cache place of each key of the chunk, in units of one head row.
var<workgroup> places: array<u32, CHUNK>;
var<workgroup> scores: array<f32, TEAM * CHUNK>;
var<workgroup> slices: array<f32, TEAM * SUBLANES>;
var<workgroup> maximum: array<f32, TEAM>;
var<workgroup> total: array<f32, TEAM>;
var<workgroup> gathered: array<vec4<f32>, SLICES * TEAM * QUADS>;
var<workgroup> broken: u32;

//#if !KV_WORDS
// Head row units: 4 elements of f32 or 8 of f16.
fn keyQuads(place: u32, unit: u32) -> vec4<u32> {
  return keys[place * ROW_UNITS + unit];
}
//#end
fn notFinite(value: f32) -> bool {
  return (bitcast<u32>(value) & 0x7f800000u) == 0x7f800000u;
}
fn dotQuad(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let firstHead = group_id.x * TEAM;
  let kvHead = firstHead / HEADS_PER_KV;
  let token = group_id.y;
  let position = positions[token];
  let table = sequenceOfToken[token] * BLOCKS_PER_SEQUENCE;
//#if WINDOW
  let firstKey = select(0u, position + 1u - WINDOW, position + 1u > WINDOW);
//#else
  let firstKey = 0u;
//#end
  let firstChunk = firstKey / CHUNK;
  let lastChunk = position / CHUNK;

  for (var i = index; i < TEAM * QUADS; i += WORKGROUP) {
    var value = vec4<f32>(0.0f);
    let head = firstHead + i / QUADS;
    let d = 4u * (i % QUADS);
    let base = token * Q_STRIDE + head * HEAD_DIM + d;
//#repeat k 4
    if (d + {k}u < HEAD_DIM) {
      value[{k}] = q[base + {k}u] * SCALE;
    }
//#end
    query[i] = value;
  }
  if (index == 0u) {
    broken = 0u;
  }
  // This lane's slice of the values: QUADS neighbouring lanes cover a head row, SLICES of them take turns at the keys.
  let quad = index % QUADS;
  let slice = index / QUADS;
//#if SPLIT
  let chunkFrom = group_id.z + firstChunk;
  let chunkTo = chunkFrom;
  if (chunkFrom > lastChunk) {
    return;
  }
//#else
  let chunkFrom = firstChunk;
  let chunkTo = lastChunk;
//#repeat g TEAM
  var max_{g} = LOWEST;
  var sum_{g} = 0.0f;
  var mix_{g} = vec4<f32>(0.0f);
//#end
//#end
  for (var chunk = chunkFrom; chunk <= chunkTo; chunk++) {
    let origin = chunk * CHUNK;
    // 1. scores of this chunk's keys
    workgroupBarrier();
    for (var i = index; i < CHUNK; i += WORKGROUP) {
      let key = origin + i;
//#repeat g TEAM
      var score_{g} = LOWEST;
//#end
      if (key >= firstKey && key <= position) {
        let block = blockTable[table + key / BLOCK_SIZE];
        let place = (block * KV_HEADS + kvHead) * BLOCK_SIZE + key % BLOCK_SIZE;
        places[i] = place;
//#repeat g TEAM
        score_{g} = 0.0f;
//#end
//#if KV_WORDS
        for (var unit = 0u; unit < QUADS; unit++) {
          let four = keyQuad(place, unit);
//#repeat g TEAM
          score_{g} = dotQuad(query[{g}u * QUADS + unit], four, score_{g});
//#end
        }
        let scale = keyScale(place);
//#repeat g TEAM
        score_{g} *= scale;
//#end
//#else
        for (var unit = 0u; unit < ROW_UNITS; unit++) {
          let word = keyQuads(place, unit);
//#if KV_F16
          let low = vec4<f32>(unpack2x16float(word.x), unpack2x16float(word.y));
          let high = vec4<f32>(unpack2x16float(word.z), unpack2x16float(word.w));
//#repeat g TEAM
          score_{g} = dotQuad(query[{g}u * QUADS + 2u * unit], low, score_{g});
          score_{g} = dotQuad(query[{g}u * QUADS + 2u * unit + 1u], high, score_{g});
//#end
//#else
          let four = bitcast<vec4<f32>>(word);
//#repeat g TEAM
          score_{g} = dotQuad(query[{g}u * QUADS + unit], four, score_{g});
//#end
//#end
        }
//#end
//#repeat g TEAM
        if (notFinite(score_{g})) {
          broken = 1u;
        }
//#end
      }
//#repeat g TEAM
      scores[{g}u * CHUNK + i] = score_{g};
//#end
    }
    workgroupBarrier();
    // 2. per head: maximum, exponentials, sum; SUBLANES strided slices each, joined in order
    for (var i = index; i < TEAM * SUBLANES; i += WORKGROUP) {
      let base = (i / SUBLANES) * CHUNK;
      var best = LOWEST;
      for (var k = i % SUBLANES; k < CHUNK; k += SUBLANES) {
        best = max(best, scores[base + k]);
      }
      slices[i] = best;
    }
    workgroupBarrier();
    for (var i = index; i < TEAM; i += WORKGROUP) {
      var best = slices[i * SUBLANES];
      for (var k = 1u; k < SUBLANES; k++) {
        best = max(best, slices[i * SUBLANES + k]);
      }
      maximum[i] = best;
    }
    workgroupBarrier();
    for (var i = index; i < TEAM * SUBLANES; i += WORKGROUP) {
      let g = i / SUBLANES;
      var sum = 0.0f;
      for (var k = i % SUBLANES; k < CHUNK; k += SUBLANES) {
        let key = origin + k;
        var weight = 0.0f;
        if (key >= firstKey && key <= position) {
          weight = exp(scores[g * CHUNK + k] - maximum[g]);
        }
        scores[g * CHUNK + k] = weight;
        sum += weight;
      }
      slices[i] = sum;
    }
    workgroupBarrier();
    for (var i = index; i < TEAM; i += WORKGROUP) {
      var sum = slices[i * SUBLANES];
      for (var k = 1u; k < SUBLANES; k++) {
        sum += slices[i * SUBLANES + k];
      }
      total[i] = sum;
    }
    // 3. weighted values: slice s takes keys s, s + SLICES, …
    let lowest = max(origin, firstKey) - origin;
    let highest = min(origin + CHUNK - 1u, position) - origin;
    if (slice < SLICES) {
//#repeat g TEAM
      var value_{g} = vec4<f32>(0.0f);
//#end
      // Several keys' values are asked for together: one after the other each would wait for memory.
      for (var first = slice; first <= highest; first += SLICES * AHEAD) {
//#repeat t AHEAD
        let place_{t} = places[clamp(first + {t}u * SLICES, lowest, highest)];
//#if KV_WORDS
        let four_{t} = valueQuad(place_{t}, quad) * valueScale(place_{t});
//#else
//#if KV_F16
        let word_{t} = vals[place_{t} * ROW_UNITS + quad / 2u];
//#else
        let four_{t} = bitcast<vec4<f32>>(vals[place_{t} * ROW_UNITS + quad]);
//#end
//#end
//#end
//#repeat t AHEAD
        {
          let k = first + {t}u * SLICES;
          if (k >= lowest && k <= highest) {
//#if KV_F16
            let pair = select(word_{t}.xy, word_{t}.zw, (quad & 1u) == 1u);
            let four = vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
//#else
            let four = four_{t};
//#end
//#repeat g TEAM
            value_{g} = fma(vec4<f32>(scores[{g}u * CHUNK + k]), four, value_{g});
//#end
          }
        }
//#end
      }
//#repeat g TEAM
      gathered[(slice * TEAM + {g}u) * QUADS + quad] = value_{g};
//#end
    }
    workgroupBarrier();
//#if SPLIT
    // Scratch of one (token, chunk, head): QUADS·4 weighted values, maximum, sum, broken, one spare.
    for (var i = index; i < TEAM * QUADS; i += WORKGROUP) {
      var value = gathered[i];
      for (var s = 1u; s < SLICES; s++) {
        value += gathered[s * TEAM * QUADS + i];
      }
      let base = ((token * params.chunks + group_id.z) * HEADS + firstHead + i / QUADS) * (4u * QUADS + 4u);
      let d = 4u * (i % QUADS);
//#repeat k 4
      out[base + d + {k}u] = value[{k}];
//#end
      if (d == 0u) {
        out[base + 4u * QUADS] = maximum[i / QUADS];
        out[base + 4u * QUADS + 1u] = total[i / QUADS];
        out[base + 4u * QUADS + 2u] = f32(broken);
      }
    }
//#else
    if (slice == 0u) {
//#repeat g TEAM
      {
        var value = gathered[{g}u * QUADS + quad];
        for (var s = 1u; s < SLICES; s++) {
          value += gathered[(s * TEAM + {g}u) * QUADS + quad];
        }
        let best = max(max_{g}, maximum[{g}]);
        let old = exp(max_{g} - best);
        let fresh = exp(maximum[{g}] - best);
        sum_{g} = fma(sum_{g}, old, total[{g}] * fresh);
        mix_{g} = fma(mix_{g}, vec4<f32>(old), value * fresh);
        max_{g} = best;
      }
//#end
    }
//#end
  }
//#if !SPLIT
  if (slice == 0u) {
//#repeat g TEAM
    {
      var result = mix_{g} / sum_{g};
      if (broken != 0u) {
        var quietNan = 0x7fc00000u; // a constant NaN is a compile error
        result = vec4<f32>(bitcast<f32>(quietNan));
      }
      let base = token * OUT_STRIDE + (firstHead + {g}u) * HEAD_DIM + 4u * quad;
//#repeat k 4
      if (4u * quad + {k}u < HEAD_DIM) {
        out[base + {k}u] = result[{k}];
      }
//#end
    }
//#end
  }
//#end
}
