// One unit of ROWS rows against COLUMNS inputs: adds to acc_r_c. Wants weight_r, row_r (global), unit (index of the unit in the row),
// source_c and loadX(source_c, quad); quad counts from firstQuad. The order of every operation is fixed: it is the same for any COLUMNS.
//#if PACKED
//#if GROUP_UNIT
      let group = unit * UNIT_ELEMENTS / GROUP_SIZE;
//#repeat r ROWS
      let gain_{r} = gainOf(row_{r}, group);
      let center_{r} = centerOf(row_{r}, group);
//#end
//#repeat c COLUMNS
      var sum_{c} = 0.0f;
//#repeat r ROWS
      var part_{r}_{c} = 0.0f;
//#end
//#end
//#repeat j QUADS
//#repeat c COLUMNS
      let x_{j}_{c} = loadX(source_{c}, firstQuad + {j}u);
      sum_{c} += sumQuad(x_{j}_{c});
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
      acc_{r}_{c} = fma(gain_{r}, fma(-center_{r}, sum_{c}, part_{r}_{c}), acc_{r}_{c});
//#end
//#end
//#end
//#if GROUP_QUAD
//#repeat j QUADS
      {
        let group = (unit * UNIT_ELEMENTS + 4u * {j}u) / GROUP_SIZE;
        if (group < GROUPS) {
//#repeat c COLUMNS
          let x_{c} = loadX(source_{c}, firstQuad + {j}u);
          let sum_{c} = sumQuad(x_{c});
//#end
//#repeat r ROWS
          let w_{r} = rawQuad{j}(weight_{r});
          let gain_{r} = gainOf(row_{r}, group);
          let center_{r} = centerOf(row_{r}, group);
//#repeat c COLUMNS
          acc_{r}_{c} = fma(gain_{r}, fma(-center_{r}, sum_{c}, dotQuad(w_{r}, x_{c}, 0.0f)), acc_{r}_{c});
//#end
//#end
        }
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
