// The `count` greatest of `chunk` candidates of a row, greatest first, lowest id on ties, by repeatedly taking the best one below the last. At the
// first level candidates are logits; at the next ones the pairs that the level before left. One workgroup per (chunk, row).
struct Params {
  count: u32,
  // Candidates of a row at this level, and their stride.
  candidates: u32,
  stride: u32,
  // Pairs between rows of the output.
  outStride: u32,
  // Candidates per workgroup.
  chunk: u32,
  vocabulary: u32,
}
var<immediate> params: Params;
//#if PAIRS
@group(0) @binding(0) var<storage, read> source: array<vec2<u32>>;
//#else
@group(0) @binding(0) var<storage, read> source: array<f32>;
//#end
// (value bits, id); id NONE where there are fewer candidates than asked for. FINAL: (id, log-probability bits).
@group(0) @binding(1) var<storage, read_write> out: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> rowFacts: array<vec4<f32>>;
const NONE: u32 = 0xffffffffu;
var<workgroup> bestOf: array<f32, WORKGROUP>;
var<workgroup> bestId: array<u32, WORKGROUP>;

fn before(a: f32, idA: u32, b: f32, idB: u32) -> bool {
  return idA != NONE && (idB == NONE || a > b || (a == b && idA < idB));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let row = group_id.y;
  let start = group_id.x * params.chunk;
  let end = min(start + params.chunk, params.candidates);
  var lastValue = 0.0f;
  var lastId = NONE;
  for (var n = 0u; n < params.count; n++) {
    var value = 0.0f;
    var id = NONE;
    for (var i = start + index; i < end; i += WORKGROUP) {
//#if PAIRS
      let pair = source[row * params.stride + i];
      let candidate = bitcast<f32>(pair.x);
      let candidateId = pair.y;
//#else
      let candidate = source[row * params.stride + i];
      let candidateId = i;
//#end
      if ((n == 0u || before(lastValue, lastId, candidate, candidateId)) && before(candidate, candidateId, value, id)) {
        value = candidate;
        id = candidateId;
      }
    }
    bestOf[index] = value;
    bestId[index] = id;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
      if (index < half && before(bestOf[index + half], bestId[index + half], bestOf[index], bestId[index])) {
        bestOf[index] = bestOf[index + half];
        bestId[index] = bestId[index + half];
      }
      workgroupBarrier();
    }
    lastValue = bestOf[0];
    lastId = bestId[0];
    if (index == 0u) {
      let place = row * params.outStride + group_id.x * params.count + n;
//#if FINAL
      out[place] = vec2<u32>(min(lastId, params.vocabulary - 1u), bitcast<u32>(lastValue - rowFacts[row].y));
//#else
      out[place] = vec2<u32>(bitcast<u32>(lastValue), lastId);
//#end
    }
    workgroupBarrier();
  }
}
