// One unit of ROWS rows against COLUMNS inputs: adds to acc_r_c. Wants weight_r, row_r (global), unit (index of the unit in the row),
// source_c, loadX(source_c, quad) with quads counted from firstQuad, and early_s_r, the gain of span s in row r. The order of every operation is fixed: it is the same for any COLUMNS.
//#if PACKED
//#if SPANS
//#repeat s SPANS
      {
//#if CENTERED
        let group = groupOf(unit, {s*SPAN_QUADS*4}u);
//#end
//#repeat r ROWS
        let gain_{r} = early_{s}_{r};
//#if CENTERED
        let center_{r} = centerOf(row_{r}, group);
//#end
//#end
//#repeat c COLUMNS
//#if CENTERED
        var sum_{c} = 0.0f;
//#end
//#repeat r ROWS
        var part_{r}_{c} = 0.0f;
//#end
//#end
//#repeat j SPAN_QUADS
//#repeat c COLUMNS
        let x_{j}_{c} = loadX(source_{c}, firstQuad + {s*SPAN_QUADS+j}u);
//#if CENTERED
        sum_{c} += sumQuad(x_{j}_{c});
//#end
//#end
//#repeat r ROWS
        let w_{j}_{r} = rawQuad{s*SPAN_QUADS+j}(weight_{r});
//#repeat c COLUMNS
        part_{r}_{c} = dotQuad(w_{j}_{r}, x_{j}_{c}, part_{r}_{c});
//#end
//#end
//#end
//#repeat r ROWS
//#repeat c COLUMNS
//#if CENTERED
        acc_{r}_{c} = fma(gain_{r}, fma(-center_{r}, sum_{c}, part_{r}_{c}), acc_{r}_{c});
//#else
        acc_{r}_{c} = fma(gain_{r}, part_{r}_{c}, acc_{r}_{c});
//#end
//#end
//#end
      }
//#end
//#end
//#if GROUP_SINGLE
//#repeat j QUADS
      {
        let element = unit * UNIT_ELEMENTS + 4u * {j}u;
        let group = min(vec4<u32>(element, element + 1u, element + 2u, element + 3u) / vec4<u32>(GROUP_SIZE), vec4<u32>(GROUPS - 1u));
//#repeat c COLUMNS
        let x_{c} = loadX(source_{c}, firstQuad + {j}u);
//#end
//#repeat r ROWS
        let raw_{r} = rawQuad{j}(weight_{r});
        let w_{r} = vec4<f32>(
          gainOf(row_{r}, group.x) * (raw_{r}.x - centerOf(row_{r}, group.x)),
          gainOf(row_{r}, group.y) * (raw_{r}.y - centerOf(row_{r}, group.y)),
          gainOf(row_{r}, group.z) * (raw_{r}.z - centerOf(row_{r}, group.z)),
          gainOf(row_{r}, group.w) * (raw_{r}.w - centerOf(row_{r}, group.w)),
        );
//#repeat c COLUMNS
        acc_{r}_{c} = dotQuad(w_{r}, x_{c}, acc_{r}_{c});
//#end
//#end
      }
//#end
//#end
//#else
//#repeat c COLUMNS
//#repeat r ROWS
      var part_{r}_{c} = 0.0f;
//#end
//#end
//#repeat j QUADS
//#repeat c COLUMNS
      let x_{j}_{c} = loadX(source_{c}, firstQuad + {j}u);
//#end
//#repeat r ROWS
      let w_{j}_{r} = rawQuad{j}(weight_{r});
//#repeat c COLUMNS
      part_{r}_{c} = dotQuad(w_{j}_{r}, x_{j}_{c}, part_{r}_{c});
//#end
//#end
//#end
//#repeat r ROWS
//#repeat c COLUMNS
      acc_{r}_{c} += part_{r}_{c};
//#end
//#end
//#end
