// out = x · weightᵀ for adapters whose "threads" are SIMD lanes of a CPU: each invocation owns ROWS whole rows against COLUMNS inputs, so there
// is nothing to share and nothing to reduce. A granule is the fewest weights that fill whole words and whole quads of x; the loop over them is
// deliberately not unrolled, since a software driver compiles every load into dozens of instructions, seconds for an unrolled body. Sums are
// taken over chunks of granules, then added in order (a chunk never straddles scale groups). With SUBGROUP each lane loads one column's quad of x
// and all take it from there: a load costs a CPU far more than the arithmetic on what it brought, and is dear to compile.
//#if SPARSE
alias Stored = vec2<u32>;
//#if BF16
//#repeat j 2
fn granuleQuad{j}(w: SparseUnit) -> vec4<f32> {
  let pair = w.values[{j}];
  return spread(bitcast<f32>(pair << 16u), bitcast<f32>(pair & 0xffff0000u), w.places >> {4*j}u, 0.0f);
}
//#end
//#end
//#if F16
//#repeat j 2
fn granuleQuad{j}(w: SparseUnit) -> vec4<f32> {
  let pair = unpack2x16float(w.values[{j}]);
  return spread(pair.x, pair.y, w.places >> {4*j}u, 0.0f);
}
//#end
//#end
//#if INT8
//#repeat j 4
fn granuleQuad{j}(w: SparseUnit) -> vec4<f32> {
  let pair = vec2<u32>(w.values[{j/2}] >> {j%2*16}u, w.values[{j/2}] >> {j%2*16+8}u) & vec2<u32>(0xffu);
  let raw = bitcast<vec2<f32>>((pair << vec2<u32>(15u)) | vec2<u32>(0x3f800000u));
  return spread(raw.x, raw.y, w.places >> {4*j}u, 1.5f);
}
//#end
//#end
//#if INT4
//#repeat j 8
fn granuleQuad{j}(w: SparseUnit) -> vec4<f32> {
  let pair = vec2<u32>(w.values[{j/4}] >> {j%4*8}u, w.values[{j/4}] >> {j%4*8+4}u) & vec2<u32>(0xfu);
  let raw = bitcast<vec2<f32>>((pair << vec2<u32>(19u)) | vec2<u32>(0x3f800000u));
  return spread(raw.x, raw.y, w.places >> {4*j}u, 1.5f);
}
//#end
//#end
//#else
//#if INT4
alias Stored = u32;
fn granuleQuad0(w: Stored) -> vec4<f32> {
  return bitcast<vec4<f32>>((vec4<u32>(w << 19u, w << 15u, w << 11u, w << 7u) & vec4<u32>(0x00780000u)) | vec4<u32>(0x3f800000u));
}
fn granuleQuad1(w: Stored) -> vec4<f32> {
  return bitcast<vec4<f32>>((vec4<u32>(w << 3u, w >> 1u, w >> 5u, w >> 9u) & vec4<u32>(0x00780000u)) | vec4<u32>(0x3f800000u));
}
//#end
//#if INT8
alias Stored = u32;
fn granuleQuad0(w: Stored) -> vec4<f32> {
  return bitcast<vec4<f32>>((vec4<u32>(w << 15u, w << 7u, w >> 1u, w >> 9u) & vec4<u32>(0x007f8000u)) | vec4<u32>(0x3f800000u));
}
//#end
//#if BF16
alias Stored = vec2<u32>;
fn granuleQuad0(w: Stored) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}
//#end
//#if F16
alias Stored = vec2<u32>;
fn granuleQuad0(w: Stored) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
}
//#end
//#if F32
alias Stored = vec4<u32>;
fn granuleQuad0(w: Stored) -> vec4<f32> {
  return bitcast<vec4<f32>>(w);
}
//#end
//#end
//#if INT_ANY
alias Stored = u32;
fn granuleQuad0(w: Stored) -> vec4<f32> {
  return unitFloats(vec4<u32>(w, w >> BITS, w >> (2u * BITS), w >> (3u * BITS)) & vec4<u32>((1u << BITS) - 1u));
}
//#end
//#if E4M3
alias Stored = u32;
fn granuleQuad0(w: Stored) -> vec4<f32> {
  return eightBitFloats(w);
}
//#end
//#if E2M1
alias Stored = u32;
fn granuleQuad0(w: Stored) -> vec4<f32> {
  return fourBitFloats(w);
}
fn granuleQuad1(w: Stored) -> vec4<f32> {
  return fourBitFloats(w >> 16u);
}
//#end
//#include linear-bindings
//#include weight-scale

//#if SPARSE
fn granuleAt(row: u32, granule: u32) -> SparseUnit {
  return SparseUnit(values[row * params.granuleStride + granule], positionsOf(row, granule));
}
//#else
//#if INT_ANY
// Four codes are at most 28 bits, from one word or two.
fn granuleAt(row: u32, granule: u32) -> Stored {
  let start = row * (params.granuleStride * BITS / 8u);
  let bit = granule * 4u * BITS;
  let shift = bit & 31u;
  return (values[start + (bit >> 5u)] >> shift) | ((values[start + ((bit + 4u * BITS - 1u) >> 5u)] << (31u - shift)) << 1u);
}
//#else
fn granuleAt(row: u32, granule: u32) -> Stored {
  return values[row * params.granuleStride + granule];
}
//#end
//#end

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group_id: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
//#if SUBGROUP
  @builtin(subgroup_invocation_id) member: u32,
//#end
) {
  let firstRow = (group_id.x * WORKGROUP + lane) * ROWS;
  let firstColumn = group_id.y * COLUMNS;
//#repeat r ROWS
  let shardRow_{r} = rowOf(firstRow, {r}u);
  let row_{r} = params.firstRow + shardRow_{r};
//#end
//#if SUBGROUP
//#repeat l COLUMN_LOADS
  let source_{l} = min(firstColumn + {l*SUBGROUP}u + member, params.columns - 1u) * params.xQuads;
//#end
//#else
//#repeat c COLUMNS
  let source_{c} = min(firstColumn + {c}u, params.columns - 1u) * params.xQuads;
//#end
//#end
//#repeat c COLUMNS
//#repeat r ROWS
  var acc_{r}_{c} = 0.0f;
//#end
//#end
  var granule = 0u;
  while (granule < params.granules) {
    let first = granule;
//#if SUBGROUP
//#repeat l COLUMN_LOADS
    var memberSum_{l} = 0.0f;
//#end
//#end
//#repeat c COLUMNS
//#if !SUBGROUP
    var sum_{c} = 0.0f;
//#end
//#repeat r ROWS
    var part_{r}_{c} = 0.0f;
//#end
//#end
    let end = min(granule + params.chunk, params.granules);
    for (; granule < end; granule++) {
//#repeat r ROWS
      let weight_{r} = granuleAt(shardRow_{r}, granule);
//#end
//#repeat q GRANULE_QUADS
      {
//#if GROUP_SINGLE
        let element = (granule * GRANULE_QUADS + {q}u) * 4u;
        let group = min(vec4<u32>(element, element + 1u, element + 2u, element + 3u) / vec4<u32>(params.groupSize), vec4<u32>(params.groups - 1u));
//#end
//#repeat r ROWS
        let raw_{r} = granuleQuad{q}(weight_{r});
//#if GROUP_SINGLE
        let w_{r} = vec4<f32>(
          gainOf(row_{r}, group.x) * (raw_{r}.x - centerOf(row_{r}, group.x)),
          gainOf(row_{r}, group.y) * (raw_{r}.y - centerOf(row_{r}, group.y)),
          gainOf(row_{r}, group.z) * (raw_{r}.z - centerOf(row_{r}, group.z)),
          gainOf(row_{r}, group.w) * (raw_{r}.w - centerOf(row_{r}, group.w)),
        );
//#else
        let w_{r} = raw_{r};
//#end
//#end
//#if SUBGROUP
//#repeat l COLUMN_LOADS
        let four_{l} = inputQuad(source_{l}, granule * GRANULE_QUADS + {q}u);
//#if CENTERED
        memberSum_{l} += sumQuad(four_{l});
//#end
//#end
//#end
//#repeat c COLUMNS
//#if SUBGROUP
        let x_{c} = vec4<f32>(
          subgroupBroadcast(four_{c/SUBGROUP}.x, {c%SUBGROUP}u),
          subgroupBroadcast(four_{c/SUBGROUP}.y, {c%SUBGROUP}u),
          subgroupBroadcast(four_{c/SUBGROUP}.z, {c%SUBGROUP}u),
          subgroupBroadcast(four_{c/SUBGROUP}.w, {c%SUBGROUP}u),
        );
//#else
        let x_{c} = inputQuad(source_{c}, granule * GRANULE_QUADS + {q}u);
//#if CENTERED
        sum_{c} += sumQuad(x_{c});
//#end
//#end
//#repeat r ROWS
        part_{r}_{c} = dotQuad(w_{r}, x_{c}, part_{r}_{c});
//#end
//#end
      }
//#end
    }
//#if SCALED
    let group = first * GRANULE_QUADS * 4u / params.groupSize;
//#repeat r ROWS
    let gain_{r} = gainOf(row_{r}, group);
//#if CENTERED
    let center_{r} = centerOf(row_{r}, group);
//#end
//#repeat c COLUMNS
//#if CENTERED
//#if SUBGROUP
    acc_{r}_{c} = fma(gain_{r}, fma(-center_{r}, subgroupBroadcast(memberSum_{c/SUBGROUP}, {c%SUBGROUP}u), part_{r}_{c}), acc_{r}_{c});
//#else
    acc_{r}_{c} = fma(gain_{r}, fma(-center_{r}, sum_{c}, part_{r}_{c}), acc_{r}_{c});
//#end
//#else
    acc_{r}_{c} = fma(gain_{r}, part_{r}_{c}, acc_{r}_{c});
//#end
//#end
//#end
//#else
//#repeat r ROWS
//#repeat c COLUMNS
    acc_{r}_{c} += part_{r}_{c};
//#end
//#end
//#end
  }
  // A loop over the tile: a store is as dear to compile as a load. Mesa turns indexed arrays of fewer than 32 elements into branches.
  var tile: array<f32, max(32u, ROWS * COLUMNS)>;
//#repeat r ROWS
//#repeat c COLUMNS
  tile[{r}u * COLUMNS + {c}u] = acc_{r}_{c};
//#end
//#end
  for (var i = 0u; i < params.tile; i++) {
    let column = firstColumn + i % COLUMNS;
//#if GATED
    let row = firstRow / 2u + i / COLUMNS;
    if (row < params.rows / 2u && column < params.columns) {
      storeGated(row, column, tile[i], tile[i + HALF_ROWS * COLUMNS]);
    }
//#else
    let row = firstRow + i / COLUMNS;
    if (row < params.rows && column < params.columns) {
      store(row, column, tile[i]);
    }
//#end
  }
}
