// matrix-units.wgsl without matrix units: the same fragments from the same places, each lane keeping sums of its own. Slow, for checking all that
// surrounds them on adapters that have none.
alias Left = u32;
alias Right = u32;
const LANE_SUMS: u32 = UNIT_M * UNIT_N / SUBGROUP_LANES;
alias Sums = array<f32, LANE_SUMS>;
var<private> lane: u32;
fn loadLeft(place: u32) -> Left {
  return place;
}
fn loadRight(place: u32) -> Right {
  return place;
}
//#if DIRECT
fn loadLeftDirect(place: u32) -> Left {
  return place;
}
//#end
fn leftPair(place: u32, row: u32, pair: u32) -> vec2<f32> {
//#if DIRECT
  return unpack2x16float(x[place + row * X_PLACES + pair / 4u][pair % 4u]);
//#else
  return unpack2x16float(stage[place + row * PITCH + pair / 4u][pair % 4u]);
//#end
}
fn multiplyAdd(left: Left, right: Right, sums: Sums) -> Sums {
  var out = sums;
  for (var i = 0u; i < LANE_SUMS; i++) {
    let m = (lane + i * SUBGROUP_LANES) / UNIT_N;
    let n = (lane + i * SUBGROUP_LANES) % UNIT_N;
    for (var pair = 0u; pair < UNIT_K / 2u; pair++) {
      let w = unpack2x16float(stage[right + n * PITCH + pair / 4u][pair % 4u]);
      out[i] += dot(leftPair(left, m, pair), w);
    }
  }
  return out;
}
fn storeSums(place: u32, sums: Sums) {
  for (var i = 0u; i < LANE_SUMS; i++) {
    let m = (lane + i * SUBGROUP_LANES) / UNIT_N;
    let n = (lane + i * SUBGROUP_LANES) % UNIT_N;
    stage[place + m * STRIP_PITCH + n / 4u][n % 4u] = bitcast<u32>(sums[i]);
  }
}
