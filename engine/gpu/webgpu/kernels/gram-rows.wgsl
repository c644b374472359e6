// sums += xᵀ·x without shared memory: each invocation owns 4 rows × COLUMN_QUADS quads of columns of the lower triangle and reads x directly.
//#include gram-bindings

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.y * 4u;
  let firstQuad = id.x * COLUMN_QUADS;
  if (firstQuad * 4u > step.firstRow + row + 3u) {
    return;
  }
  let rowQuad = (step.firstRow + row) / 4u;
//#repeat q COLUMN_QUADS
  let quad_{q} = min(firstQuad + {q}u, step.quads - 1u);
//#repeat r 4
  var sum_{r}_{q} = vec4<f32>(0.0f);
//#end
//#end
  for (var token = 0u; token < step.tokens; token++) {
    let base = token * step.quads;
    let a = x[base + rowQuad];
//#repeat q COLUMN_QUADS
    let b_{q} = x[base + quad_{q}];
    sum_0_{q} = fma(vec4<f32>(a.x), b_{q}, sum_0_{q});
    sum_1_{q} = fma(vec4<f32>(a.y), b_{q}, sum_1_{q});
    sum_2_{q} = fma(vec4<f32>(a.z), b_{q}, sum_2_{q});
    sum_3_{q} = fma(vec4<f32>(a.w), b_{q}, sum_3_{q});
//#end
  }
//#repeat q COLUMN_QUADS
//#repeat r 4
  add(row + {r}u, (firstQuad + {q}u) * 4u, sum_{r}_{q});
//#end
//#end
}
