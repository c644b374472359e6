// Inside a kernel of 64 × 64 tiles, 256 invocations with 4 × 4 sums each: stages `a`, four inner columns of one left row, and `b`, of one right row, in
// `left` and `right`, and adds their 16 products to sum_0 … sum_3. Needs row, column, stagedRow and stagedQuad of the invocation.
    workgroupBarrier();
    for (var c = 0u; c < 4u; c++) {
      left[(stagedQuad * 4u + c) * 64u + stagedRow] = a[c];
      right[(stagedQuad * 4u + c) * 64u + stagedRow] = b[c];
    }
    workgroupBarrier();
    for (var k = 0u; k < 16u; k++) {
      let l = k * 64u + row * 4u;
      let r = k * 64u + column * 4u;
      let b = vec4<f32>(right[r], right[r + 1u], right[r + 2u], right[r + 3u]);
//#repeat r 4
      sum_{r} = fma(vec4<f32>(left[l + {r}u]), b, sum_{r});
//#end
    }
